use burn::module::{Module, Param};
use burn::nn::RmsNorm;
use burn::tensor::{Device, Tensor};

use crate::embedding::{conv_param, placed_like, pointwise_conv};
use crate::norm::{rms_norm, rms_norm_config};

/// The head: computes one logit per code from the features of a token, by 1x1 convolution, RMS norm
/// and 1x1 convolution.
#[derive(Module, Debug)]
pub(crate) struct MlmHead {
    conv1: Param<Tensor<4>>,
    layer_norm: RmsNorm,
    conv2: Param<Tensor<4>>,
}

impl MlmHead {
    /// `channels` are those of the features and those between the convolutions.
    pub(crate) fn new(
        channels: [usize; 2],
        codebook: usize,
        epsilon: f64,
        device: &Device,
    ) -> Self {
        let [width, inner] = channels;
        Self {
            conv1: conv_param([inner, width, 1, 1], width, device),
            layer_norm: rms_norm_config(inner, epsilon).init(device),
            conv2: conv_param([codebook, inner, 1, 1], inner, device),
        }
    }

    /// Replaces the weights of the last convolution by `[V, D]`.
    pub(crate) fn set_rows(&mut self, rows: Tensor<2>) {
        self.conv2 = self.conv2.clone().map(|old| {
            let rows = placed_like(rows.reshape(old.dims()), &old);
            rows.detach().set_require_grad(old.is_require_grad())
        });
    }

    /// `[B, N, D]` to `[B, N, V]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = rms_norm(&self.layer_norm, pointwise_conv(&self.conv1, x));
        pointwise_conv(&self.conv2, x)
    }
}
