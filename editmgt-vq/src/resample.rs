use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, module};
use editmgt_core::{GridSize, Result};
use editmgt_kernels::conv2d;

use crate::resnet::conv3x3;

/// Averages `[B, C, h, w]` codes to the grid `shrunk(shrink)`, for a small preview.
///
/// # Errors
/// As [`GridSize::shrunk`].
pub(crate) fn shrink_codes(codes: Tensor<4>, shrink: usize) -> Result<Tensor<4>> {
    let [_, _, height, width] = codes.dims();
    let small = GridSize::new(height, width).shrunk(shrink)?;
    if shrink == 1 {
        return Ok(codes);
    }
    Ok(module::adaptive_avg_pool2d(codes, [small.height, small.width]))
}

/// Halves both sides.
#[derive(Module, Debug)]
pub(crate) struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    pub(crate) fn new(channels: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_stride([2, 2])
            // Top, left, bottom, right: zeros at the bottom and right only, as in the official
            // code.
            .with_padding(PaddingConfig2d::Explicit(0, 0, 1, 1));
        Self { conv: conv.init(device) }
    }

    pub(crate) fn conv(&self) -> &Conv2d {
        &self.conv
    }

    /// `[B, C, H, W]`, even sides, to `[B, C, H/2, W/2]`.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(&self.conv, x)
    }
}

/// Doubles both sides.
#[derive(Module, Debug)]
pub(crate) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(crate) fn new(channels: usize, device: &Device) -> Self {
        Self { conv: conv3x3([channels, channels]).init(device) }
    }

    pub(crate) fn conv(&self) -> &Conv2d {
        &self.conv
    }

    /// `[B, C, H, W]` to `[B, C, 2H, 2W]`: each pixel becomes four, then a convolution.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let options = InterpolateOptions::new(InterpolateMode::Nearest)
            .with_output_size([height * 2, width * 2]);
        conv2d(&self.conv, module::interpolate(x, options))
    }
}
