use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor};
use editmgt_kernels::linear_layer;

use super::Gemma2Config;
use super::attention::{Context, Gemma2Attention};
use super::norm::Gemma2Norm;
use crate::activation::Activation;

/// One decoder layer: norms before and after each of its two halves. Field names are the
/// checkpoint's.
#[derive(Module, Debug)]
pub(super) struct Gemma2Layer {
    input_layernorm: Gemma2Norm,
    self_attn: Gemma2Attention,
    post_attention_layernorm: Gemma2Norm,
    pre_feedforward_layernorm: Gemma2Norm,
    mlp: Gemma2Mlp,
    post_feedforward_layernorm: Gemma2Norm,
}

impl Gemma2Layer {
    pub(super) fn new(
        config: &Gemma2Config,
        activation: Activation,
        layer: usize,
        device: &Device,
    ) -> Self {
        let norm = || Gemma2Norm::new(config, device);
        Self {
            input_layernorm: norm(),
            self_attn: Gemma2Attention::new(config, layer, device),
            post_attention_layernorm: norm(),
            pre_feedforward_layernorm: norm(),
            mlp: Gemma2Mlp::new(config, activation, device),
            post_feedforward_layernorm: norm(),
        }
    }

    /// That of activations.
    pub(super) fn dtype(&self) -> DType {
        self.input_layernorm.dtype()
    }

    /// `[B, L, D]` to `[B, L, D]`.
    pub(super) fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let attended = self.self_attn.forward(self.input_layernorm.forward(x.clone()), context);
        let x = x + self.post_attention_layernorm.forward(attended);
        let fed = self.mlp.forward(self.pre_feedforward_layernorm.forward(x.clone()));
        x + self.post_feedforward_layernorm.forward(fed)
    }
}

#[derive(Module, Debug)]
struct Gemma2Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Gemma2Mlp {
    fn new(config: &Gemma2Config, activation: Activation, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).with_bias(false).init(device);
        let (narrow, wide) = (config.hidden_size, config.intermediate_size);
        Self {
            gate_proj: linear(narrow, wide),
            up_proj: linear(narrow, wide),
            down_proj: linear(wide, narrow),
            activation,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = linear_layer(&self.gate_proj, x.clone());
        linear_layer(&self.down_proj, self.activation.gated(gate, linear_layer(&self.up_proj, x)))
    }
}
