//! The normalisations of the model, over the channels of each token.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};

use crate::lora::Side;
use crate::rows::linear;

/// Added to every mean square and variance, by the official code.
const EPSILON: f64 = 1e-6;

/// An RMS norm with the model's epsilon.
pub(crate) fn rms_norm_config(channels: usize) -> RmsNormConfig {
    RmsNormConfig::new(channels).with_epsilon(EPSILON)
}

/// `x / sqrt(mean(x²) + ε) * weight` over the last axis.
pub(crate) fn rms_norm<const D: usize>(norm: &RmsNorm, x: Tensor<D>) -> Tensor<D> {
    editmgt_kernels::rms_norm(x, norm.gamma.val(), norm.epsilon)
}

/// Layer norm without weights, then `(1 + scale) * x + shift`; `shift` and `scale` are
/// `[B, 1, D]`, one vector per batch item.
pub(crate) fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    editmgt_kernels::modulated_layer_norm(x, shift, scale, EPSILON)
}

/// Computes what modulates a block from the conditioning: shifts, scales and gates.
#[derive(Module, Debug)]
pub(crate) struct AdaLayerNorm {
    linear: Linear,
}

impl AdaLayerNorm {
    /// `parts` vectors of the given width.
    pub(crate) fn new(width: usize, parts: usize, device: &Device) -> Self {
        Self { linear: LinearConfig::new(width, parts * width).init(device) }
    }

    /// `[B, D]`, after SiLU, to `[B, 1, D]` each.
    pub(crate) fn forward<const PARTS: usize>(
        &self,
        conditioning: &Tensor<2>,
        side: Side,
    ) -> [Tensor<3>; PARTS] {
        let parts = linear(&self.linear, [conditioning.clone()], side).unsqueeze_dim::<3>(1);
        parts.chunk(PARTS, 2).try_into().expect("a norm is built for as many parts as are read")
    }
}
