use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::module::layer_norm;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Tensor};
use editmgt_kernels::linear_layer;

use super::ClipTextConfig;
use crate::activation::Activation;
use crate::precision::{Heads, attention, in_f32, is_half};

/// One transformer layer, norms first. Field names are the checkpoint's.
#[derive(Module, Debug)]
pub(super) struct ClipLayer {
    layer_norm1: LayerNorm,
    self_attn: ClipAttention,
    layer_norm2: LayerNorm,
    mlp: ClipMlp,
    epsilon: f64,
}

impl ClipLayer {
    pub(super) fn new(config: &ClipTextConfig, activation: Activation, device: &Device) -> Self {
        Self {
            layer_norm1: norm(config, device),
            self_attn: ClipAttention::new(config, device),
            layer_norm2: norm(config, device),
            mlp: ClipMlp::new(config, activation, device),
            epsilon: config.layer_norm_eps,
        }
    }

    /// `[B, L, D]` to `[B, L, D]`.
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(normalise(&self.layer_norm1, self.epsilon, x));
        x.clone() + self.mlp.forward(normalise(&self.layer_norm2, self.epsilon, x))
    }
}

/// A layer norm over the hidden size.
pub(super) fn norm(config: &ClipTextConfig, device: &Device) -> LayerNorm {
    LayerNormConfig::new(config.hidden_size).with_epsilon(config.layer_norm_eps).init(device)
}

/// The norm with f32 statistics (burn's own forward widens f16, but not bf16).
pub(super) fn normalise(norm: &LayerNorm, epsilon: f64, x: Tensor<3>) -> Tensor<3> {
    if !is_half(x.dtype()) {
        return norm.forward(x);
    }
    let gamma = norm.gamma.val().cast(DType::F32);
    let beta = norm.beta.as_ref().map(|beta| beta.val().cast(DType::F32));
    in_f32(x, |x| layer_norm(x, gamma, beta, epsilon))
}

/// Causal self-attention. Padding comes after the end token, so no padding mask is needed.
#[derive(Module, Debug)]
struct ClipAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl ClipAttention {
    fn new(config: &ClipTextConfig, device: &Device) -> Self {
        let linear = || LinearConfig::new(config.hidden_size, config.hidden_size).init(device);
        Self {
            q_proj: linear(),
            k_proj: linear(),
            v_proj: linear(),
            out_proj: linear(),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let split = |x: Tensor<3>| {
            x.reshape([batch, length, self.heads, width / self.heads]).swap_dims(1, 2)
        };
        let heads = Heads {
            query: split(linear_layer(&self.q_proj, x.clone())),
            key: split(linear_layer(&self.k_proj, x.clone())),
            value: split(linear_layer(&self.v_proj, x)),
        };
        let causal = AttentionModuleOptions { is_causal: true, ..Default::default() };
        let attended = attention(heads, None, causal);
        linear_layer(&self.out_proj, attended.swap_dims(1, 2).reshape([batch, length, width]))
    }
}

#[derive(Module, Debug)]
struct ClipMlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl ClipMlp {
    fn new(config: &ClipTextConfig, activation: Activation, device: &Device) -> Self {
        let (narrow, wide) = (config.hidden_size, config.intermediate_size);
        Self {
            fc1: LinearConfig::new(narrow, wide).init(device),
            fc2: LinearConfig::new(wide, narrow).init(device),
            activation,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        linear_layer(&self.fc2, self.activation.forward(linear_layer(&self.fc1, x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_f32_statistics;

    #[test]
    fn norms_take_their_statistics_in_f32() {
        check_f32_statistics(|x| normalise(&LayerNormConfig::new(8).init(&x.device()), 1e-5, x));
    }
}
