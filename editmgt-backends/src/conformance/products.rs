//! Matrix products and attention.

use burn::tensor::module::{attention, linear};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Tensor, activation, s};

use super::inputs::{Answer, Inputs};
use super::norms::softmax_rows;
use super::{Check, Tolerance, Types};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "matmul of 577 rows",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 1024 },
        answer: many_rows,
    },
    Check {
        name: "matmul of one row",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 1024 },
        answer: one_row,
    },
    Check {
        name: "matmul in batches, transposed",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 64 },
        answer: batched,
    },
    Check {
        name: "linear with bias",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 97 },
        answer: with_bias,
    },
    Check {
        name: "attention, causal with soft cap",
        types: Types::F32,
        tolerance: Tolerance::Function,
        answer: causal_attention,
    },
    Check {
        name: "attention, softmax(q kᵀ) v",
        types: Types::F32,
        tolerance: Tolerance::Function,
        answer: explicit_attention,
    },
    Check {
        name: "rotation of channel pairs",
        types: Types::F32,
        tolerance: Tolerance::Roundings(4),
        answer: rotation,
    },
];

/// `[rows, inner]` times `[inner, columns]`.
pub(super) fn matmul(a: &[f64], b: &[f64], inner: usize, columns: usize) -> Vec<f64> {
    let mut product = vec![0.0; a.len() / inner * columns];
    for (row, out) in a.chunks(inner).zip(product.chunks_mut(columns)) {
        for (factor, b) in row.iter().zip(b.chunks(columns)) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += factor * b);
        }
    }
    product
}

/// `[rows, columns]` to `[columns, rows]`.
fn transposed(x: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| x[column..].iter().step_by(columns).copied()).collect()
}

fn product(inputs: &mut Inputs, [rows, inner, columns]: [usize; 3]) -> Answer {
    let (a, host_a) = inputs.tensor([rows, inner], 1.0);
    let (b, host_b) = inputs.tensor([inner, columns], 1.0);
    Answer::new(a.matmul(b), [rows, columns], matmul(&host_a, &host_b, inner, columns))
}

/// Too large for small-matrix kernels, and no side is a multiple of a tile.
fn many_rows(inputs: &mut Inputs) -> Answer {
    product(inputs, [577, 1024, 67])
}

/// A single row, as the pooled text and the timestep.
fn one_row(inputs: &mut Inputs) -> Answer {
    product(inputs, [1, 1024, 193])
}

fn batched(inputs: &mut Inputs) -> Answer {
    let (a, host_a) = inputs.tensor([2, 3, 33, 64], 1.0);
    let (b, host_b) = inputs.tensor([2, 3, 41, 64], 1.0);
    let each = host_a.chunks(33 * 64).zip(host_b.chunks(41 * 64));
    let expected = each.flat_map(|(a, b)| matmul(a, &transposed(b, 64), 64, 41)).collect();
    Answer::new(a.matmul(b.swap_dims(2, 3)), [2, 3, 33, 41], expected)
}

fn with_bias(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 19, 96], 1.0);
    let (weight, host_weight) = inputs.tensor([96, 130], 1.0);
    let (bias, host_bias) = inputs.tensor([130], 1.0);
    let mut expected = matmul(&host_x, &host_weight, 96, 130);
    expected
        .chunks_mut(130)
        .for_each(|row| row.iter_mut().zip(&host_bias).for_each(|(x, b)| *x += b));
    Answer::new(linear(x, weight, Some(bias)), [2, 19, 130], expected)
}

pub(super) const HEADS: usize = 3;
pub(super) const QUERIES: usize = 133;
pub(super) const KEYS: usize = 150;
pub(super) const HEAD_DIM: usize = 64;

/// Queries, keys and values on the device, and the reference for scores that `shape` computes from
/// the products of (query, key).
pub(super) fn attended(
    inputs: &mut Inputs,
    keys: usize,
    shape: impl Fn(usize, usize, f64) -> f64,
) -> ([Tensor<4>; 3], Vec<f64>) {
    // Scores of up to about 5, so that softmax probabilities differ.
    let sizes =
        AttentionSizes { queries: QUERIES, keys, channels: [HEAD_DIM, HEAD_DIM], limit: 2.0 };
    attended_to(inputs, sizes, shape)
}

