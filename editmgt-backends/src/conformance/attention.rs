//! Attention in the shapes that decide whether a GPU computes it in one kernel.
//!
//! The strength of a reference makes 129 value channels of the official model's 128, which
//! [`padded_attention`] pads to 144; it pads queries to a multiple of 128.

use burn::tensor::Tensor;
use burn::tensor::module::attention;
use editmgt_kernels::padded_attention;

use super::inputs::{Answer, Inputs};
use super::products::{AttentionSizes, HEADS, KEYS, QUERIES, attended_to, scaled};
use super::{Check, Tolerance, Types};

/// More than [`HEAD_DIM`](super::products::HEAD_DIM), and a multiple of the rows of every variant of
/// the fused kernel.
const WHOLE: usize = 128;

const fn check(name: &'static str, answer: fn(&mut Inputs) -> Answer) -> Check {
    Check { name, types: Types::F32AndF16, tolerance: Tolerance::Function, answer }
}

pub(super) const CHECKS: &[Check] = &[
    check("attention, 64 value channels", |inputs| attend(inputs, [QUERIES, 64], plain)),
    check("attention, 129 value channels", |inputs| attend(inputs, [QUERIES, 129], plain)),
    check("attention, 144 value channels", |inputs| attend(inputs, [QUERIES, 144], plain)),
    check("attention, 128 queries, 129 value channels", |inputs| {
        attend(inputs, [WHOLE, 129], plain)
    }),
    check("attention, 128 queries, 144 value channels", |inputs| {
        attend(inputs, [WHOLE, 144], plain)
    }),
    check("attention, padded to 256 queries, 144 value channels", |inputs| {
        attend(inputs, [QUERIES, 129], padded_attention)
    }),
];

/// The same by the kernel that every GPU of CubeCL has.
#[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
pub(super) const UNIT_CHECKS: &[Check] = &[
    check("unit attention, 129 value channels", |inputs| attend(inputs, [QUERIES, 129], unit)),
    check("unit attention, 144 value channels", |inputs| attend(inputs, [QUERIES, 144], unit)),
    check("unit attention, 128 queries, 129 value channels", |inputs| {
        attend(inputs, [WHOLE, 129], unit)
    }),
    check("unit attention, 128 queries, 144 value channels", |inputs| {
        attend(inputs, [WHOLE, 144], unit)
    }),
    Check {
        name: "unit attention, products beyond f16",
        types: Types::F16,
        tolerance: Tolerance::Function,
        answer: large_scores,
    },
];

type Attend = fn(Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<4>;

fn attend(inputs: &mut Inputs, [queries, channels]: [usize; 2], attend: Attend) -> Answer {
    let sizes = AttentionSizes { queries, keys: KEYS, channels, limit: 2.0 };
    let ([query, key, value], expected) = attended_to(inputs, sizes, |_, _, score| scaled(score));
    Answer::new(attend(query, key, value), [1, HEADS, queries, channels], expected)
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
    let sizes = AttentionSizes { queries: WHOLE, keys: KEYS, channels: 144, limit: 128.0 };
    let ([query, key, value], expected) = attended_to(inputs, sizes, |_, _, score| scaled(score));
    Answer::new(unit(query, key, value), [1, HEADS, WHOLE, 144], expected)
}
