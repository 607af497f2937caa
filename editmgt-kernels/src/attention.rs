//! Tiled attention with an online softmax (Milakov and Gimelshein, arXiv 1805.02867), as in
//! FlashAttention (Dao et al., arXiv 2205.14135): the score matrix is never stored as a whole.

use std::sync::Arc;

use burn::tensor::{DType, Device, Int, Tensor, TensorData, module};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers::{self, Buffer};
use crate::gradient;
use crate::host::{HostTensor, Rows, on_host};
use crate::lanes::{dispatch, exp};
use crate::narrow_attention::NarrowKeyValues;
use crate::operands::Operands;
use crate::padded::{attend_padded, pad_channels};
use crate::tile::{COLUMNS, ROWS, RightStep, ZEROS, add_product, pack, pack_transposed};

/// Keys of a tile: with the queries and sums of a task, their keys and values fit in the L2 cache.
const KEY_BLOCK: usize = 32 * ROWS;
/// Queries of a task.
const QUERY_BLOCK: usize = 12 * COLUMNS;

/// Keys and values, packed for any number of queries.
#[derive(Debug, Clone)]
pub struct KeyValues {
    parts: Parts,
    weights: Option<KeyWeights>,
}

/// Weights of keys inside the softmax: a weight γ is a bias log γ on a key's scores.
#[derive(Debug, Clone)]
pub struct KeyWeights {
    host: Arc<[f32]>,
    /// `[S]`, f32.
    device: Tensor<1>,
}

impl KeyWeights {
    /// Weights above 0 and at most 1: the same on the host and, `[S]` in f32, on a device, where the
    /// caller put them together with other data.
    ///
    /// # Panics
    /// If the numbers of weights differ.
    pub fn new(host: Vec<f32>, device: Tensor<1>) -> Self {
        assert_eq!([host.len()], device.dims(), "the device must have all weights");
        Self { host: host.into(), device }
    }

    /// [`new`](Self::new) with an upload of its own.
    pub fn on(weights: Vec<f32>, device: &Device) -> Self {
        let data = TensorData::new(weights.clone(), [weights.len()]);
        Self::new(weights, Tensor::from_data(data, (device, DType::F32)))
    }

    /// The weights on the host.
    pub fn values(&self) -> &[f32] {
        &self.host
    }
}

/// Where [`KeyValues::replace`] puts rows.
#[derive(Debug, Clone)]
pub struct KeyPlaces {
    /// `[B, R]`.
    host: Vec<usize>,
    /// [`KeyPlaces::sources`] on a device, `[B, S]`.
    sources: Tensor<2, Int>,
}

impl KeyPlaces {
    /// `places` are `[B, R]` row-major, each below S and those of an item different from each other;
    /// `sources` are those of [`sources`](Self::sources), `[B, S]`, on the device of the keys.
    ///
    /// # Panics
    /// If the number of places is not a multiple of B.
    pub fn new(places: Vec<usize>, sources: Tensor<2, Int>) -> Self {
        let [batch, _] = sources.dims();
        assert!(places.len().is_multiple_of(batch.max(1)), "places must be those of {batch} items");
        Self { host: places, sources }
    }

    /// [`new`](Self::new) with an upload of its own, for a batch with `keys` keys.
    pub fn on(places: Vec<usize>, batch: usize, keys: usize, device: &Device) -> Self {
        let sources = Self::sources(&places, batch, keys);
        let sources: Vec<i32> = sources.into_iter().map(|row| row as i32).collect();
        let sources = Tensor::from_data(TensorData::new(sources, [batch, keys]), device);
        Self::new(places, sources)
    }

    /// For each key of each item, `[B, S]`, its row among the item's old keys followed by its new
    /// ones.
    ///
    /// # Panics
    /// If the number of places is not a multiple of `batch`, or a place is not below `keys`.
    pub fn sources(places: &[usize], batch: usize, keys: usize) -> Vec<usize> {
        assert!(places.len().is_multiple_of(batch.max(1)), "places must be those of {batch} items");
        let count = places.len() / batch.max(1);
        let of_item = |item: usize| {
            let mut sources: Vec<usize> = (0..keys).collect();
            for (row, &place) in places[item * count..][..count].iter().enumerate() {
                sources[place] = keys + row;
            }
            sources
        };
        (0..batch).flat_map(of_item).collect()
    }
}