/// The sizes of [`attended_to`].
pub(super) struct AttentionSizes {
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Of each query and key, and of each value.
    pub(super) channels: [usize; 2],
    /// The largest query and key, a power of two.
    pub(super) limit: f64,
}

/// [`attended`] with other sizes.
pub(super) fn attended_to(
    inputs: &mut Inputs,
    AttentionSizes { queries, keys, channels: [head_dim, channels], limit }: AttentionSizes,
    shape: impl Fn(usize, usize, f64) -> f64,
) -> ([Tensor<4>; 3], Vec<f64>) {
    let (query, host_query) = inputs.tensor([1, HEADS, queries, head_dim], limit);
    let (key, host_key) = inputs.tensor([1, HEADS, keys, head_dim], limit);
    let (value, host_value) = inputs.tensor([1, HEADS, keys, channels], 1.0);
    let mut expected = Vec::new();
    for head in 0..HEADS {
        let of_head = |x: &[f64], rows: usize, width: usize| {
            x[head * rows * width..][..rows * width].to_vec()
        };
        let key = transposed(&of_head(&host_key, keys, head_dim), head_dim);
        let mut scores = matmul(&of_head(&host_query, queries, head_dim), &key, head_dim, keys);
        for (query, row) in scores.chunks_mut(keys).enumerate() {
            row.iter_mut().enumerate().for_each(|(key, score)| *score = shape(query, key, *score));
        }
        softmax_rows(&mut scores, keys);
        expected.extend(matmul(&scores, &of_head(&host_value, keys, channels), keys, channels));
    }
    ([query, key, value], expected)
}

pub(super) fn scaled(score: f64) -> f64 {
    score / (HEAD_DIM as f64).sqrt()
}

/// As in Gemma2.
fn causal_attention(inputs: &mut Inputs) -> Answer {
    let cap = 4.0;
    let shape = |query, key, score| {
        if key <= query { cap * (scaled(score) / cap).tanh() } else { f64::NEG_INFINITY }
    };
    let ([query, key, value], expected) = attended(inputs, QUERIES, shape);
    let options = AttentionModuleOptions { softcap: Some(cap), is_causal: true, scale: None };
    let got = attention(query, key, value, None, None, options);
    Answer::new(got, [1, HEADS, QUERIES, HEAD_DIM], expected)
}

/// As in attention capture.
fn explicit_attention(inputs: &mut Inputs) -> Answer {
    let ([query, key, value], expected) = attended(inputs, KEYS, |_, _, score| scaled(score));
    let scores = query.matmul(key.swap_dims(2, 3)) / (HEAD_DIM as f64).sqrt();
    let got = activation::softmax(scores, 3).matmul(value);
    Answer::new(got, [1, HEADS, QUERIES, HEAD_DIM], expected)
}

/// As in rotary positions: even and odd channels by slices with a step.
fn rotation(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 3, 17, 32], 1.0);
    let (cos, host_cos) = inputs.tensor([1, 1, 17, 16], 1.0);
    let (sin, host_sin) = inputs.tensor([1, 1, 17, 16], 1.0);
    let even = x.clone().slice(s![.., .., .., 0..;2]);
    let odd = x.slice(s![.., .., .., 1..;2]);
    let turned_even = even.clone() * cos.clone() - odd.clone() * sin.clone();
    let turned_odd = odd * cos + even * sin;
    let mut expected = Vec::new();
    for (row, channels) in host_x.chunks(32).enumerate() {
        let angles = (row % 17) * 16..(row % 17 + 1) * 16;
        expected.extend(turned(channels, &host_cos[angles.clone()], &host_sin[angles]));
    }
    Answer::new(Tensor::cat(vec![turned_even, turned_odd], 3), [2, 3, 17, 32], expected)
}

/// Rotates pairs of channels by their angles, all even channels before all odd ones.
pub(super) fn turned(channels: &[f64], cos: &[f64], sin: &[f64]) -> Vec<f64> {
    let pairs = || channels.chunks(2).zip(cos.iter().zip(sin));
    let even = pairs().map(|(pair, (cos, sin))| pair[0] * cos - pair[1] * sin);
    even.chain(pairs().map(|(pair, (cos, sin))| pair[1] * cos + pair[0] * sin)).collect()
}
