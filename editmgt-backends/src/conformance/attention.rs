//! Attention in the shapes that decide whether a GPU computes it in one kernel.
//!
//! The strength of a reference makes 129 value channels of the official model's 128, which
//! [`padded_attention`] pads to 144; it pads queries to a multiple of 128.

use burn::tensor::Tensor;
use burn::tensor::module::attention;
use editmgt_kernels::padded_attention;

use super::inputs::{Answer, Inputs};
use super::products::{AttentionSizes, HEAD_DIM, HEADS, KEYS, QUERIES, attended_to};
use super::{Check, Tolerance, Types};

/// More than [`HEAD_DIM`](super::products::HEAD_DIM), and a multiple of the rows of every variant
/// of the fused kernel.
const WHOLE: usize = 128;

const fn check(name: &'static str, answer: fn(&mut Inputs) -> Answer) -> Check {
    Check { name, types: Types::F32AndF16, tolerance: Tolerance::Function, answer }
}

pub(super) const CHECKS: &[Check] = &[
    check("attention, 64 value channels", |inputs| attend(inputs, [QUERIES, HEAD_DIM, 64], plain)),
    check("attention, 129 value channels", |inputs| {
        attend(inputs, [QUERIES, HEAD_DIM, 129], plain)
    }),
    check("attention, 144 value channels", |inputs| {
        attend(inputs, [QUERIES, HEAD_DIM, 144], plain)
    }),
    check("attention, 128 queries, 129 value channels", |inputs| {
        attend(inputs, [WHOLE, HEAD_DIM, 129], plain)
    }),
    check("attention, 128 queries, 144 value channels", |inputs| {
        attend(inputs, [WHOLE, HEAD_DIM, 144], plain)
    }),
    check("attention, padded to 256 queries, 144 value channels", |inputs| {
        attend(inputs, [QUERIES, HEAD_DIM, 129], padded_attention)
    }),
];

/// The same layout by the kernel that every GPU of CubeCL has, for heads of 16 channels: a divisor
/// makes 17 value channels, padded 32. Not the 129 of the official model, so that a software driver
/// compiles the kernels soon.
#[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
pub(super) const UNIT_CHECKS: &[Check] = &[
    check("unit attention, 17 value channels", |inputs| attend(inputs, [QUERIES, 16, 17], unit)),
    check("unit attention, 32 value channels", |inputs| attend(inputs, [QUERIES, 16, 32], unit)),
    check("unit attention, 128 queries, 17 value channels", |inputs| {
        attend(inputs, [WHOLE, 16, 17], unit)
    }),
    check("unit attention, 128 queries, 32 value channels", |inputs| {
        attend(inputs, [WHOLE, 16, 32], unit)
    }),
    Check {
        name: "unit attention, products beyond f16",
        types: Types::F16,
        tolerance: Tolerance::Function,
        answer: large_scores,
    },
];

type Attend = fn(Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<4>;

/// Numbers of queries, channels of queries and keys, and channels of values.
fn attend(inputs: &mut Inputs, [queries, head_dim, width]: [usize; 3], attend: Attend) -> Answer {
    let scaled = |score: f64| score / (head_dim as f64).sqrt();
    let channels = [head_dim, width];
    let sizes = AttentionSizes { queries, keys: KEYS, channels, limit: 2.0 };
    let ([query, key, value], expected) = attended_to(inputs, sizes, |_, _, score| scaled(score));
    Answer::new(attend(query, key, value), [1, HEADS, queries, width], expected)
}

fn plain(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    attention(query, key, value, None, None, Default::default())
}

#[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
fn unit(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    super::unit_attention::unit_attention(query, key, value)
}

/// Products of queries and keys up to a million. The composition, which burn takes where the kernel
/// refuses a shape, has them in f16 and returns NaN.
#[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
fn large_scores(inputs: &mut Inputs) -> Answer {
    let scaled = |score: f64| score / 4.0;
    let sizes = AttentionSizes { queries: WHOLE, keys: KEYS, channels: [16, 32], limit: 256.0 };
    let ([query, key, value], expected) = attended_to(inputs, sizes, |_, _, score| scaled(score));
    Answer::new(unit(query, key, value), [1, HEADS, WHOLE, 32], expected)
}
