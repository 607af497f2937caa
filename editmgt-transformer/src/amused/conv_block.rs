//! The convolutional block (ConvNeXt V2, arXiv 2301.00808), modulated.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig, RmsNorm};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor};
use editmgt_core::GridSize;
use editmgt_kernels::{add, gelu, linear_layer};

use crate::amused::modulation::{modulate, scale_shift_layer};
use crate::embedding::conv_param;
use crate::norm::{rms_norm, rms_norm_config};

/// Side of the convolution per channel.
const SIDE: usize = 3;

/// Hidden channels per channel.
const EXPANSION: usize = 4;

/// Added to the mean over channels of the global response norm.
const RESPONSE_EPSILON: f64 = 1e-6;

/// 3x3 convolution per channel, RMS norm, a network on each token with a norm over the image, and
/// the residual; then scale and shift of the whole stream.
#[derive(Module, Debug)]
pub(super) struct ConvBlock {
    /// `[C, 1, 3, 3]`.
    depthwise: Param<Tensor<4>>,
    norm: RmsNorm,
    channelwise_linear_1: Linear,
    channelwise_norm: GlobalResponseNorm,
    channelwise_linear_2: Linear,
    cond_embeds_mapper: Linear,
}

/// Divides the energy of each channel in the whole image by the mean of all channels.
#[derive(Module, Debug)]
struct GlobalResponseNorm {
    gamma: Param<Tensor<4>>,
    beta: Param<Tensor<4>>,
}

/// What a block shows on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConvPart {
    Depthwise,
    ResponseNorm,
}

impl ConvBlock {
    /// `channels` of the stream, modulated by a vector of `conditioning` channels.
    pub(super) fn new(channels: usize, conditioning: usize, epsilon: f64, device: &Device) -> Self {
        let hidden = channels * EXPANSION;
        let linear =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(false).init(device);
        Self {
            depthwise: conv_param([channels, 1, SIDE, SIDE], SIDE * SIDE, device),
            norm: rms_norm_config(channels, epsilon).init(device),
            channelwise_linear_1: linear(channels, hidden),
            channelwise_norm: GlobalResponseNorm::new(hidden, device),
            channelwise_linear_2: linear(hidden, channels),
            cond_embeds_mapper: scale_shift_layer(conditioning, channels, device),
        }
    }

    /// `[B, H*W, C]`, with the conditioning `[B, D]` after SiLU, to the same.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        grid: GridSize,
        conditioning: &Tensor<2>,
        mut trace: impl FnMut(ConvPart, &Tensor<3>),
    ) -> Tensor<3> {
        let hidden = self.convolve(x.clone(), grid);
        trace(ConvPart::Depthwise, &hidden);
        let hidden = gelu(linear_layer(&self.channelwise_linear_1, rms_norm(&self.norm, hidden)));
        let hidden = self.channelwise_norm.forward(hidden);
        trace(ConvPart::ResponseNorm, &hidden);
        let x = add(x, linear_layer(&self.channelwise_linear_2, hidden));
        modulate(x, &self.cond_embeds_mapper, conditioning)
    }

    /// The 3x3 convolution of each channel, computed in f32.
    fn convolve(&self, x: Tensor<3>, grid: GridSize) -> Tensor<3> {
        let ([batch, tokens, channels], dtype) = (x.dims(), x.dtype());
        let x = x.cast(DType::F32).reshape([batch, grid.height, grid.width, channels]);
        let weight = self.depthwise.val().cast(DType::F32);
        let options = ConvOptions::new([1, 1], [SIDE / 2; 2], [1, 1], channels);
        let x = conv2d(x.permute([0, 3, 1, 2]), weight, None, options);
        x.permute([0, 2, 3, 1]).reshape([batch, tokens, channels]).cast(dtype)
    }
}

impl GlobalResponseNorm {
    fn new(channels: usize, device: &Device) -> Self {
        let zeros = || Initializer::Zeros.init([1, 1, 1, channels], device);
        Self { gamma: zeros(), beta: zeros() }
    }

    /// `[B, N, C]` to the same, with statistics over all tokens in f32.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = x.dtype();
        let wide = x.cast(DType::F32);
        let energy = (wide.clone() * wide.clone()).sum_dim(1).sqrt();
        let share = energy.clone() / (energy.mean_dim(2) + RESPONSE_EPSILON);
        let [_, _, channels] = wide.dims();
        let of_channels =
            |weight: &Param<Tensor<4>>| weight.val().cast(DType::F32).reshape([1, 1, channels]);
        let factor = of_channels(&self.gamma) * share + 1.0;
        (wide * factor + of_channels(&self.beta)).cast(dtype)
    }
}
