//! Tiled attention with an online softmax (Milakov and Gimelshein, arXiv 1805.02867), as in
//! FlashAttention (Dao et al., arXiv 2205.14135): the score matrix is never stored as a whole. Also
//! what attention in bf16 ([`crate::narrow_attention`]) has in common with it.

use burn::tensor::Tensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers::{self, Buffer};
use crate::host::{HostTensor, Rows, on_host};
use crate::lanes::{dispatch, exp};
use crate::tile::{COLUMNS, ROWS, RightStep, ZEROS, add_product, pack, pack_transposed};

/// Keys of a tile: with the queries and sums of a task, their keys and values fit in the L2 cache.
const KEY_BLOCK: usize = 32 * ROWS;
/// Queries of a task.
const QUERY_BLOCK: usize = 12 * COLUMNS;

/// Keys and values, packed as left operands of [`crate::tile`]: scores are computed transposed,
/// with a column for each query, so that the softmax of a query stays in one SIMD lane.
#[derive(Debug, Clone)]
pub(crate) struct PackedKeyValues {
    /// `[B * heads, key strips, d]` times [`crate::tile::LeftStep`].
    key: Buffer,
    /// `[B * heads, channel strips, S]` times [`crate::tile::LeftStep`].
    value: Buffer,
    /// Batch and heads.
    planes: [usize; 2],
    pub(crate) keys: usize,
    key_channels: usize,
    pub(crate) value_channels: usize,
}

impl PackedKeyValues {
    pub(crate) fn new(key: Tensor<4>, value: Tensor<4>) -> Self {
        let ([batch, heads, keys, key_channels], [.., value_channels]) = (key.dims(), value.dims());
        let planes = batch * heads;
        let (from, of_plane) = (HostTensor::take(key), keys.div_ceil(ROWS));
        let mut key = Buffer::new(planes * of_plane * key_channels * ROWS);
        let (strips, _) = key.as_chunks_mut::<ROWS>();
        strips.par_chunks_mut(key_channels).enumerate().for_each(|(index, strip)| {
            let (plane, first) = (index / of_plane, index % of_plane * ROWS);
            let from = &from.values()[(plane * keys + first) * key_channels..];
            pack_transposed(strip, from.chunks_exact(key_channels).take(keys - first));
        });
        let (from, of_plane) = (HostTensor::take(value), value_channels.div_ceil(ROWS));
        let mut value = Buffer::new(planes * of_plane * keys * ROWS);
        let (strips, _) = value.as_chunks_mut::<ROWS>();
        strips.par_chunks_mut(keys).enumerate().for_each(|(index, strip)| {
            let (plane, first) = (index / of_plane, index % of_plane * ROWS);
            let from = &from.values()[plane * keys * value_channels..];
            pack(strip, from.chunks_exact(value_channels).map(|row| &row[first..]));
        });
        Self { key, value, planes: [batch, heads], keys, key_channels, value_channels }
    }

    /// Batch and heads, and the channels of keys.
    pub(crate) fn sizes(&self) -> ([usize; 2], usize) {
        (self.planes, self.key_channels)
    }

    /// Writes the channels of a key of item and head `plane`.
    pub(crate) fn read_key(&self, plane: usize, key: usize, to: &mut [f32]) {
        let strip = plane * self.keys.div_ceil(ROWS) + key / ROWS;
        let (steps, _) = self.key.as_chunks::<ROWS>();
        let steps = &steps[strip * self.key_channels..][..self.key_channels];
        to.iter_mut().zip(steps).for_each(|(to, step)| *to = step[key % ROWS]);
    }

    /// Writes a channel of all values of item and head `plane`.
    pub(crate) fn read_channel(&self, plane: usize, channel: usize, to: &mut [f32]) {
        let strip = plane * self.value_channels.div_ceil(ROWS) + channel / ROWS;
        let (steps, _) = self.value.as_chunks::<ROWS>();
        let steps = &steps[strip * self.keys..][..self.keys];
        to.iter_mut().zip(steps).for_each(|(to, step)| *to = step[channel % ROWS]);
    }

