//! Attention in the layout of burn's fused GPU kernel.
//!
//! burn-cubecl 0.22.1 computes attention in one kernel, without storing scores, only where all of
//! these hold. Elsewhere it silently takes a composition of operations in the dtype of its
//! operands.
//!
//! | condition | in the source of |
//! |---|---|
//! | feature `autotune` of burn | burn-cubecl `kernel/attention/base.rs`, `AttentionStrategy::default` |
//! | no bias, soft cap or scale; a mask is slower | burn-cubecl `ops/module.rs`, `attention` |
//! | matrix instructions for f16 with sums in f32 | burn-cubecl `kernel/attention/tune.rs` |
//! | queries in f16 | cubek-attention 0.3.1 `components/tile/attention.rs`, `validate_blackbox` |
//! | a multiple of 128 queries (32 or 64 for some variants) | cubek-attention `forward/routines/blackbox_accelerated.rs`, `validate` |
//! | channels a multiple of 16 | the same; of values it is not checked, and the channels above the last multiple stay unwritten |
//! | fewer than 4 keys for a query, and fewer than 4 queries for a key | cubek-matmul `multi_level/instruction.rs`, `find_instruction_size`: others get tiles of 8 or 32 rows, whose second product has no instruction |
//! | more queries than channels | burn-cubecl `kernel/attention/tune.rs`: with fewer the composition competes |
//!
//! The kernel sums in f32 and rounds the exponentials and its result to f16.

use burn::backend::{Backend, DTypeUsage, Dispatch};
use burn::tensor::{DType, Device, Tensor, module};

use crate::host::on_flex;

/// Eight planes of tiles with 16 rows, the largest variant of the kernel.
const QUERY_STEP: usize = 128;
/// Channels of a tile.
const CHANNEL_STEP: usize = 16;
/// From this ratio of keys to queries on, tiles have another shape.
const LARGEST_RATIO: usize = 4;
/// The largest bf16 that f16 can hold: its own largest, 65504, would be rounded up.
const LARGEST: f32 = 65280.0;

/// The dtype in which [`KeyValues`](crate::KeyValues) of a model with activations in `dtype` should
/// be: f16 where a fused kernel computes their attention, f32 elsewhere.
///
/// `keys` is the number of keys, `channels` that of each.
pub fn attention_dtype(dtype: DType, device: &Device, keys: usize, channels: usize) -> DType {
    let half = matches!(dtype, DType::F16 | DType::BF16);
    if half && fits(keys, channels) && fuses(device) { DType::F16 } else { DType::F32 }
}

/// Casts an operand of attention; a bf16 value beyond the range of f16 becomes the largest within
/// it.
pub fn attention_operand(x: Tensor<4>, dtype: DType) -> Tensor<4> {
    match (x.dtype(), dtype) {
        (DType::BF16, DType::F16) => x.clamp(-LARGEST, LARGEST).cast(dtype),
        _ => x.cast(dtype),
    }
}

/// `softmax(q kᵀ / √d) v`, computed in the layout of the fused kernel and cut to the shape of the
/// result: the same operations on any backend.
///
/// # Shapes
/// - `query`: `[B, heads, N, d]`
/// - `key`: `[B, heads, S, d]`
/// - `value`: `[B, heads, S, c]`
/// - result: `[B, heads, N, c]`
pub fn padded_attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let [.., channels] = value.dims();
    attend_padded(query, key, pad_channels(value)).narrow(3, 0, channels)
}

/// [`padded_attention`] to values of [`pad_channels`], with their channels.
pub(crate) fn attend_padded(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let ([.., queries, channels], [.., keys, _]) = (query.dims(), key.dims());
    let query = pad(query, 2, padded_queries(queries, keys, channels));
    module::attention(query, key, value, None, None, Default::default()).narrow(2, 0, queries)
}

/// Adds channels of zeros up to the next multiple of a tile.
pub(crate) fn pad_channels(value: Tensor<4>) -> Tensor<4> {
    let [.., channels] = value.dims();
    pad(value, 3, channels.next_multiple_of(CHANNEL_STEP))
}

fn pad(x: Tensor<4>, axis: usize, size: usize) -> Tensor<4> {
    let mut shape = x.dims();
    if shape[axis] >= size {
        return x;
    }
    shape[axis] = size - shape[axis];
    let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
    Tensor::cat(vec![x, zeros], axis)
}

/// The least number of rows with which the kernel takes these queries.
fn padded_queries(queries: usize, keys: usize, channels: usize) -> usize {
    queries.max(keys / LARGEST_RATIO + 1).max(channels + 1).next_multiple_of(QUERY_STEP)
}

/// Whether the kernel takes some number of queries of these keys.
fn fits(keys: usize, channels: usize) -> bool {
    let queries = padded_queries(1, keys, channels);
    channels.is_multiple_of(CHANNEL_STEP) && queries < LARGEST_RATIO * keys
}

