//! Attention whose operands are bf16: queries, keys, values and the exponentials of the scores.
//! Scores, softmax and sums are f32.
//!
//! The blocks are those of [`crate::packed_attention`]: scores are computed transposed, a column
//! for each query. The exponentials are rounded before they are added to the denominator, so that
//! the weights of the average add up to 1.

use std::ops::Range;

use burn::tensor::Tensor;
use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::buffers::{Buffer, Lines};
use crate::host::{HostTensor, Rows, on_host};
use crate::intrinsics::{COLUMNS, RightStep, STEPS, Sums};
use crate::lanes::dispatch;
use crate::narrow::{Kernel, Pairs, pair, steps_of};
use crate::number::bf16_bits;
use crate::packed_attention::{OnlineSoftmax, PackedKeyValues, QueryRows, query_tasks};

/// Keys of a block: a multiple of the rows of every tile and of the numbers of [`STEPS`] steps.
const KEY_BLOCK: usize = 768;
/// Queries of a task.
const QUERY_BLOCK: usize = 6 * COLUMNS;

/// Keys and values, rounded to bf16 and packed as left operands.
#[derive(Debug, Clone)]
pub(crate) struct NarrowKeyValues {
    kernel: Kernel,
    key: Packed,
    /// Its rows are channels.
    value: Packed,
    /// Batch and heads.
    planes: [usize; 2],
}

/// A left matrix for each item and head.
#[derive(Debug, Clone)]
struct Packed {
    strips: Buffer,
    rows: usize,
    /// Numbers along the summed dimension.
    depth: usize,
}

impl Packed {
    /// Packs `fill(plane, rows, to)`, which writes the numbers of some rows.
    fn new(
        kernel: Kernel,
        [planes, rows, depth]: [usize; 3],
        fill: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        let (of_strip, of_plane) = (kernel.rows(), rows.div_ceil(kernel.rows()));
        let strip_len = of_strip * steps_of(depth);
        let mut strips = Buffer::new(planes * of_plane * strip_len);
        let all = bytemuck::cast_slice_mut::<f32, u32>(&mut strips);
        let tasks = all.par_chunks_exact_mut(strip_len).enumerate();
        tasks.for_each_init(Vec::new, |lines, (index, strip)| {
            let (plane, first) = (index / of_plane, index % of_plane * of_strip);
            let range = first..rows.min(first + of_strip);
            lines.resize(range.len() * depth, 0.0);
            fill(plane, range, lines);
            kernel.pack(Pairs, lines, depth, strip);
        });
        Self { strips, rows, depth }
    }

    /// The strips of a plane, each of all its steps.
    fn strips(&self, kernel: Kernel, plane: usize) -> impl Iterator<Item = &[u32]> {
        let strip_len = kernel.rows() * steps_of(self.depth);
        let of_plane = self.rows.div_ceil(kernel.rows());
        let all = bytemuck::cast_slice::<f32, u32>(&self.strips);
        all.chunks_exact(strip_len).skip(plane * of_plane).take(of_plane)
    }

    /// Calls `change` with the numbers of each plane.
    fn change(&mut self, kernel: Kernel, change: impl Fn(usize, &mut Plane<'_>) + Sync) {
        let steps = steps_of(self.depth);
        let len = self.rows.div_ceil(kernel.rows()) * kernel.rows() * steps;
        let all = bytemuck::cast_slice_mut::<f32, u32>(&mut self.strips);
        all.par_chunks_exact_mut(len).enumerate().for_each(|(plane, strips)| {
            change(plane, &mut Plane { kernel, strips, steps });
        });
    }
}

/// The packed matrix of one item and head.
struct Plane<'a> {
    kernel: Kernel,
    strips: &'a mut [u32],
    steps: usize,
}

impl Plane<'_> {
    fn set(&mut self, row: usize, number: usize, x: f32) {
        let to = &mut self.strips[self.kernel.place(row, number / 2, self.steps)];
        let shift = number % 2 * 16;
        *to = *to & !(0xffff << shift) | u32::from(bf16_bits(x)) << shift;
    }
}