#[derive(Debug, Clone)]
enum Parts {
    Packed(Arc<PackedKeyValues>),
    Narrow(Arc<NarrowKeyValues>),
    Tensors(Box<Tensors>),
}

#[derive(Debug, Clone)]
struct Tensors {
    key: Tensor<4>,
    value: Tensor<4>,
    /// The result of [`weighted`], with [`pad_channels`] in f16.
    weighted: Option<Tensor<4>>,
}

impl KeyValues {
    /// Within [`Operands::Bf16`] they are rounded to bf16 where a kernel runs on a processor with
    /// instructions for bf16; then [`attention`] rounds queries and exponentials, too.
    ///
    /// # Shapes
    /// - `key`: `[B, heads, S, d]`
    /// - `value`: `[B, heads, S, c]`
    ///
    /// # Panics
    /// If batch, heads or S differ.
    pub fn new(key: Tensor<4>, value: Tensor<4>) -> Self {
        let ([batch, heads, keys, _], value_dims) = (key.dims(), value.dims());
        assert_eq!([batch, heads, keys], value_dims[..3], "there must be a value for each key");
        let usable = |x: &Tensor<4>| on_host(x) && x.shape().num_elements() > 0;
        let parts = if usable(&key) && usable(&value) {
            let narrow = match Operands::current() {
                Operands::Exact => None,
                Operands::Bf16 => NarrowKeyValues::new(&key, &value),
            };
            match narrow {
                Some(narrow) => Parts::Narrow(Arc::new(narrow)),
                None => Parts::Packed(Arc::new(PackedKeyValues::new(key, value))),
            }
        } else {
            Parts::Tensors(Box::new(Tensors { key, value, weighted: None }))
        };
        Self { parts, weights: None }
    }

    /// The dtype that queries must have: that of the keys.
    pub fn dtype(&self) -> DType {
        match &self.parts {
            Parts::Packed(_) | Parts::Narrow(_) => DType::F32,
            Parts::Tensors(tensors) => tensors.key.dtype(),
        }
    }

    /// The same keys with weights inside the softmax.
    ///
    /// # Panics
    /// If the number of weights is not S.
    pub fn with_weights(&self, weights: &KeyWeights) -> Self {
        let mut parts = self.parts.clone();
        let keys = match &parts {
            Parts::Packed(packed) => packed.keys,
            Parts::Narrow(narrow) => narrow.keys(),
            Parts::Tensors(tensors) => tensors.key.dims()[2],
        };
        assert_eq!(weights.host.len(), keys, "there must be a weight for each key");
        if let Parts::Tensors(tensors) = &mut parts {
            tensors.weighted = Some(weighted(&tensors.value, weights));
        }
        Self { parts, weights: Some(weights.clone()) }
    }

    /// Replaces keys and values at these places; weights stay. In place where no clone shares them.
    ///
    /// # Shapes
    /// - `places`: `[B, R]`
    /// - `key`: `[B, heads, R, d]`
    /// - `value`: `[B, heads, R, c]`
    ///
    /// # Panics
    /// If shapes, dtype or device differ from these, or a place is not below S.
    pub fn replace(&mut self, places: &KeyPlaces, key: Tensor<4>, value: Tensor<4>) {
        let ([batch, _, rows, _], value_dims) = (key.dims(), value.dims());
        assert_eq!(key.dims()[..3], value_dims[..3], "there must be a value for each key");
        assert_eq!(places.host.len(), batch * rows, "there must be a place for each key");
        match &mut self.parts {
            Parts::Packed(packed) => Arc::make_mut(packed).replace(&places.host, key, value),
            Parts::Narrow(narrow) => Arc::make_mut(narrow).replace(&places.host, key, value),
            Parts::Tensors(tensors) => {
                tensors.key = replaced(&tensors.key, places, key);
                tensors.value = replaced(&tensors.value, places, value);
                let weights = self.weights.as_ref();
                tensors.weighted = weights.map(|weights| weighted(&tensors.value, weights));
            }
        }
    }
}

/// `[B, heads, S, d]` with the rows `[B, heads, R, d]` at `places`.
fn replaced(all: &Tensor<4>, places: &KeyPlaces, rows: Tensor<4>) -> Tensor<4> {
    let [batch, _, tokens, _] = all.dims();
    assert_eq!(all.dims()[..2], rows.dims()[..2], "rows must have the batch and heads of the keys");
    assert_eq!(places.sources.dims(), [batch, tokens], "places must be those of these keys");
    // Selects from [old, new], which every backend supports without atomic writes.
    let items = (0..batch).map(|item| {
        let sources = places.sources.clone().narrow(0, item, 1).reshape([tokens]);
        let of_item = |x: &Tensor<4>| x.clone().narrow(0, item, 1);
        Tensor::cat(vec![of_item(all), of_item(&rows)], 2).select(2, sources)
    });
    Tensor::cat(items.collect(), 0)
}

