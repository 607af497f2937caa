//! Attention that never holds all its scores.

use burn::tensor::{Tensor, TensorData, module};
use rayon::prelude::*;

use crate::host::{Host, Matrix, on_host};
use crate::lanes::{exp, max, sum, vectorised};
use crate::work::for_rows;

/// Queries and keys of a tile. Its scores, 512 KiB, stay in cache between the two products; more queries
/// than keys, because each product lays out the keys.
const QUERIES: usize = 512;
const KEYS: usize = 256;

/// The values of all keys, `[B, heads, S, d]`, and how much each key counts.
#[derive(Debug, Clone)]
pub struct Values {
    values: Tensor<4>,
    weights: Option<Vec<f32>>,
    /// What [`weighted`] makes of both, where no kernel runs.
    composed: Option<Tensor<4>>,
}

impl Values {
    /// `weights[key]` multiplies the key's share before shares are made to sum to one: a weight γ is a
    /// bias log γ on the key's scores. None is 0 or negative, and none above 1.
    ///
    /// # Panics
    /// If there is not one weight for each key.
    pub fn new(values: Tensor<4>, weights: Option<&[f32]>) -> Self {
        let [_, _, keys, _] = values.dims();
        assert!(weights.is_none_or(|weights| weights.len() == keys), "one weight for each key");
        let composed = match weights {
            Some(weights) if !on_host(&values) => Some(weighted(&values, weights)),
            _ => None,
        };
        Self { values, weights: weights.map(<[f32]>::to_vec), composed }
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

/// `softmax(q kᵀ / √d) v` with weighted keys: queries `[B, heads, N, d]`, keys `[B, heads, S, d]`, to
/// `[B, N, heads * d]`.
pub fn attention(query: Tensor<4>, key: Tensor<4>, values: &Values) -> Tensor<3> {
    let [batch, heads, tokens, _] = query.dims();
    let [.., channels] = values.values.dims();
    let merged = [batch, tokens, heads * channels];
    let fused = on_host(&query) && on_host(&key) && on_host(&values.values);
    if fused && values.values.dims() == key.dims() {
        return kernel(query, key, values).into_tensor(merged);
    }
    let value = match (&values.composed, &values.weights) {
        (Some(composed), _) => composed.clone(),
        (None, Some(weights)) => weighted(&values.values, weights),
        (None, None) => values.values.clone(),
    };
    // Fused kernels want neither mask, bias nor explicit scale.
    let mut attended = module::attention(query, key, value, None, None, Default::default());
    if values.weights.is_some() {
        let weight = attended.clone().narrow(3, channels, 1);
        attended = attended.narrow(3, 0, channels) / weight;
    }
    attended.swap_dims(1, 2).reshape(merged)
}

/// The numbers of one call.
struct Call<'a> {
    query: Host,
    /// By [`transposed_tiles`].
    key: Host,
    value: Host,
    weights: Option<&'a [f32]>,
    tokens: usize,
    keys: usize,
    channels: usize,
}

fn kernel(query: Tensor<4>, key: Tensor<4>, values: &Values) -> Host {
    let [batch, heads, tokens, channels] = query.dims();
    let [key_batch, key_heads, keys, key_channels] = key.dims();
    assert_eq!(
        [key_batch, key_heads, key_channels],
        [batch, heads, channels],
        "keys of other items, heads or channels than the queries"
    );
    let call = Call {
        query: Host::take(query),
        key: transposed_tiles(Host::take(key).numbers(), keys, channels),
        value: Host::take(values.values.clone()),
        weights: values.weights.as_deref(),
        tokens,
        keys,
        channels,
    };

    // Each task fills its rows of one head, which lie apart in the result: `[B, N, heads, d]`.
    let mut out = vec![0.0; batch * tokens * heads * channels];
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for (item, of_item) in out.chunks_exact_mut((tokens * heads * channels).max(1)).enumerate() {
        for (tile, rows) in of_item.chunks_mut(QUERIES * heads * channels).enumerate() {
            let mut per_head: Vec<Vec<&mut [f32]>> = (0..heads).map(|_| Vec::new()).collect();
            for row in rows.chunks_exact_mut(heads * channels) {
                row.chunks_exact_mut(channels)
                    .zip(&mut per_head)
                    .for_each(|(x, head)| head.push(x));
            }
            let task =
                |(head, rows)| Task { plane: item * heads + head, first: tile * QUERIES, rows };
            tasks.extend(per_head.into_iter().enumerate().map(task));
        }
    }
    if batch * heads * tokens * keys * channels < 1 << 18 {
        // Threads would cost more than they save.
        tasks.into_iter().for_each(|task| call.run(task));
    } else {
        tasks.into_par_iter().for_each(|task| call.run(task));
    }
    Host::new(out)
}

/// Numbers between the rows of a tile of keys: rows a power of two apart would share a few places of
/// the cache.
const ROW: usize = KEYS + 16;

/// Keys `[…, S, d]` as tiles of up to [`KEYS`], `[…, tiles, d, ROW]`: the product lays out such rows
/// faster than it turns columns, and does so for every tile of queries.
fn transposed_tiles(key: &[f32], keys: usize, channels: usize) -> Host {
    let tiles = keys.div_ceil(KEYS);
    let planes = key.len() / (keys * channels).max(1);
    let mut out = vec![0.0; planes * tiles * channels * ROW];
    for_rows(&mut out, channels * ROW, |index, tile| {
        let (plane, first) = (index / tiles, index % tiles * KEYS);
        let count = KEYS.min(keys - first);
        let from = &key[(plane * keys + first) * channels..][..count * channels];
        for (channel, row) in tile.chunks_exact_mut(ROW).enumerate() {
            let column = from[channel..].iter().step_by(channels);
            row.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
        }
    });
    Host::new(out)
}

/// Some queries of one head of one item.
struct Task<'a> {
    /// Item and head.
    plane: usize,
    first: usize,
    /// The result of each query.
    rows: Vec<&'a mut [f32]>,
}

