//! Merges 2x2 tokens into one before the blocks, and splits them after the blocks.
//!
//! An odd side is padded with a row or column of zeros at the bottom or right before merging (as in
//! the official code), and cropped after splitting (the official code returns a grid that is larger
//! than the canvas, with the same values inside it).

use burn::module::{Module, Param};
use burn::nn::RmsNorm;
use burn::tensor::{Device, Tensor, ops::PadMode, s};
use editmgt_core::GridSize;

use crate::embedding::{arranged_product, conv_param};
use crate::norm::{rms_norm, rms_norm_config};

/// Tokens per merged token, along each side.
const FACTOR: usize = 2;

/// RMS norm, then a 2x2 convolution with stride 2 and no bias.
#[derive(Module, Debug)]
pub(crate) struct PatchDown {
    norm: RmsNorm,
    /// `[out, in, 2, 2]`.
    conv: Param<Tensor<4>>,
}

impl PatchDown {
    pub(crate) fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            norm: rms_norm_config(width, epsilon).init(device),
            conv: conv_param([width, width, FACTOR, FACTOR], width * FACTOR * FACTOR, device),
        }
    }

    /// `[B, H*W, D]` to `[B, ceil(H/2)*ceil(W/2), D]`.
    pub(crate) fn forward(&self, x: Tensor<3>, grid: GridSize) -> Tensor<3> {
        let [batch, _, channels] = x.dims();
        let merged = grid.div_ceil(FACTOR);
        let odd = [merged.height * FACTOR - grid.height, merged.width * FACTOR - grid.width];
        let x = rms_norm(&self.norm, x).reshape([batch, grid.height, grid.width, channels]);
        let x = if odd == [0, 0] {
            x
        } else {
            x.pad([(0, 0), (0, odd[0]), (0, odd[1]), (0, 0)], PadMode::Constant(0.0))
        };
        let patches = x
            .reshape([batch, merged.height, FACTOR, merged.width, FACTOR, channels])
            .swap_dims(2, 3)
            .reshape([batch * merged.len(), FACTOR * FACTOR * channels]);
        self.merge(patches, batch)
    }

    /// Some cells: `[B, R*4, D]`, the tokens of a cell row-major one after the other, to `[B, R,
    /// D]`. `inside`, `[B, R*4, 1]`, is 0 for tokens outside the grid, else 1.
    pub(crate) fn forward_cells(&self, x: Tensor<3>, inside: Option<Tensor<3>>) -> Tensor<3> {
        let [batch, tokens, channels] = x.dims();
        let x = rms_norm(&self.norm, x);
        let x = match inside {
            Some(inside) => x * inside,
            None => x,
        };
        let patch = FACTOR * FACTOR;
        self.merge(x.reshape([batch * tokens / patch, patch * channels]), batch)
    }

    /// `[B*R, 4*D]` to `[B, R, D]`.
    ///
    /// Each output is a linear function of its patch. The patch has the order that copies
    /// contiguous channels; the weight, which is smaller, is permuted to match.
    fn merge(&self, patches: Tensor<2>, batch: usize) -> Tensor<3> {
        let [rows, features] = patches.dims();
        let weight = self.conv.val();
        let [outputs, ..] = weight.dims();
        let weight = weight.permute([2, 3, 1, 0]).reshape([features, outputs]);
        arranged_product(patches, weight).reshape([batch, rows / batch, outputs])
    }
}

/// RMS norm, then a transposed 2x2 convolution with stride 2 and no bias.
#[derive(Module, Debug)]
pub(crate) struct PatchUp {
    norm: RmsNorm,
    /// `[in, out, 2, 2]`.
    conv: Param<Tensor<4>>,
}

impl PatchUp {
    pub(crate) fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            norm: rms_norm_config(width, epsilon).init(device),
            conv: conv_param([width, width, FACTOR, FACTOR], width * FACTOR * FACTOR, device),
        }
    }

    /// `[B, ceil(H/2)*ceil(W/2), D]` to `[B, H*W, D]`, for a `grid` of H by W.
    pub(crate) fn forward(&self, x: Tensor<3>, grid: GridSize) -> Tensor<3> {
        let (merged, x) = (grid.div_ceil(FACTOR), self.forward_cells(x));
        let [batch, _, outputs] = x.dims();
        let x = x
            .reshape([batch, merged.height, merged.width, FACTOR, FACTOR, outputs])
            .swap_dims(2, 3)
            .reshape([batch, merged.height * FACTOR, merged.width * FACTOR, outputs]);
        let cropped = x.slice(s![.., 0..grid.height, 0..grid.width, ..]);
        cropped.reshape([batch, grid.len(), outputs])
    }

    /// Some cells: `[B, R, D]` to `[B, R*4, D]`, the tokens of a cell row-major one after the
    /// other.
    pub(crate) fn forward_cells(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, cells, channels] = x.dims();
        let weight = self.conv.val();
        let [_, outputs, ..] = weight.dims();
        let patch = FACTOR * FACTOR;
        let weight = weight.permute([0, 2, 3, 1]).reshape([channels, patch * outputs]);
        let x = rms_norm(&self.norm, x).reshape([batch * cells, channels]);
        arranged_product(x, weight).reshape([batch, cells * patch, outputs])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;
    use burn::tensor::module::{conv_transpose2d, conv2d};
    use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

    use super::*;
    use crate::norm::EPSILON;

    const CHANNELS: usize = 6;

    fn close(got: Tensor<3>, channels_first: Tensor<4>) {
        let [batch, channels, height, width] = channels_first.dims();
        let expected =
            channels_first.permute([0, 2, 3, 1]).reshape([batch, height * width, channels]);
        assert_eq!(got.dims(), expected.dims());
        let difference = (got - expected).abs().max().into_scalar::<f32>();
        // Sums of 24 products of order one, in another order.
        assert!(difference < 1e-5, "{difference}");
    }

    fn channels_first(x: Tensor<3>, grid: GridSize) -> Tensor<4> {
        let [batch, _, channels] = x.dims();
        x.reshape([batch, grid.height, grid.width, channels]).permute([0, 3, 1, 2])
    }

    #[test]
    fn matrix_products_equal_the_convolutions_they_replace() {
        let device = Device::flex();
        let (down, up) =
            (PatchDown::new(CHANNELS, EPSILON, &device), PatchUp::new(CHANNELS, EPSILON, &device));
        for grid in [(4, 6), (5, 4), (4, 3), (3, 5), (1, 1)] {
            let grid = GridSize::new(grid.0, grid.1);
            let merged = grid.div_ceil(2);

            let x = Tensor::random([2, grid.len(), CHANNELS], Distribution::Default, &device);
            let padded = channels_first(rms_norm(&down.norm, x.clone()), grid).pad(
                [(0, 0), (0, 0), (0, grid.height % 2), (0, grid.width % 2)],
                PadMode::Constant(0.0),
            );
            let options = ConvOptions::new([2, 2], [0, 0], [1, 1], 1);
            close(down.forward(x, grid), conv2d(padded, down.conv.val(), None, options));

            let x = Tensor::random([2, merged.len(), CHANNELS], Distribution::Default, &device);
            let input = channels_first(rms_norm(&up.norm, x.clone()), merged);
            let options = ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1);
            let whole = conv_transpose2d(input, up.conv.val(), None, options);
            let cropped = whole.slice(s![.., .., 0..grid.height, 0..grid.width]);
            close(up.forward(x, grid), cropped);
        }
    }
}
