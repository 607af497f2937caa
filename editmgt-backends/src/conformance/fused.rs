//! The operations of [`editmgt_kernels`]: kernels on flex in f32, compositions otherwise.

use burn::module::Param;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::Tensor;
use editmgt_kernels::{
    KeyPlaces, KeyValues, KeyWeights, attention, conv2d, gelu, gelu_tanh, group_norm_silu,
    modulated_layer_norm, norm_and_rotate,
};

use super::convolutions::expected_convolution;
use super::elementwise::{function, gelu_by_erf, gelu_by_tanh};
use super::inputs::{Answer, Inputs};
use super::norms::{EPSILON, root_mean_square_rows, standardised};
use super::products::{HEAD_DIM, HEADS, KEYS, QUERIES, attended, scaled, turned};
use super::{Check, Tolerance, Types};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "fused GELU by tanh",
        types: Types::Floats,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 8.0, gelu_tanh, gelu_by_tanh),
    },
    Check {
        name: "fused GELU by erf",
        types: Types::Floats,
        tolerance: Tolerance::Function,
        answer: |inputs| function(inputs, 8.0, gelu, gelu_by_erf),
    },
    Check {
        name: "fused layer norm, modulated",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: 384 },
        answer: modulated,
    },
    Check {
        name: "fused RMS norm and rotation",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: 32 },
        answer: rotated,
    },
    Check {
        name: "fused group norm and SiLU",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: 4 * 23 * 29 },
        answer: normed_images,
    },
    Check {
        name: "fused attention, weighted keys",
        types: Types::F32AndF16,
        tolerance: Tolerance::Function,
        answer: weighted_attention,
    },
    Check {
        name: "fused attention, replaced keys",
        types: Types::F32,
        tolerance: Tolerance::Function,
        answer: replaced_keys,
    },
    Check {
        name: "fused convolution 3x3",
        types: Types::F32,
        tolerance: Tolerance::Sum { terms: 24 * 9 + 1 },
        answer: large_convolution,
    },
];

fn modulated(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 37, 384], 4.0);
    let (shift, host_shift) = inputs.tensor([2, 1, 384], 1.0);
    let (scale, host_scale) = inputs.tensor([2, 1, 384], 1.0);
    let mut expected = standardised(&host_x, 384);
    for (i, x) in expected.iter_mut().enumerate() {
        let of_item = i / (37 * 384) * 384 + i % 384;
        *x = *x * (1.0 + host_scale[of_item]) + host_shift[of_item];
    }
    Answer::new(modulated_layer_norm(x, shift, scale, EPSILON), [2, 37, 384], expected)
}

/// The result has heads before tokens.
fn rotated(inputs: &mut Inputs) -> Answer {
    const ITEMS: usize = 2;
    const TOKENS: usize = 17;
    const CHANNELS: usize = 32;
    let (x, host_x) = inputs.tensor([ITEMS, TOKENS, HEADS, CHANNELS], 2.0);
    let (weight, host_weight) = inputs.tensor([CHANNELS], 1.0);
    let (cos, host_cos) = inputs.tensor([1, TOKENS, 1, CHANNELS / 2], 1.0);
    let (sin, host_sin) = inputs.tensor([1, TOKENS, 1, CHANNELS / 2], 1.0);
    let mut normed = root_mean_square_rows(&host_x, CHANNELS);
    normed.iter_mut().enumerate().for_each(|(i, x)| *x *= host_weight[i % CHANNELS]);
    let mut expected = Vec::new();
    for plane in 0..ITEMS * HEADS {
        for token in 0..TOKENS {
            let row = (plane / HEADS * TOKENS + token) * HEADS + plane % HEADS;
            let angles = token * CHANNELS / 2..(token + 1) * CHANNELS / 2;
            let channels = &normed[row * CHANNELS..][..CHANNELS];
            expected.extend(turned(channels, &host_cos[angles.clone()], &host_sin[angles]));
        }
    }
    let got = norm_and_rotate(x, weight, EPSILON, cos, sin);
    Answer::new(got, [ITEMS, HEADS, TOKENS, CHANNELS], expected)
}

