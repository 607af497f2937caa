//! Elementwise operations.

use std::f64::consts::{FRAC_2_PI, FRAC_2_SQRT_PI, SQRT_2};

use burn::tensor::{Tensor, activation};

use super::inputs::{Answer, Inputs};
use super::{Check, Tolerance, Types};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "GELU by tanh",
        types: Types::Floats,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 8.0, activation::gelu_approximate, gelu_by_tanh),
    },
    Check {
        name: "GELU by erf",
        types: Types::Floats,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 8.0, activation::gelu, gelu_by_erf),
    },
    Check {
        name: "SiLU",
        types: Types::Floats,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 8.0, activation::silu, |x| x / (1.0 + (-x).exp())),
    },
    Check {
        name: "sigmoid",
        types: Types::Floats,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 8.0, activation::sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
    },
    Check {
        name: "tanh",
        types: Types::F32,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 4.0, Tensor::tanh, f64::tanh),
    },
    Check {
        name: "exp",
        types: Types::F32,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 8.0, Tensor::exp, f64::exp),
    },
    Check {
        name: "ReLU",
        types: Types::Floats,
        tolerance: Tolerance::Exact,
        answer: |inputs| function(inputs, 4.0, activation::relu, |x| x.max(0.0)),
    },
    Check {
        name: "clamp and abs",
        types: Types::Floats,
        tolerance: Tolerance::Exact,
        answer: |inputs| {
            function(inputs, 4.0, |x| x.clamp(-1.0, 2.0).abs(), |x| x.clamp(-1.0, 2.0).abs())
        },
    },
    Check {
        name: "scale and shift, broadcast",
        types: Types::Floats,
        tolerance: Tolerance::Roundings(3),
        answer: modulation,
    },
    Check {
        name: "rounding from f32",
        types: Types::Floats,
        // Truncation instead of rounding would need two.
        tolerance: Tolerance::Roundings(1),
        answer: rounding,
    },
];

pub(super) fn function(
    inputs: &mut Inputs,
    limit: f64,
    on_device: impl Fn(Tensor<2>) -> Tensor<2>,
    on_host: impl Fn(f64) -> f64,
) -> Answer {
    let (x, host_x) = inputs.tensor([37, 131], limit);
    Answer::new(on_device(x), [37, 131], host_x.into_iter().map(on_host).collect())
}

pub(super) fn gelu_by_tanh(x: f64) -> f64 {
    x * (1.0 + (FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh()) / 2.0
}

pub(super) fn gelu_by_erf(x: f64) -> f64 {
    x * (1.0 + erf(x / SQRT_2)) / 2.0
}

/// `2/√π · exp(-x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!`, whose terms all have the sign of x.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, 0.0);
    for n in 1.. {
        sum += term;
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        if term.abs() <= f64::EPSILON * sum.abs() {
            break;
        }
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// One factor and one offset for each channel of each image, as in AdaLN.
fn modulation(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 41, 96], 1.0);
    let (scale, host_scale) = inputs.tensor([2, 1, 96], 1.0);
    let (shift, host_shift) = inputs.tensor([2, 1, 96], 1.0);
    let expected = host_x.iter().enumerate().map(|(i, x)| {
        let of_image = i / (41 * 96) * 96 + i % 96;
        x * (host_scale[of_image] + 1.0) + host_shift[of_image]
    });
    Answer::new(x * (scale + 1.0) + shift, [2, 41, 96], expected.collect())
}

fn rounding(inputs: &mut Inputs) -> Answer {
    let (x, expected, dtype) = inputs.fine_values([37, 131]);
    Answer::new(x.cast(dtype), [37, 131], expected)
}
