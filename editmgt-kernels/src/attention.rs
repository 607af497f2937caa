//! Attention that never holds all its scores.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, module};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers::{self, Buffer};
use crate::host::{Host, on_host};
use crate::lanes::exp;
use crate::tile::{COLUMNS, ROWS, Right, ZEROS, add_product, dispatch, pack, pack_turned};

/// Keys of a tile, and queries of a task: such a tile's keys and values, and the task's queries with their
/// sums, lie in the second cache.
const KEYS: usize = 32 * ROWS;
const QUERIES: usize = 12 * COLUMNS;

/// Keys and values, made ready for all queries that will come.
#[derive(Debug, Clone)]
pub struct KeyValues {
    parts: Parts,
    /// How much each key counts.
    weights: Option<Vec<f32>>,
}

#[derive(Debug, Clone)]
enum Parts {
    Strips(Arc<Strips>),
    Tensors(Box<Tensors>),
}

#[derive(Debug, Clone)]
struct Tensors {
    key: Tensor<4>,
    value: Tensor<4>,
    /// What [`weighted`] makes of the values.
    weighted: Option<Tensor<4>>,
}

impl KeyValues {
    /// Keys `[B, heads, S, d]` and values `[B, heads, S, c]`.
    ///
    /// # Panics
    /// If there are other items, heads or numbers of keys than of values.
    pub fn new(key: Tensor<4>, value: Tensor<4>) -> Self {
        let ([batch, heads, keys, _], value_dims) = (key.dims(), value.dims());
        assert_eq!([batch, heads, keys], value_dims[..3], "a value for each key");
        let some = |x: &Tensor<4>| on_host(x) && x.shape().num_elements() > 0;
        let parts = if some(&key) && some(&value) {
            Parts::Strips(Arc::new(Strips::new(key, value)))
        } else {
            Parts::Tensors(Box::new(Tensors { key, value, weighted: None }))
        };
        Self { parts, weights: None }
    }

    /// The same, with `weights[key]` as a factor of the key's share before shares are made to sum to
    /// one: a weight γ is a bias log γ on the key's scores. None is 0 or negative, and none above 1.
    ///
    /// # Panics
    /// If there is not one weight for each key.
    pub fn with_weights(&self, weights: &[f32]) -> Self {
        let mut parts = self.parts.clone();
        let keys = match &parts {
            Parts::Strips(strips) => strips.keys,
            Parts::Tensors(tensors) => tensors.key.dims()[2],
        };
        assert_eq!(weights.len(), keys, "one weight for each key");
        if let Parts::Tensors(tensors) = &mut parts {
            tensors.weighted = Some(weighted(&tensors.value, weights));
        }
        Self { parts, weights: Some(weights.to_vec()) }
    }
}

/// Each value times its key's weight, with the weight itself as one more channel.
///
/// A weighted softmax average is a quotient of two plain ones,
/// `Σ wⱼ pⱼ vⱼ / Σ wⱼ pⱼ` with `p = softmax(q kᵀ / √d)`: so no bias for every pair of tokens is
/// needed, which would be megabytes to read per head, and attention stays free of masks and biases
/// (backends have fused kernels for that case only). No subtraction is involved, so the quotient is as
/// exact as the parts.
fn weighted(values: &Tensor<4>, weights: &[f32]) -> Tensor<4> {
    let [batch, heads, keys, _] = values.dims();
    let options = (&values.device(), values.dtype());
    let ones = Tensor::ones([batch, heads, keys, 1], options);
    let factors = TensorData::new(weights.to_vec(), [1, 1, keys, 1]);
    Tensor::cat(vec![values.clone(), ones], 3) * Tensor::from_data(factors, options)
}

/// `softmax(q kᵀ / √d) v` with weighted keys: queries `[B, heads, N, d]`, to `[B, N, heads * c]`.
///
/// # Panics
/// If the queries have other items, heads or channels than the keys, another type, or another device.
pub fn attention(query: Tensor<4>, keys: &KeyValues) -> Tensor<3> {
    let [batch, heads, tokens, _] = query.dims();
    let Tensors { key, value, weighted } = match &keys.parts {
        Parts::Strips(strips) => {
            let out = strips.attend(query, keys.weights.as_deref());
            return out.into_tensor([batch, tokens, heads * strips.value_channels]);
        }
        Parts::Tensors(tensors) => &**tensors,
    };
    let value = weighted.as_ref().unwrap_or(value);
    // Fused kernels want neither mask, bias nor explicit scale.
    let (key, value) = (key.clone(), value.clone());
    let mut attended = module::attention(query, key, value, None, None, Default::default());
    let [.., mut channels] = attended.dims();
    if weighted.is_some() {
        channels -= 1;
        let weight = attended.clone().narrow(3, channels, 1);
        attended = attended.narrow(3, 0, channels) / weight;
    }
    attended.swap_dims(1, 2).reshape([batch, tokens, heads * channels])
}