    /// See [`crate::KeyValues::replace`].
    pub(crate) fn replace(&mut self, places: &[usize], key: Tensor<4>, value: Tensor<4>) {
        assert!(
            on_host(&key) && on_host(&value),
            "rows must have the dtype and device of the keys"
        );
        let [batch, heads] = self.planes;
        let (Self { keys, key_channels, value_channels, .. }, [.., rows, _]) = (&*self, key.dims());
        let (keys, key_channels, value_channels) = (*keys, *key_channels, *value_channels);
        assert_eq!(
            (key.dims(), value.dims()),
            ([batch, heads, rows, key_channels], [batch, heads, rows, value_channels]),
            "rows must have the batch, heads and channels of the keys"
        );
        assert!(places.iter().all(|&place| place < keys), "places must be below {keys}");
        if rows == 0 {
            return;
        }
        let (key, value) = (Rows::take(key), Rows::take(value));
        let places_of = |plane: usize| places[plane / heads * rows..][..rows].iter().enumerate();
        let (strips, _) = self.key.as_chunks_mut::<ROWS>();
        let of_plane = keys.div_ceil(ROWS) * key_channels;
        strips.par_chunks_exact_mut(of_plane).enumerate().for_each(|(plane, strips)| {
            for (row, &place) in places_of(plane) {
                let from = key.row([plane / heads, plane % heads, row]);
                let strip = &mut strips[place / ROWS * key_channels..][..key_channels];
                strip.iter_mut().zip(from).for_each(|(step, &x)| step[place % ROWS] = x);
            }
        });
        let (strips, _) = self.value.as_chunks_mut::<ROWS>();
        let of_plane = value_channels.div_ceil(ROWS) * keys;
        strips.par_chunks_exact_mut(of_plane).enumerate().for_each(|(plane, strips)| {
            for (row, &place) in places_of(plane) {
                let from = value.row([plane / heads, plane % heads, row]);
                for (strip, from) in strips.chunks_exact_mut(keys).zip(from.chunks(ROWS)) {
                    strip[place][..from.len()].copy_from_slice(from);
                }
            }
        });
    }

    /// Queries `[B, heads, N, d]` to `[B, N, heads * c]`.
    pub(crate) fn attend(&self, query: Tensor<4>, weights: Option<&[f32]>) -> HostTensor {
        assert!(on_host(&query), "queries must have the dtype and device of the keys");
        let ([batch, heads, tokens, channels], width) = (query.dims(), self.value_channels);
        assert_eq!(
            ([batch, heads], channels),
            (self.planes, self.key_channels),
            "queries must have the batch, heads and channels of the keys"
        );
        let query = HostTensor::take(query);
        query_tasks([batch, tokens, heads, width], QUERY_BLOCK, |tasks| {
            let task = |QueryRows { plane, first, rows }: QueryRows<'_>| {
                let first = (plane * tokens + first) * channels;
                let queries = &query.values()[first..][..rows.len() * channels];
                dispatch(QueryTask { keys: self, weights, plane, queries, rows });
            };
            if batch * heads * tokens * self.keys * channels < 1 << 18 {
                // Threads would cost more than they save.
                tasks.into_iter().for_each(task);
            } else {
                tasks.into_par_iter().for_each(task);
            }
        })
    }
}

/// The output rows of some queries of one head of one item.
pub(crate) struct QueryRows<'a> {
    /// Index of item and head.
    pub(crate) plane: usize,
    /// The first query.
    pub(crate) first: usize,
    /// The output row of each query.
    pub(crate) rows: Vec<&'a mut [f32]>,
}

/// The result of attention, `[B, N, heads, c]`: `run` fills the rows of each task, up to `block`
/// queries of a head, which aren't adjacent in it.
pub(crate) fn query_tasks(
    [batch, tokens, heads, width]: [usize; 4],
    block: usize,
    run: impl FnOnce(Vec<QueryRows<'_>>),
) -> HostTensor {
    let mut out = buffers::take(batch * tokens * heads * width);
    let mut tasks: Vec<QueryRows<'_>> = Vec::new();
    for (item, of_item) in out.chunks_exact_mut((tokens * heads * width).max(1)).enumerate() {
        for (tile, rows) in of_item.chunks_mut(block * heads * width).enumerate() {
            let mut per_head: Vec<Vec<&mut [f32]>> = (0..heads).map(|_| Vec::new()).collect();
            for row in rows.chunks_exact_mut(heads * width) {
                row.chunks_exact_mut(width).zip(&mut per_head).for_each(|(x, head)| head.push(x));
            }
            let first = tile * block;
            tasks.extend(per_head.into_iter().enumerate().map(|(head, rows)| QueryRows {
                plane: item * heads + head,
                first,
                rows,
            }));
        }
    }
    run(tasks);
    HostTensor::new(out)
}

/// Up to [`QUERY_BLOCK`] queries of one head of one item.
struct QueryTask<'a> {
    keys: &'a PackedKeyValues,
    weights: Option<&'a [f32]>,
    /// Index of item and head.
    plane: usize,
    /// `[queries, d]`.
    queries: &'a [f32],
    /// The output row of each query.
    rows: Vec<&'a mut [f32]>,
}

/// Up to [`COLUMNS`] queries, one in each column, and the state of their online softmax.
struct Panel {
    /// The scaled queries, `[d]`.
    query: Vec<RightStep>,
    softmax: OnlineSoftmax<COLUMNS>,
    /// The values summed with the same factors, `[c]`, padded to a multiple of [`ROWS`].
    values: Vec<RightStep>,
}