impl NarrowKeyValues {
    /// `None` if the processor has no instructions for bf16. Both tensors must be
    /// [`on_host`] and not empty.
    pub(crate) fn new(key: &Tensor<4>, value: &Tensor<4>) -> Option<Self> {
        let kernel = Kernel::detect()?;
        let ([batch, heads, keys, key_channels], [.., channels]) = (key.dims(), value.dims());
        let (key, value) = (Rows::take(key.clone()), Rows::take(value.clone()));
        let place = |plane: usize, key: usize| [plane / heads, plane % heads, key];
        let planes = batch * heads;
        Some(Self {
            kernel,
            key: Packed::new(kernel, [planes, keys, key_channels], |plane, rows, to| {
                for (row, to) in rows.zip(to.chunks_exact_mut(key_channels)) {
                    to.copy_from_slice(key.row(place(plane, row)));
                }
            }),
            value: Packed::new(kernel, [planes, channels, keys], |plane, channels, to| {
                for row in 0..keys {
                    let from = &value.row(place(plane, row))[channels.clone()];
                    from.iter().enumerate().for_each(|(line, &x)| to[line * keys + row] = x);
                }
            }),
            planes: [batch, heads],
        })
    }

    /// [`new`](Self::new) of keys and values that are packed already.
    pub(crate) fn of_packed(packed: &PackedKeyValues) -> Option<Self> {
        let kernel = Kernel::detect()?;
        let (planes @ [batch, heads], channels) = packed.sizes();
        let key = Packed::new(kernel, [batch * heads, packed.keys, channels], |plane, rows, to| {
            for (row, to) in rows.zip(to.chunks_exact_mut(channels)) {
                packed.read_key(plane, row, to);
            }
        });
        let sizes = [batch * heads, packed.value_channels, packed.keys];
        let value = Packed::new(kernel, sizes, |plane, channels, to| {
            for (channel, to) in channels.zip(to.chunks_exact_mut(packed.keys)) {
                packed.read_channel(plane, channel, to);
            }
        });
        Some(Self { kernel, key, value, planes })
    }

    pub(crate) fn keys(&self) -> usize {
        self.key.rows
    }

    pub(crate) fn value_channels(&self) -> usize {
        self.value.rows
    }

    /// See [`crate::KeyValues::replace`].
    pub(crate) fn replace(&mut self, places: &[usize], key: Tensor<4>, value: Tensor<4>) {
        assert!(
            on_host(&key) && on_host(&value),
            "rows must have the dtype and device of the keys"
        );
        let ([batch, heads], keys, [.., rows, _]) = (self.planes, self.keys(), key.dims());
        assert_eq!(
            (key.dims(), value.dims()),
            ([batch, heads, rows, self.key.depth], [batch, heads, rows, self.value.rows]),
            "rows must have the batch, heads and channels of the keys"
        );
        assert!(places.iter().all(|&place| place < keys), "places must be below {keys}");
        if rows == 0 {
            return;
        }
        let (key, value) = (Rows::take(key), Rows::take(value));
        let places_of = |plane: usize| places[plane / heads * rows..][..rows].iter().enumerate();
        let place_of = |plane: usize, row| [plane / heads, plane % heads, row];
        self.key.change(self.kernel, |plane, to| {
            for (row, &place) in places_of(plane) {
                let from = key.row(place_of(plane, row)).iter().enumerate();
                from.for_each(|(channel, &x)| to.set(place, channel, x));
            }
        });
        self.value.change(self.kernel, |plane, to| {
            for (row, &place) in places_of(plane) {
                let from = value.row(place_of(plane, row)).iter().enumerate();
                from.for_each(|(channel, &x)| to.set(channel, place, x));
            }
        });
    }

    /// Queries `[B, heads, N, d]` to `[B, N, heads * c]`.
    pub(crate) fn attend(&self, query: Tensor<4>, weights: Option<&[f32]>) -> HostTensor {
        assert!(on_host(&query), "queries must have the dtype and device of the keys");
        let [batch, heads, tokens, channels] = query.dims();
        assert_eq!(
            ([batch, heads], channels),
            (self.planes, self.key.depth),
            "queries must have the batch, heads and channels of the keys"
        );
        let query = HostTensor::take(query);
        let sizes = [batch, tokens, heads, self.value_channels()];
        query_tasks(sizes, QUERY_BLOCK, |tasks| {
            tasks.into_par_iter().for_each_init(Scratch::default, |scratch, task| {
                let QueryRows { plane, first, mut rows } = task;
                let first = (plane * tokens + first) * channels;
                let queries = &query.values()[first..][..rows.len() * channels];
                let queries = queries.chunks(COLUMNS * channels);
                for (queries, rows) in queries.zip(rows.chunks_mut(COLUMNS)) {
                    self.attend_panel(plane, queries, weights, scratch, rows);
                }
            });
        })
    }