fn normed_images(inputs: &mut Inputs) -> Answer {
    let (x, host_x) = inputs.tensor([2, 12, 23, 29], 4.0);
    let (weight, host_weight) = inputs.tensor([12], 1.0);
    let (bias, host_bias) = inputs.tensor([12], 1.0);
    let mut expected = standardised(&host_x, 4 * 23 * 29);
    for (i, x) in expected.iter_mut().enumerate() {
        let channel = i / (23 * 29) % 12;
        let normed = *x * host_weight[channel] + host_bias[channel];
        *x = normed / (1.0 + (-normed).exp());
    }
    let got = group_norm_silu(x, weight, bias, 3, EPSILON);
    Answer::new(got, [2, 12, 23, 29], expected)
}

/// A third of the keys have weight 0.1, as those of a reference at strength 0.1.
fn weighted_attention(inputs: &mut Inputs) -> Answer {
    let weights: Vec<f32> = (0..KEYS).map(|key| if key % 3 == 0 { 0.1 } else { 1.0 }).collect();
    let shape = |_, key: usize, score| scaled(score) + f64::from(weights[key]).ln();
    let ([query, key, value], by_head) = attended(inputs, KEYS, shape);
    let got = attention(
        query,
        &KeyValues::new(key, value).with_weights(&KeyWeights::on(weights, inputs.device())),
    );
    Answer::new(got, [1, QUERIES, HEADS * HEAD_DIM], tokens_first(&by_head))
}

/// Every fifth key and value comes later than the others, as those of active cells do in a partial
/// step.
fn replaced_keys(inputs: &mut Inputs) -> Answer {
    let ([query, key, value], by_head) = attended(inputs, KEYS, |_, _, score| scaled(score));
    let places: Vec<usize> = (0..KEYS).step_by(5).collect();
    let rows = |x: &Tensor<4>, places: &[usize]| {
        let rows = places.iter().map(|&place| x.clone().narrow(2, place, 1));
        Tensor::cat(rows.collect(), 2)
    };
    let mut keys = KeyValues::new(key.clone().flip([2]), value.clone().flip([2]));
    let rest: Vec<usize> = (0..KEYS).filter(|place| !places.contains(place)).collect();
    for places in [rest, places] {
        let (key, value) = (rows(&key, &places), rows(&value, &places));
        keys.replace(&KeyPlaces::on(places, 1, KEYS, inputs.device()), key, value);
    }
    Answer::new(attention(query, &keys), [1, QUERIES, HEADS * HEAD_DIM], tokens_first(&by_head))
}

/// `[heads, N, d]` to `[N, heads, d]`.
fn tokens_first(by_head: &[f64]) -> Vec<f64> {
    let mut expected = Vec::with_capacity(by_head.len());
    for token in 0..QUERIES {
        for head in 0..HEADS {
            expected.extend(&by_head[(head * QUERIES + token) * HEAD_DIM..][..HEAD_DIM]);
        }
    }
    expected
}

/// Large enough for Winograd's algorithm.
fn large_convolution(inputs: &mut Inputs) -> Answer {
    let dims = [1, 24, 37, 41];
    let mut layer = Conv2dConfig::new([24, 20], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(inputs.device());
    let (x, host_x) = inputs.tensor(dims, 1.0);
    let (weight, host_weight) = inputs.tensor([20, 24, 3, 3], 1.0);
    let (bias, host_bias) = inputs.tensor([20], 1.0);
    layer.weight = Param::from_tensor(weight);
    layer.bias = Some(Param::from_tensor(bias));
    let (out_dims, expected) =
        expected_convolution((dims, &host_x), ([20, 24, 3, 3], &host_weight), &host_bias, 1, 1);
    Answer::new(conv2d(&layer, x), out_dims, expected)
}
