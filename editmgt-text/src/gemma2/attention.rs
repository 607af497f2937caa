use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Tensor};
use editmgt_kernels::linear_layer;

use super::Gemma2Config;
use super::rotary::Rotary;
use crate::precision::{Heads, attention};

/// What the layers share during one forward pass.
#[derive(Debug)]
pub(super) struct Context {
    rotary: Rotary,
    /// Keys that a query may not see: those after it.
    causal: Tensor<2, Bool>,
    /// And, in sliding layers, those before its window.
    sliding: Tensor<2, Bool>,
}

impl Context {
    pub(super) fn new(config: &Gemma2Config, length: usize, dtype: DType, device: &Device) -> Self {
        let square = [length, length];
        let causal = Tensor::<2, Bool>::tril_mask(square, 0, device);
        let sliding = if length > config.sliding_window {
            let oldest = 1 - config.sliding_window as i64;
            causal.clone().bool_or(Tensor::<2, Bool>::triu_mask(square, oldest, device))
        } else {
            causal.clone()
        };
        // The queries of a group are stacked (see `forward`), so the mask is, too.
        let group = config.num_attention_heads / config.num_key_value_heads;
        Self {
            rotary: Rotary::new(config, length, dtype, device),
            causal: causal.repeat_dim(0, group),
            sliding: sliding.repeat_dim(0, group),
        }
    }
}

/// Grouped-query attention with rotary positions and soft-capped scores. Field names are the
/// checkpoint's.
#[derive(Module, Debug)]
pub(super) struct Gemma2Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    heads: usize,
    key_value_heads: usize,
    head_dim: usize,
    scale: f64,
    softcap: Option<f64>,
    sliding: bool,
}

impl Gemma2Attention {
    pub(super) fn new(config: &Gemma2Config, layer: usize, device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).with_bias(false).init(device);
        let hidden = config.hidden_size;
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        Self {
            q_proj: linear(hidden, queries),
            k_proj: linear(hidden, keys),
            v_proj: linear(hidden, keys),
            o_proj: linear(queries, hidden),
            heads: config.num_attention_heads,
            key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            scale: config.query_pre_attn_scalar.powf(-0.5),
            softcap: config.attn_logit_softcapping,
            sliding: layer.is_multiple_of(2),
        }
    }

    /// `[B, L, D]` to `[B, L, D]`.
    pub(super) fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let (groups, head_dim) = (self.key_value_heads, self.head_dim);
        // The queries that share a key head are stacked into one long sequence per key head, so
        // that keys and values need no copies.
        let stacked = self.heads / groups * length;

        let split = |x: Tensor<3>, heads| x.reshape([batch, length, heads, head_dim]);
        let query = context.rotary.apply(split(linear_layer(&self.q_proj, x.clone()), self.heads));
        let key = context.rotary.apply(split(linear_layer(&self.k_proj, x.clone()), groups));
        let value = split(linear_layer(&self.v_proj, x), groups);
        let heads = Heads {
            query: query.swap_dims(1, 2).reshape([batch, groups, stacked, head_dim]),
            key: key.swap_dims(1, 2),
            value: value.swap_dims(1, 2),
        };

        let mask = if self.sliding { &context.sliding } else { &context.causal };
        let mask = mask.clone().unsqueeze::<4>().expand([batch, groups, stacked, length]);
        let options = AttentionModuleOptions {
            scale: Some(self.scale),
            softcap: self.softcap,
            is_causal: false,
        };
        let attended = attention(heads, Some(mask), options)
            .reshape([batch, self.heads, length, head_dim])
            .swap_dims(1, 2)
            .reshape([batch, length, self.heads * head_dim]);
        linear_layer(&self.o_proj, attended)
    }
}