/// The values times their keys' weights, with the weight as an additional channel.
///
/// A weighted softmax average is a quotient of two plain ones,
/// `Σ wⱼ pⱼ vⱼ / Σ wⱼ pⱼ` with `p = softmax(q kᵀ / √d)`. So attention needs no bias for every pair
/// of tokens, which would be megabytes to read per head, and backends can use their fused kernels,
/// which support neither mask nor bias. No subtraction is involved, so the quotient is as exact as
/// its parts.
///
/// In f16 weights are rounded, the same in both parts of the quotient.
fn weighted(values: &Tensor<4>, weights: &KeyWeights) -> Tensor<4> {
    let ([batch, heads, keys, _], dtype) = (values.dims(), values.dtype());
    let ones = Tensor::ones([batch, heads, keys, 1], (&values.device(), dtype));
    let factors = weights.device.clone().cast(dtype).reshape([1, 1, keys, 1]);
    let values = Tensor::cat(vec![values.clone(), ones], 3) * factors;
    if dtype == DType::F16 { pad_channels(values) } else { values }
}

/// `softmax(q kᵀ / √d) v` with weighted keys.
///
/// # Shapes
/// - `query`: `[B, heads, N, d]`
/// - result: `[B, N, heads * c]`, f32 for queries in f16
///
/// # Panics
/// If batch, heads, channels, dtype or device of queries and keys differ.
pub fn attention(query: Tensor<4>, keys: &KeyValues) -> Tensor<3> {
    let [batch, heads, tokens, _] = query.dims();
    let weights = keys.weights.as_ref().map(KeyWeights::values);
    match &keys.parts {
        Parts::Packed(packed) => {
            let out = packed.attend(query, weights);
            out.into_tensor([batch, tokens, heads * packed.value_channels])
        }
        Parts::Narrow(narrow) => {
            let out = narrow.attend(query, weights);
            out.into_tensor([batch, tokens, heads * narrow.value_channels()])
        }
        Parts::Tensors(tensors) => {
            let attended = tensors.attend(query);
            let [.., channels] = attended.dims();
            attended.swap_dims(1, 2).reshape([batch, tokens, heads * channels])
        }
    }
}

impl Tensors {
    /// `[B, heads, N, d]` to `[B, heads, N, c]`.
    fn attend(&self, query: Tensor<4>) -> Tensor<4> {
        if self.weighted.is_none()
            && let Some(attended) = gradient::attention(&query, &self.key, &self.value)
        {
            return attended;
        }
        let (key, value) = (self.key.clone(), self.weighted.as_ref().unwrap_or(&self.value));
        // Fused kernels support neither mask, bias nor explicit scale.
        let attended = if key.dtype() == DType::F16 {
            attend_padded(query, key, pad_channels(value.clone())).cast(DType::F32)
        } else {
            module::attention(query, key, value.clone(), None, None, Default::default())
        };
        let [.., channels] = self.value.dims();
        if self.weighted.is_none() {
            return attended.narrow(3, 0, channels);
        }
        attended.clone().narrow(3, 0, channels) / attended.narrow(3, channels, 1)
    }
}

/// Keys and values, packed as left operands of [`crate::tile`]: scores are computed transposed,
/// with a column for each query, so that the softmax of a query stays in one SIMD lane.
#[derive(Debug, Clone)]
struct PackedKeyValues {
    /// `[B * heads, key strips, d]` times [`crate::tile::LeftStep`].
    key: Buffer,
    /// `[B * heads, channel strips, S]` times [`crate::tile::LeftStep`].
    value: Buffer,
    /// Batch and heads.
    planes: [usize; 2],
    keys: usize,
    key_channels: usize,
    value_channels: usize,
}

