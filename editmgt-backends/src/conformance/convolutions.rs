//! Convolutions and resampling.

use burn::tensor::module::{conv_transpose2d, conv2d, interpolate};
use burn::tensor::ops::{
    ConvOptions, ConvTransposeOptions, InterpolateMode, InterpolateOptions, PadMode,
};

use super::inputs::{Answer, Inputs};
use super::{Check, Tolerance, Types};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "convolution 3x3",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 24 * 9 + 1 },
        answer: |inputs| convolution(inputs, 3, 1, 1),
    },
    Check {
        name: "convolution 3x3, stride 2",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 24 * 9 + 1 },
        answer: |inputs| convolution(inputs, 3, 2, 0),
    },
    Check {
        name: "convolution 1x1",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 24 + 1 },
        answer: |inputs| convolution(inputs, 1, 1, 0),
    },
    Check {
        name: "transposed convolution 2x2, stride 2",
        types: Types::Floats,
        tolerance: Tolerance::Sum { terms: 24 },
        answer: transposed_convolution,
    },
    Check {
        name: "nearest pixels, doubled",
        types: Types::Floats,
        tolerance: Tolerance::Exact,
        answer: nearest,
    },
    Check {
        name: "padding with zeros",
        types: Types::Floats,
        tolerance: Tolerance::Exact,
        answer: padding,
    },
];

const BATCH: usize = 2;
const IN: usize = 24;
const OUT: usize = 20;
const HEIGHT: usize = 19;
const WIDTH: usize = 23;

/// The row-major index of a position of `[B, C, H, W]`.
fn at([_, channels, height, width]: [usize; 4], [b, c, y, x]: [usize; 4]) -> usize {
    ((b * channels + c) * height + y) * width + x
}

/// All positions of `[B, C, H, W]` in order.
fn places([batch, channels, height, width]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..batch * channels * height * width).map(move |i| {
        let (row, x) = (i / width, i % width);
        let (plane, y) = (row / height, row % height);
        [plane / channels, plane % channels, y, x]
    })
}

fn convolution(inputs: &mut Inputs, side: usize, stride: usize, padding: usize) -> Answer {
    let dims = [BATCH, IN, HEIGHT, WIDTH];
    let weight_dims = [OUT, IN, side, side];
    let (x, host_x) = inputs.tensor(dims, 1.0);
    let (weight, host_weight) = inputs.tensor(weight_dims, 1.0);
    let (bias, host_bias) = inputs.tensor([OUT], 1.0);
    let options = ConvOptions::new([stride, stride], [padding, padding], [1, 1], 1);
    let got = conv2d(x, weight, Some(bias), options);
    let (image, weight) = ((dims, &host_x[..]), (weight_dims, &host_weight[..]));
    let (out_dims, expected) = expected_convolution(image, weight, &host_bias, stride, padding);
    Answer::new(got, out_dims, expected)
}

/// The result of a convolution and its dimensions.
pub(super) fn expected_convolution(
    (dims, image): ([usize; 4], &[f64]),
    (weight_dims, weight): ([usize; 4], &[f64]),
    bias: &[f64],
    stride: usize,
    padding: usize,
) -> ([usize; 4], Vec<f64>) {
    let [batch, channels, height, width] = dims;
    let [out_channels, _, side, _] = weight_dims;
    let out_side = |length: usize| (length + 2 * padding - side) / stride + 1;
    let out_dims = [batch, out_channels, out_side(height), out_side(width)];
    let expected = places(out_dims).map(|[b, out, y, x]| {
        let terms = places([1, channels, side, side]).map(|[_, c, dy, dx]| {
            // Zero padding; above and to the left the subtraction underflows.
            let row = (y * stride + dy).checked_sub(padding).filter(|&row| row < height);
            let column = (x * stride + dx).checked_sub(padding).filter(|&column| column < width);
            let (Some(row), Some(column)) = (row, column) else { return 0.0 };
            image[at(dims, [b, c, row, column])] * weight[at(weight_dims, [out, c, dy, dx])]
        });
        bias[out] + terms.sum::<f64>()
    });
    (out_dims, expected.collect())
}

/// Each pixel becomes four: sums over channels only.
fn transposed_convolution(inputs: &mut Inputs) -> Answer {
    let dims = [BATCH, IN, HEIGHT, WIDTH];
    let weight_dims = [IN, OUT, 2, 2];
    let (x, host_x) = inputs.tensor(dims, 1.0);
    let (weight, host_weight) = inputs.tensor(weight_dims, 1.0);
    let options = ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1);
    let got = conv_transpose2d(x, weight, None, options);

    let out_dims = [BATCH, OUT, 2 * HEIGHT, 2 * WIDTH];
    let expected = places(out_dims).map(|[b, out, y, x]| {
        let terms = (0..IN).map(|c| {
            host_x[at(dims, [b, c, y / 2, x / 2])]
                * host_weight[at(weight_dims, [c, out, y % 2, x % 2])]
        });
        terms.sum::<f64>()
    });
    Answer::new(got, out_dims, expected.collect())
}

fn nearest(inputs: &mut Inputs) -> Answer {
    let dims = [BATCH, 3, HEIGHT, WIDTH];
    let (x, host_x) = inputs.tensor(dims, 1.0);
    let out_dims = [BATCH, 3, 2 * HEIGHT, 2 * WIDTH];
    let options =
        InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([2 * HEIGHT, 2 * WIDTH]);
    let expected = places(out_dims).map(|[b, c, y, x]| host_x[at(dims, [b, c, y / 2, x / 2])]);
    Answer::new(interpolate(x, options), out_dims, expected.collect())
}

/// At the bottom and right, as an odd grid is padded.
fn padding(inputs: &mut Inputs) -> Answer {
    let dims = [BATCH, 3, HEIGHT, WIDTH];
    let (x, host_x) = inputs.tensor(dims, 1.0);
    let out_dims = [BATCH, 3, HEIGHT + 1, WIDTH + 1];
    let got = x.pad([(0, 0), (0, 0), (0, 1), (0, 1)], PadMode::Constant(0.0));
    let expected = places(out_dims).map(|[b, c, y, x]| {
        if y < HEIGHT && x < WIDTH { host_x[at(dims, [b, c, y, x])] } else { 0.0 }
    });
    Answer::new(got, out_dims, expected.collect())
}