/// Keys and values as [`crate::tile`] wants them on the left: everything is computed turned over, with a
/// column for each query, so that all that softmax does to a query happens in its lane.
#[derive(Debug)]
struct Strips {
    /// `[B * heads, key strips, d]`, of [`crate::tile::Left`].
    key: Buffer,
    /// `[B * heads, channel strips, S]`, of [`crate::tile::Left`].
    value: Buffer,
    /// Items, heads.
    planes: [usize; 2],
    keys: usize,
    key_channels: usize,
    value_channels: usize,
}

impl Strips {
    fn new(key: Tensor<4>, value: Tensor<4>) -> Self {
        let ([batch, heads, keys, key_channels], [.., value_channels]) = (key.dims(), value.dims());
        let planes = batch * heads;
        let (from, of_plane) = (Host::take(key), keys.div_ceil(ROWS));
        let mut key = Buffer::new(planes * of_plane * key_channels * ROWS);
        let (strips, _) = key.as_chunks_mut::<ROWS>();
        strips.par_chunks_mut(key_channels).enumerate().for_each(|(index, strip)| {
            let (plane, first) = (index / of_plane, index % of_plane * ROWS);
            let from = &from.numbers()[(plane * keys + first) * key_channels..];
            pack_turned(strip, from.chunks_exact(key_channels).take(keys - first));
        });
        let (from, of_plane) = (Host::take(value), value_channels.div_ceil(ROWS));
        let mut value = Buffer::new(planes * of_plane * keys * ROWS);
        let (strips, _) = value.as_chunks_mut::<ROWS>();
        strips.par_chunks_mut(keys).enumerate().for_each(|(index, strip)| {
            let (plane, first) = (index / of_plane, index % of_plane * ROWS);
            let from = &from.numbers()[plane * keys * value_channels..];
            pack(strip, from.chunks_exact(value_channels).map(|row| &row[first..]));
        });
        Self { key, value, planes: [batch, heads], keys, key_channels, value_channels }
    }

    /// `[B, N, heads * c]`.
    fn attend(&self, query: Tensor<4>, weights: Option<&[f32]>) -> Host {
        assert!(on_host(&query), "queries of another type or device than the keys");
        let ([batch, heads, tokens, channels], width) = (query.dims(), self.value_channels);
        assert_eq!(
            ([batch, heads], channels),
            (self.planes, self.key_channels),
            "queries of other items, heads or channels than the keys"
        );
        let query = Host::take(query);
        // Each task fills its rows of one head, which lie apart in the result: `[B, N, heads, c]`.
        let mut out = buffers::take(batch * tokens * heads * width);
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for (item, of_item) in out.chunks_exact_mut((tokens * heads * width).max(1)).enumerate() {
            for (tile, rows) in of_item.chunks_mut(QUERIES * heads * width).enumerate() {
                let mut per_head: Vec<Vec<&mut [f32]>> = (0..heads).map(|_| Vec::new()).collect();
                for row in rows.chunks_exact_mut(heads * width) {
                    row.chunks_exact_mut(width)
                        .zip(&mut per_head)
                        .for_each(|(x, head)| head.push(x));
                }
                tasks.extend(per_head.into_iter().enumerate().map(|(head, rows)| {
                    let plane = item * heads + head;
                    let first = (plane * tokens + tile * QUERIES) * channels;
                    let queries = &query.numbers()[first..][..rows.len() * channels];
                    Task { strips: self, weights, plane, queries, rows }
                }));
            }
        }
        if batch * heads * tokens * self.keys * channels < 1 << 18 {
            // Threads would cost more than they save.
            tasks.into_iter().for_each(dispatch);
        } else {
            tasks.into_par_iter().for_each(dispatch);
        }
        Host::new(out)
    }
}

/// Some queries of one head of one item.
struct Task<'a> {
    strips: &'a Strips,
    weights: Option<&'a [f32]>,
    /// Item and head.
    plane: usize,
    /// `[queries, d]`.
    queries: &'a [f32],
    /// The result of each query.
    rows: Vec<&'a mut [f32]>,
}