/// Whether this build has fused kernels for the device.
fn fuses(device: &Device) -> bool {
    cfg!(feature = "autotune")
        && !on_flex(device)
        && !device.is_autodiff()
        && Dispatch::dtype_usage(device.as_dispatch(), DType::F16).contains(DTypeUsage::Accelerated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, worst};
    use crate::{KeyValues, KeyWeights, attention};

    /// `softmax(q kᵀ / √d) v` with weighted keys, in f64: `[B, N, heads * c]`.
    fn expected(
        query: &Tensor<4>,
        key: &Tensor<4>,
        value: &Tensor<4>,
        weights: &[f32],
    ) -> Tensor<3> {
        let host = |x: &Tensor<4>| -> Vec<f64> {
            let values = x.clone().cast(DType::F32).try_into_vec_as::<f32>().unwrap();
            values.into_iter().map(f64::from).collect()
        };
        let ([batch, heads, queries, channels], [.., keys, width]) = (query.dims(), value.dims());
        let (query, key, value) = (host(query), host(key), host(value));
        let mut out = vec![0.0f32; batch * queries * heads * width];
        for plane in 0..batch * heads {
            for row in 0..queries {
                let q = &query[(plane * queries + row) * channels..][..channels];
                let score = |at: usize| {
                    let k = &key[(plane * keys + at) * channels..][..channels];
                    q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (channels as f64).sqrt()
                };
                let scores: Vec<f64> = (0..keys).map(score).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let parts = scores.iter().zip(weights);
                let parts: Vec<f64> =
                    parts.map(|(x, &weight)| (x - largest).exp() * f64::from(weight)).collect();
                let sum: f64 = parts.iter().sum();
                for channel in 0..width {
                    let of_key = |at: usize| value[(plane * keys + at) * width + channel];
                    let average = parts.iter().enumerate().map(|(at, part)| part * of_key(at));
                    let place = ((plane / heads * queries + row) * heads + plane % heads) * width;
                    out[place + channel] = (average.sum::<f64>() / sum) as f32;
                }
            }
        }
        let data = burn::tensor::TensorData::new(out, [batch, queries, heads * width]);
        Tensor::from_data(data, &Device::flex())
    }

    /// The shapes of the official model at head sizes of 16 and 128, with numbers of queries that
    /// are and are not a multiple of 128, and few queries for many keys.
    #[test]
    fn padded_layout_equals_exact_attention() {
        for [queries, keys, channels, values] in
            [[1, 7, 16, 16], [77, 300, 128, 129], [128, 70, 128, 144], [40, 700, 16, 33]]
        {
            let query = random([2, 3, queries, channels], 1);
            let (key, value) = (random([2, 3, keys, channels], 2), random([2, 3, keys, values], 3));
            // Rounding to f16: exponentials, and a result of up to 2.
            for (dtype, tolerance) in [(DType::F32, 3e-6), (DType::F16, 2e-3)] {
                let [query, key, value] =
                    [&query, &key, &value].map(|x| attention_operand(x.clone(), dtype));
                let got = padded_attention(query.clone(), key.clone(), value.clone());
                assert_eq!(got.dims(), [2, 3, queries, values]);
                assert_eq!(got.dtype(), dtype);
                let got = got.cast(DType::F32).swap_dims(1, 2).reshape([2, queries, 3 * values]);
                let expected = expected(&query, &key, &value, &vec![1.0; keys]);
                let error = worst(got, expected);
                assert!(error < tolerance, "{queries} {keys} {channels} {values}: {error}");
            }
        }
    }

    #[test]
    fn weighted_keys_in_f16_follow_f64() {
        let [queries, keys, channels] = [77, 300, 128];
        let narrow = |x: Tensor<4>| attention_operand(x, DType::F16);
        let query = narrow(random([1, 2, queries, channels], 1));
        let key = narrow(random([1, 2, keys, channels], 2));
        let value = narrow(random([1, 2, keys, channels], 3));
        for strength in [1.1f32, 0.004, 250.0] {
            let weights = |key: usize| (if key < 200 { 1.0 } else { strength }) / strength.max(1.0);
            let weights: Vec<f32> = (0..keys).map(weights).collect();
            let keys = KeyValues::new(key.clone(), value.clone());
            let keys = keys.with_weights(&KeyWeights::on(weights.clone(), &Device::flex()));
            assert_eq!(keys.dtype(), DType::F16);
            let got = attention(query.clone(), &keys);
            assert_eq!(got.dtype(), DType::F32, "the quotient isn't rounded");
            let error = worst(got, expected(&query, &key, &value, &weights));
            assert!(error < 3e-3, "{strength}: {error}");
        }
    }

    #[test]
    fn queries_are_padded_to_what_the_kernel_takes() {
        // The canvas, the text and 15% of the cells of the official model at 1024 px.
        for ([queries, keys, channels], expected) in [
            ([1024, 2125, 128], 1024),
            ([77, 2125, 128], 640),
            ([154, 2125, 128], 640),
            ([1101, 2125, 128], 1152),
            ([1, 100, 128], 256),
        ] {
            let padded = padded_queries(queries, keys, channels);
            assert_eq!(padded, expected);
            assert!(keys < 4 * padded && padded < 4 * keys);
        }
        for ([keys, channels], expected) in
            [([2125, 128], true), ([2125, 40], false), ([64, 128], false), ([65, 128], true)]
        {
            assert_eq!(fits(keys, channels), expected, "{keys} {channels}");
        }
    }

    #[test]
    fn values_beyond_f16_become_the_largest_within() {
        let x = Tensor::<4>::from_floats([[[[1e30, -1e5, 3.0]]]], &Device::flex());
        let narrow = attention_operand(x.cast(DType::BF16), DType::F16).cast(DType::F32);
        assert_eq!(narrow.try_into_vec_as::<f32>().unwrap(), [65280.0, -65280.0, 3.0]);
    }

    #[test]
    fn flex_attends_in_f32() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                assert_eq!(attention_dtype(dtype, &device, 2125, 128), DType::F32);
            }
        }
    }
}