/// What is known of a query's result after some of the keys: the largest score, the sum of shares
/// relative to it, and (in [`Task::rows`]) the sum of values.
#[derive(Clone, Copy)]
struct Running {
    largest: f32,
    shares: f32,
}

impl Call<'_> {
    fn run(&self, mut task: Task<'_>) {
        let Self { keys, channels, .. } = *self;
        let rows = task.rows.len();
        let scale = 1.0 / (channels as f32).sqrt();
        let mut running = vec![Running { largest: f32::NEG_INFINITY, shares: 0.0 }; rows];
        let queries = Matrix {
            start: (task.plane * self.tokens + task.first) * channels,
            shape: [rows, channels],
            strides: [channels, 1],
        };
        for first in (0..keys).step_by(KEYS) {
            let count = KEYS.min(keys - first);
            let start = (task.plane * keys + first) * channels;
            let tile = task.plane * keys.div_ceil(KEYS) + first / KEYS;
            let transposed = Matrix {
                start: tile * channels * ROW,
                shape: [channels, count],
                strides: [ROW, 1],
            };
            let mut shares = self.query.product(queries, &self.key, transposed);
            let weights = self.weights.map(|weights| &weights[first..][..count]);
            let scores = shares.numbers_mut().expect("a fresh product is nobody else's");
            let shrink = soften(scores, count, scale, weights, &mut running);

            let own = Matrix { start: 0, shape: [rows, count], strides: [count, 1] };
            let values = Matrix { start, shape: [count, channels], strides: [channels, 1] };
            let attended = shares.product(own, &self.value, values);
            accumulate(&mut task.rows, attended.numbers(), &shrink);
        }
        let shares: Vec<f32> = running.iter().map(|running| 1.0 / running.shares).collect();
        vectorised(|| {
            for (row, share) in task.rows.iter_mut().zip(&shares) {
                row.iter_mut().for_each(|x| *x *= share);
            }
        });
    }
}

/// Turns the scores of a tile into shares relative to the largest score so far, and gives by how much
/// what was summed up before has to shrink.
#[inline(never)]
fn soften(
    scores: &mut [f32],
    keys: usize,
    scale: f32,
    weights: Option<&[f32]>,
    running: &mut [Running],
) -> Vec<f32> {
    vectorised(|| {
        let mut shrink = Vec::with_capacity(running.len());
        for (row, running) in scores.chunks_exact_mut(keys).zip(running) {
            let largest = running.largest.max(max(row) * scale);
            row.iter_mut().for_each(|x| *x = exp(*x * scale - largest));
            if let Some(weights) = weights {
                row.iter_mut().zip(weights).for_each(|(x, weight)| *x *= weight);
            }
            let factor = exp(running.largest - largest);
            *running = Running { largest, shares: running.shares * factor + sum(row, |x| x) };
            shrink.push(factor);
        }
        shrink
    })
}

#[inline(never)]
fn accumulate(rows: &mut [&mut [f32]], attended: &[f32], shrink: &[f32]) {
    vectorised(|| {
        for ((row, factor), new) in
            rows.iter_mut().zip(shrink).zip(attended.chunks_exact(attended.len() / shrink.len()))
        {
            row.iter_mut().zip(new).for_each(|(x, new)| *x = *x * factor + new);
        }
    });
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
                let got = |q, k, v| attention(q, k, &Values::new(v, weights));
                let kernel = got(query.clone(), key.clone(), value.clone());
                let composed =
                    got(plain(query.clone()), plain(key.clone()), plain(value.clone())).inner();
                // Averages of values up to 2.
                assert!(worst(kernel, expected.clone()) < 3e-6, "{tokens} {keys}");
                assert!(worst(composed, expected) < 5e-6, "{tokens} {keys}");
            }
        }
    }

    /// No kernel takes values of another width than keys; the weights still count.
    #[test]
    fn values_of_another_width() {
        let (query, key) = (random([1, 2, 9, 8], 1), random([1, 2, 30, 8], 2));
        let value = random([1, 2, 30, 5], 3);
        let weights: Vec<f32> = (1..=30).map(|key| key as f32 / 30.0).collect();
        let got =
            attention(query.clone(), key.clone(), &Values::new(value.clone(), Some(&weights)));
        let values = Values::new(plain(value), Some(&weights));
        let expected = attention(plain(query), plain(key), &values).inner();
        assert_eq!(got.dims(), [1, 9, 10]);
        assert!(worst(got, expected) < 3e-6);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let query = random([1, 1, 4, 8], 1) * 1e4;
        let key = random([1, 1, 600, 8], 2);
        let value = random([1, 1, 600, 8], 3);
        let got = attention(query, key, &Values::new(value, None));
        assert!(got.is_finite().all().into_scalar::<bool>());
    }
}