    /// Up to [`COLUMNS`] queries, `[queries, d]`, to a row for each.
    fn attend_panel(
        &self,
        plane: usize,
        queries: &[f32],
        weights: Option<&[f32]>,
        Scratch { query, exponentials, scores, sums }: &mut Scratch,
        rows: &mut [&mut [f32]],
    ) {
        let (kernel, of_strip) = (self.kernel, self.kernel.rows());
        let (channels, keys) = (self.key.depth, self.keys());
        let scale = 1.0 / (channels as f32).sqrt();
        let (query, _) = query.take(steps_of(channels) * COLUMNS).as_chunks_mut();
        query.fill([0; COLUMNS]);
        dispatch(PackQueries { queries, channels, scale, to: query });
        let key: Vec<&[u32]> = self.key.strips(kernel, plane).collect();
        let value: Vec<&[u32]> = self.value.strips(kernel, plane).collect();
        let mut softmax = OnlineSoftmax::<COLUMNS>::new();
        let mut values = vec![[0.0; COLUMNS]; self.value_channels()];
        for first in (0..keys).step_by(KEY_BLOCK) {
            let count = KEY_BLOCK.min(keys - first);
            let block = &key[first / of_strip..][..count.div_ceil(of_strip)];
            let (scores, _) = scores.take(block.len() * of_strip * COLUMNS).as_chunks_mut();
            kernel.products(block, query, scores);
            let block_weights = weights.map(|weights| &weights[first..][..count]);
            let steps = steps_of(count);
            let depth = of_strip * first / 2..of_strip * (first / 2 + steps);
            let (exponentials, _) = exponentials.take(steps * COLUMNS).as_chunks_mut();
            exponentials[count / 2..].fill([0; COLUMNS]);
            let rescale = dispatch(Exponentials {
                softmax: &mut softmax,
                scores: &mut scores[..count],
                weights: block_weights,
                to: exponentials,
            });
            let block: Vec<&[u32]> = value.iter().map(|strip| &strip[depth.clone()]).collect();
            let (sums, _) = sums.take(block.len() * of_strip * COLUMNS).as_chunks_mut();
            kernel.products(&block, exponentials, sums);
            dispatch(Rescale { values: &mut values, rescale, sums });
        }
        for (column, row) in rows.iter_mut().enumerate() {
            let factor = 1.0 / softmax.denominator[column];
            row.iter_mut().zip(&values).for_each(|(to, sums)| *to = sums[column] * factor);
        }
    }
}

/// Packs up to [`COLUMNS`] queries, `[queries, d]`, times `scale`.
struct PackQueries<'a> {
    queries: &'a [f32],
    channels: usize,
    scale: f32,
    to: &'a mut [RightStep],
}

impl WithSimd for PackQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let scale = self.scale;
        for (column, query) in self.queries.chunks_exact(self.channels).enumerate() {
            let (pairs, odd) = query.as_chunks();
            for (step, [low, high]) in self.to.iter_mut().zip(pairs) {
                step[column] = pair(bf16_bits(low * scale), bf16_bits(high * scale));
            }
            if let [last] = odd {
                self.to[pairs.len()][column] = pair(bf16_bits(last * scale), 0);
            }
        }
    }
}

/// The exponentials of the scores of a block, packed; its result is the factor of
/// [`OnlineSoftmax::update`].
struct Exponentials<'a> {
    softmax: &'a mut OnlineSoftmax<COLUMNS>,
    scores: &'a mut [Sums<f32>],
    weights: Option<&'a [f32]>,
    to: &'a mut [RightStep],
}

impl WithSimd for Exponentials<'_> {
    type Output = Sums<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Sums<f32> {
        let Self { softmax, scores, weights, to } = self;
        softmax.update(scores, weights, |key, row| {
            let step = &mut to[key / 2];
            for (to, x) in step.iter_mut().zip(row) {
                let bits = rounded(*x);
                *to = if key.is_multiple_of(2) { bits >> 16 } else { *to | bits };
                *x = f32::from_bits(bits);
            }
        })
    }
}

/// The bits of the nearest bf16 of an exponential, as f32. It is positive, 0 or the NaN of an
/// operation, which needs no check to stay one.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000
}

/// Adds the sums of a block to the rescaled ones of those before it.
struct Rescale<'a> {
    values: &'a mut [Sums<f32>],
    rescale: Sums<f32>,
    sums: &'a [Sums<f32>],
}

impl WithSimd for Rescale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (values, sums) in self.values.iter_mut().zip(self.sums) {
            for column in 0..COLUMNS {
                values[column] = values[column] * self.rescale[column] + sums[column];
            }
        }
    }
}

/// Reused by the panels of a thread.
#[derive(Default)]
struct Scratch {
    query: Lines<u32>,
    exponentials: Lines<u32>,
    scores: Lines<f32>,
    sums: Lines<f32>,
}

const _: () = assert!(KEY_BLOCK.is_multiple_of(2 * STEPS));