impl PackedKeyValues {
    fn new(key: Tensor<4>, value: Tensor<4>) -> Self {
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

    /// See [`KeyValues::replace`].
    fn replace(&mut self, places: &[usize], key: Tensor<4>, value: Tensor<4>) {
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
    fn attend(&self, query: Tensor<4>, weights: Option<&[f32]>) -> HostTensor {
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

/// The result of attention, `[B, N, heads, c]`: `run` fills the rows of each task, up to `block` queries
/// of a head, which aren't adjacent in it.
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

    /// Replaces the scores of a tile by weighted exponentials relative to the largest score so far, and
    /// adds them to the denominator. `change` gets the index of each key and its exponentials, and may
    /// round them. Returns the factor by which the sums of earlier tiles have to be rescaled.
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

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::testing::{plain, random, worst};

    /// Several items and heads, with more than one tile of queries and of keys.
    #[test]
    fn weighted_attention_equals_attention_with_a_bias() {
        for [tokens, keys] in [[1, 1], [5, 700], [600, 40], [530, 1100]] {
            let (query, key) = (random([2, 3, tokens, 8], 1) * 3.0, random([2, 3, keys, 8], 2));
            let value = random([2, 3, keys, 8], 3);
            let weights: Vec<f32> = (0..keys)
                .map(|key| if key % 3 == 0 { 1.0 } else { 1e-9 + key as f32 / 2e3 })
                .collect();
            for weights in [None, Some(&weights[..])] {
                let bias = weights.map(|weights| {
                    let logs: Vec<f32> = weights.iter().map(|w| w.ln()).collect();
                    let logs = TensorData::new(logs, [1, 1, 1, keys]);
                    Tensor::<4>::from_data(logs, &Device::flex()).expand([2, 3, tokens, keys])
                });
                let expected = module::attention(
                    query.clone(),
                    key.clone(),
                    value.clone(),
                    None,
                    bias,
                    Default::default(),
                );
                let expected = expected.swap_dims(1, 2).reshape([2, tokens, 24]);
                let got = |query: Tensor<4>, key: Tensor<4>, value: Tensor<4>| {
                    let device = key.device();
                    let keys = KeyValues::new(key, value);
                    let weighted = weights.map(|weights| {
                        keys.with_weights(&KeyWeights::on(weights.to_vec(), &device))
                    });
                    attention(query, &weighted.unwrap_or(keys))
                };
                let kernel = got(query.clone(), key.clone(), value.clone());
                let composed =
                    got(plain(query.clone()), plain(key.clone()), plain(value.clone())).inner();
                // Averages of values up to 2.
                assert!(worst(kernel, expected.clone()) < 3e-6, "{tokens} {keys}");
                assert!(worst(composed, expected) < 5e-6, "{tokens} {keys}");
            }
        }
    }

    /// Rounding operands to bf16 before exact attention gives the same, but for the exponentials.
    #[test]
    fn bf16_attention_stays_near_that_of_rounded_operands() {
        let rounded = |x: Tensor<4>| x.cast(DType::BF16).cast(DType::F32);
        for [tokens, keys, channels, values] in
            [[1, 1, 8, 8], [5, 700, 7, 3], [600, 40, 128, 128], [230, 1100, 64, 33]]
        {
            let query = random([2, 3, tokens, channels], 1);
            let (key, value) = (random([2, 3, keys, channels], 2), random([2, 3, keys, values], 3));
            let weights: Vec<f32> = (1..=keys).map(|key| key as f32 / keys as f32).collect();
            for weights in [None, Some(&weights[..])] {
                let of = |query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>| {
                    let keys = KeyValues::new(key.clone(), value.clone());
                    let weighted = weights.map(|weights| {
                        keys.with_weights(&KeyWeights::on(weights.to_vec(), &Device::flex()))
                    });
                    attention(query.clone(), &weighted.unwrap_or(keys))
                };
                let got = Operands::Bf16.install(|| of(&query, &key, &value));
                // The kernel scales queries before it rounds them.
                let scale = (channels as f32).sqrt();
                let narrow = rounded(query.clone() / scale) * scale;
                let expected = of(&narrow, &rounded(key.clone()), &rounded(value.clone()));
                // An average of values up to 2 whose weights were rounded to 8 bits.
                let error = worst(got, expected);
                assert!(error < 8e-3, "{tokens} {keys} {channels} {values}: {error}");
            }
        }
    }

    #[test]
    fn bf16_attention_does_not_depend_on_other_queries() {
        let (query, key) = (random([1, 2, 300, 64], 1), random([1, 2, 500, 64], 2));
        let value = random([1, 2, 500, 64], 3);
        Operands::Bf16.install(|| {
            let keys = KeyValues::new(key, value);
            let all = attention(query.clone(), &keys);
            for (first, count) in [(0, 1), (17, 40), (100, 200)] {
                let some = attention(query.clone().narrow(2, first, count), &keys);
                assert_eq!(worst(some, all.clone().narrow(1, first, count)), 0.0);
            }
        });
    }

    #[test]
    fn replaced_keys_equal_new_keys() {
        replaces_keys();
        Operands::Bf16.install(replaces_keys);
    }

    fn replaces_keys() {
        let [batch, heads, keys, rows] = [2, 3, 31, 4];
        // Those of the second item in another order.
        let places = [0, 7, 13, 30, 29, 6, 5, 12];
        let stream = |seed| {
            (random([batch, heads, keys, 8], seed), random([batch, heads, keys, 5], seed + 1))
        };
        let ((old_key, old_value), (new_key, new_value)) = (stream(1), stream(3));
        let at = |x: &Tensor<4>, item: usize, place: usize| {
            x.clone().narrow(0, item, 1).narrow(2, place, 1)
        };
        let rows_of = |x: &Tensor<4>| {
            let items = (0..batch).map(|item| {
                let places = &places[item * rows..][..rows];
                Tensor::cat(places.iter().map(|&place| at(x, item, place)).collect(), 2)
            });
            Tensor::cat(items.collect(), 0)
        };
        let mixed = |old: &Tensor<4>, new: &Tensor<4>| {
            let items = (0..batch).map(|item| {
                let places = &places[item * rows..][..rows];
                let all = (0..keys)
                    .map(|place| at(if places.contains(&place) { new } else { old }, item, place));
                Tensor::cat(all.collect(), 2)
            });
            Tensor::cat(items.collect(), 0)
        };
        let query = random([batch, heads, 9, 8], 5);
        let weights: Vec<f32> = (1..=keys).map(|key| key as f32 / keys as f32).collect();
        let expected = KeyValues::new(mixed(&old_key, &new_key), mixed(&old_value, &new_value));
        let device = Device::flex();
        let on = |device: &Device| {
            let weights = KeyWeights::on(weights.clone(), device);
            (weights, KeyPlaces::on(places.to_vec(), batch, keys, device))
        };
        let (weights, host_places) = on(&device);
        let expected = attention(query.clone(), &expected.with_weights(&weights));

        let mut got = KeyValues::new(old_key.clone(), old_value.clone()).with_weights(&weights);
        let shared = got.clone();
        let before = attention(query.clone(), &shared);
        // Rows with any strides.
        let value = rows_of(&new_value).swap_dims(1, 2) + 0.0;
        got.replace(&host_places, rows_of(&new_key), value.swap_dims(1, 2));
        assert_eq!(worst(attention(query.clone(), &got), expected.clone()), 0.0);
        assert_eq!(worst(attention(query.clone(), &shared), before), 0.0, "clones stay");

        if Operands::current() == Operands::Bf16 {
            return;
        }
        let (new_key_rows, new_value_rows) = (rows_of(&new_key), rows_of(&new_value));
        let (weights, places) = on(&device.autodiff());
        let mut composed = KeyValues::new(plain(old_key), plain(old_value)).with_weights(&weights);
        let (new_key, new_value) = (plain(new_key_rows), plain(new_value_rows));
        composed.replace(&places, new_key, new_value);
        assert!(worst(attention(plain(query), &composed).inner(), expected) < 3e-6);
    }

    #[test]
    fn values_may_have_other_channels_than_keys() {
        let (query, key) = (random([1, 2, 9, 8], 1), random([1, 2, 30, 8], 2));
        let value = random([1, 2, 30, 5], 3);
        let weights: Vec<f32> = (1..=30).map(|key| key as f32 / 30.0).collect();
        let got = |query, key: Tensor<4>, value| {
            let weights = KeyWeights::on(weights.clone(), &key.device());
            attention(query, &KeyValues::new(key, value).with_weights(&weights))
        };
        let expected = got(plain(query.clone()), plain(key.clone()), plain(value.clone())).inner();
        let kernel = got(query, key, value);
        assert_eq!(kernel.dims(), [1, 9, 10]);
        assert!(worst(kernel, expected) < 3e-6);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let query = random([1, 1, 4, 8], 1) * 1e4;
        let key = random([1, 1, 600, 8], 2);
        let value = random([1, 1, 600, 8], 3);
        let got = attention(query, &KeyValues::new(key, value));
        assert!(got.is_finite().all().into_scalar::<bool>());
    }
}
