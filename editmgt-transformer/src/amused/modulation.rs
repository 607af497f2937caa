//! Scales and shifts computed from the conditioning.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, RmsNorm};
use burn::tensor::{DType, Device, Tensor};
use editmgt_kernels::{linear_layer, modulated_layer_norm};

use crate::conditioning::conditioning_rows;
use crate::norm::{rms_norm, rms_norm_config};

/// A layer that computes a scale and a shift, in this order, from the conditioning.
pub(super) fn scale_shift_layer(conditioning: usize, width: usize, device: &Device) -> Linear {
    LinearConfig::new(conditioning, 2 * width).with_bias(false).init(device)
}

/// Scale and shift, `[B, 1, C]` each, from the conditioning `[B, D]` after SiLU.
fn scale_shift(layer: &Linear, conditioning: &Tensor<2>) -> [Tensor<3>; 2] {
    let both = conditioning_rows(conditioning.clone(), |rows| linear_layer(layer, rows));
    let [_, channels] = both.dims();
    let half = channels / 2;
    let part = |start| both.clone().narrow(1, start, half).unsqueeze_dim::<3>(1);
    [part(0), part(half)]
}

/// `(1 + scale) * x + shift` on `[B, N, C]`.
pub(super) fn modulate(x: Tensor<3>, layer: &Linear, conditioning: &Tensor<2>) -> Tensor<3> {
    let [scale, shift] = scale_shift(layer, conditioning);
    x * (scale + 1.0) + shift
}

/// RMS norm, then scale and shift from the conditioning.
#[derive(Module, Debug)]
pub(super) struct AdaRmsNorm {
    linear: Linear,
    norm: RmsNorm,
}

impl AdaRmsNorm {
    pub(super) fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            linear: scale_shift_layer(width, width, device),
            norm: rms_norm_config(width, epsilon).init(device),
        }
    }

    /// `[B, N, D]`, with the conditioning `[B, D]` after SiLU, to the same.
    pub(super) fn forward(&self, x: Tensor<3>, conditioning: &Tensor<2>) -> Tensor<3> {
        modulate(rms_norm(&self.norm, x), &self.linear, conditioning)
    }
}

/// Layer norm with weights and without bias, then scale and shift from the conditioning.
#[derive(Module, Debug)]
pub(super) struct AdaLayerNorm {
    linear: Linear,
    norm: LayerNorm,
    #[module(skip)]
    epsilon: f64,
}

impl AdaLayerNorm {
    pub(super) fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        let norm = LayerNormConfig::new(width).with_epsilon(epsilon).with_bias(false);
        let linear = scale_shift_layer(width, width, device);
        Self { linear, norm: norm.init(device), epsilon }
    }

    /// `[B, N, D]`, with the conditioning `[B, D]` after SiLU, to the same; computed in f32.
    pub(super) fn forward(&self, x: Tensor<3>, conditioning: &Tensor<2>) -> Tensor<3> {
        let dtype = x.dtype();
        let [scale, shift] =
            scale_shift(&self.linear, conditioning).map(|part| part.cast(DType::F32));
        // The weight is one more factor per channel.
        let weight = self.norm.gamma.val().cast(DType::F32).unsqueeze::<3>();
        let scale = (scale + 1.0) * weight - 1.0;
        modulated_layer_norm(x.cast(DType::F32), shift, scale, self.epsilon).cast(dtype)
    }
}