/// A column for each of some queries, and what is known of their results after some of the keys.
struct Panel {
    /// Scaled, `[d]`.
    query: Vec<Right>,
    /// The largest score.
    largest: Right,
    /// The sum of shares relative to it.
    shares: Right,
    /// The sum of values by these shares, `[c]` and what a last strip has beyond.
    values: Vec<Right>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { strips, weights, plane, queries, mut rows } = self;
        let Strips { keys, key_channels, value_channels, .. } = *strips;
        let of_plane = |strips: usize, steps: usize| {
            let count = strips.div_ceil(ROWS) * steps;
            plane * count..(plane + 1) * count
        };
        let key = &strips.key.as_chunks::<ROWS>().0[of_plane(keys, key_channels)];
        let value = &strips.value.as_chunks::<ROWS>().0[of_plane(value_channels, keys)];

        let scale = 1.0 / (key_channels as f32).sqrt();
        let mut panels: Vec<Panel> = queries
            .chunks(COLUMNS * key_channels)
            .map(|queries| Panel::new(queries, key_channels, value_channels, scale))
            .collect();
        let mut scores = [[0.0; COLUMNS]; KEYS];
        for first in (0..keys).step_by(KEYS) {
            let scores = &mut scores[..KEYS.min(keys - first)];
            let weights = weights.map(|weights| &weights[first..][..scores.len()]);
            for panel in &mut panels {
                let strips = key[first / ROWS * key_channels..].chunks_exact(key_channels);
                for (scores, strip) in scores.chunks_mut(ROWS).zip(strips) {
                    let mut tile = ZEROS;
                    add_product(simd, strip, &panel.query, &mut tile);
                    scores.copy_from_slice(&tile[..scores.len()]);
                }
                let shrink = panel.soften(scores, weights);
                let tiles = panel.values.as_chunks_mut::<ROWS>().0.iter_mut();
                for (sums, strip) in tiles.zip(value.chunks_exact(keys)) {
                    for sums in &mut *sums {
                        sums.iter_mut().zip(&shrink).for_each(|(sum, shrink)| *sum *= shrink);
                    }
                    add_product(simd, &strip[first..][..scores.len()], scores, sums);
                }
            }
        }
        for (panel, rows) in panels.iter().zip(rows.chunks_mut(COLUMNS)) {
            for (column, row) in rows.iter_mut().enumerate() {
                let share = 1.0 / panel.shares[column];
                row.iter_mut().zip(&panel.values).for_each(|(to, sums)| *to = sums[column] * share);
            }
        }
    }
}

impl Panel {
    /// Of up to [`COLUMNS`] queries `[queries, d]`.
    #[inline(always)]
    fn new(queries: &[f32], key_channels: usize, value_channels: usize, scale: f32) -> Self {
        let mut query = vec![[0.0; COLUMNS]; key_channels];
        pack_turned(&mut query, queries.chunks_exact(key_channels));
        query.as_flattened_mut().iter_mut().for_each(|x| *x *= scale);
        Self {
            query,
            largest: [f32::NEG_INFINITY; COLUMNS],
            shares: [0.0; COLUMNS],
            values: vec![[0.0; COLUMNS]; value_channels.next_multiple_of(ROWS)],
        }
    }

    /// Turns the scores of a tile into shares relative to the largest score so far, and gives by how
    /// much what was summed up before has to shrink.
    #[inline(always)]
    fn soften(&mut self, scores: &mut [Right], weights: Option<&[f32]>) -> Right {
        let mut largest = self.largest;
        for row in scores.iter() {
            for (largest, &x) in largest.iter_mut().zip(row) {
                *largest = if x > *largest { x } else { *largest };
            }
        }
        let mut shrink = [0.0; COLUMNS];
        for (column, shrink) in shrink.iter_mut().enumerate() {
            *shrink = exp(self.largest[column] - largest[column]);
        }
        let mut shares = [0.0; COLUMNS];
        for (key, row) in scores.iter_mut().enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[key]);
            for column in 0..COLUMNS {
                let share = exp(row[column] - largest[column]) * weight;
                row[column] = share;
                shares[column] += share;
            }
        }
        for column in 0..COLUMNS {
            self.shares[column] = self.shares[column] * shrink[column] + shares[column];
        }
        self.largest = largest;
        shrink
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{plain, random, worst};

    /// More than a tile of queries and of keys, in several items and heads.
    #[test]
    fn the_kernel_is_attention_with_a_bias() {
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
                let got = |query, key, value| {
                    let keys = KeyValues::new(key, value);
                    let weighted = weights.map(|weights| keys.with_weights(weights));
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

    #[test]
    fn values_of_another_width() {
        let (query, key) = (random([1, 2, 9, 8], 1), random([1, 2, 30, 8], 2));
        let value = random([1, 2, 30, 5], 3);
        let weights: Vec<f32> = (1..=30).map(|key| key as f32 / 30.0).collect();
        let got = |query, key, value| {
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