/// The state of `N` softmaxes over scores that come in blocks.
pub(crate) struct OnlineSoftmax<const N: usize> {
    /// The largest score so far, `m`.
    largest: [f32; N],
    /// The sum of weighted exponentials relative to it, `Σ wⱼ exp(sⱼ - m)`.
    pub(crate) denominator: [f32; N],
}

impl WithSimd for QueryTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { keys: packed, weights, plane, queries, mut rows } = self;
        let PackedKeyValues { keys, key_channels, value_channels, .. } = *packed;
        let of_plane = |strips: usize, steps: usize| {
            let count = strips.div_ceil(ROWS) * steps;
            plane * count..(plane + 1) * count
        };
        let key = &packed.key.as_chunks::<ROWS>().0[of_plane(keys, key_channels)];
        let value = &packed.value.as_chunks::<ROWS>().0[of_plane(value_channels, keys)];

        let scale = 1.0 / (key_channels as f32).sqrt();
        let mut panels: Vec<Panel> = queries
            .chunks(COLUMNS * key_channels)
            .map(|queries| Panel::new(queries, key_channels, value_channels, scale))
            .collect();
        let mut scores = [[0.0; COLUMNS]; KEY_BLOCK];
        for first in (0..keys).step_by(KEY_BLOCK) {
            let scores = &mut scores[..KEY_BLOCK.min(keys - first)];
            let weights = weights.map(|weights| &weights[first..][..scores.len()]);
            for panel in &mut panels {
                let strips = key[first / ROWS * key_channels..].chunks_exact(key_channels);
                for (scores, strip) in scores.chunks_mut(ROWS).zip(strips) {
                    let mut tile = ZEROS;
                    add_product(simd, strip, &panel.query, &mut tile);
                    scores.copy_from_slice(&tile[..scores.len()]);
                }
                let rescale = panel.softmax.update(scores, weights, |_, _| {});
                let tiles = panel.values.as_chunks_mut::<ROWS>().0.iter_mut();
                for (sums, strip) in tiles.zip(value.chunks_exact(keys)) {
                    for sums in &mut *sums {
                        sums.iter_mut().zip(&rescale).for_each(|(sum, factor)| *sum *= factor);
                    }
                    add_product(simd, &strip[first..][..scores.len()], scores, sums);
                }
            }
        }
        for (panel, rows) in panels.iter().zip(rows.chunks_mut(COLUMNS)) {
            for (column, row) in rows.iter_mut().enumerate() {
                let factor = 1.0 / panel.softmax.denominator[column];
                row.iter_mut()
                    .zip(&panel.values)
                    .for_each(|(to, sums)| *to = sums[column] * factor);
            }
        }
    }
}

impl Panel {
    /// Packs up to [`COLUMNS`] queries, `[queries, d]`.
    #[inline(always)]
    fn new(queries: &[f32], key_channels: usize, value_channels: usize, scale: f32) -> Self {
        let mut query = vec![[0.0; COLUMNS]; key_channels];
        pack_transposed(&mut query, queries.chunks_exact(key_channels));
        query.as_flattened_mut().iter_mut().for_each(|x| *x *= scale);
        Self {
            query,
            softmax: OnlineSoftmax::new(),
            values: vec![[0.0; COLUMNS]; value_channels.next_multiple_of(ROWS)],
        }
    }
}

impl<const N: usize> OnlineSoftmax<N> {
    pub(crate) fn new() -> Self {
        Self { largest: [f32::NEG_INFINITY; N], denominator: [0.0; N] }
    }

    /// Replaces the scores of a tile by weighted exponentials relative to the largest score so far,
    /// and adds them to the denominator. `change` gets the index of each key and its exponentials,
    /// and may round them. Returns the factor by which the sums of earlier tiles have to be
    /// rescaled.
    #[inline(always)]
    pub(crate) fn update(
        &mut self,
        scores: &mut [[f32; N]],
        weights: Option<&[f32]>,
        mut change: impl FnMut(usize, &mut [f32; N]),
    ) -> [f32; N] {
        let mut largest = self.largest;
        for row in scores.iter() {
            for (largest, &x) in largest.iter_mut().zip(row) {
                *largest = if x > *largest { x } else { *largest };
            }
        }
        let mut rescale = [0.0; N];
        for (column, factor) in rescale.iter_mut().enumerate() {
            *factor = exp(self.largest[column] - largest[column]);
        }
        let mut sums = [0.0; N];
        for (key, row) in scores.iter_mut().enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[key]);
            for (x, largest) in row.iter_mut().zip(&largest) {
                *x = exp(*x - largest) * weight;
            }
            change(key, row);
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += *x;
            }
        }
        for column in 0..N {
            self.denominator[column] = self.denominator[column] * rescale[column] + sums[column];
        }
        self.largest = largest;
        rescale
    }
}
