//! Vision transformer shared by CLIP, ViT and DINOv2.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::module::attention;
use burn::tensor::{Device, Tensor};
use editmgt::config::ConfigError;
use editmgt_text::Activation;
use serde::Deserialize;

/// Far above any model of this family, and low enough that a product of two cannot overflow.
const MAX_SIZE: usize = 1 << 24;
/// Each layer costs a few kilobytes before any weight is read.
const MAX_LAYERS: usize = 1 << 10;
/// Colours of a pixel.
const CHANNELS: usize = 3;

/// The sizes of a vision tower, in the keys of a config.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TowerConfig {
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_channels: usize,
    /// The image side that the positions were learned for.
    pub(super) image_size: usize,
    pub(super) patch_size: usize,
    pub(super) hidden_act: String,
    pub(super) layer_norm_eps: f64,
    /// Whether queries, keys and values have a bias.
    pub(super) qkv_bias: bool,
    /// Whether the output of each branch is scaled (LayerScale), as in DINOv2.
    #[serde(skip)]
    pub(super) layer_scale: bool,
}

impl TowerConfig {
    /// The config, if the sizes are valid.
    pub(super) fn checked(self, component: &'static str) -> Result<Self, ConfigError> {
        let sizes = [
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_SIZE),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_SIZE),
            ("image_size", self.image_size, MAX_SIZE),
            ("patch_size", self.patch_size, self.image_size),
        ];
        let unsupported = |key, expected: String, got: &dyn ToString| {
            Err(ConfigError::unsupported(component, key, expected, got.to_string()))
        };
        for (key, size, most) in sizes {
            if !(1..=most).contains(&size) {
                return unsupported(key, format!("1 to {most}"), &size);
            }
        }
        let heads = self.num_attention_heads;
        if !self.hidden_size.is_multiple_of(heads) {
            let expected = format!("a multiple of num_attention_heads ({heads})");
            return unsupported("hidden_size", expected, &self.hidden_size);
        }
        if self.num_channels != CHANNELS {
            return unsupported("num_channels", CHANNELS.to_string(), &self.num_channels);
        }
        let epsilon = self.layer_norm_eps;
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return unsupported("layer_norm_eps", "a finite number above 0".into(), &epsilon);
        }
        self.activation(component)?;
        Ok(self)
    }

    /// Patches per side of `pixels`.
    pub(super) fn patches(&self, pixels: usize) -> usize {
        pixels / self.patch_size
    }

    /// Rows of the position table: the class token and the patches.
    pub(super) fn positions(&self) -> usize {
        1 + self.patches(self.image_size).pow(2)
    }

    /// A layer norm over the hidden size.
    pub(super) fn norm(&self, device: &Device) -> LayerNorm {
        LayerNormConfig::new(self.hidden_size).with_epsilon(self.layer_norm_eps).init(device)
    }

    /// The patch embedding convolution.
    pub(super) fn patch_embedding(&self, bias: bool, device: &Device) -> Conv2d {
        let side = [self.patch_size; 2];
        Conv2dConfig::new([CHANNELS, self.hidden_size], side)
            .with_stride(side)
            .with_bias(bias)
            .init(device)
    }

    /// The layers and the final norm.
    pub(super) fn tower(
        &self,
        component: &'static str,
        device: &Device,
    ) -> Result<Tower, ConfigError> {
        let activation = self.activation(component)?;
        Ok(Tower {
            layers: (0..self.num_hidden_layers)
                .map(|_| TowerLayer::new(self, activation, device))
                .collect(),
            norm: self.norm(device),
        })
    }

    fn activation(&self, component: &'static str) -> Result<Activation, ConfigError> {
        Activation::named(component, "hidden_act", &self.hidden_act)
    }
}

/// Patch embeddings, `[B, N, D]`, of images `[B, 3, H, W]`; pixels beyond the last whole patch are
/// ignored.
pub(super) fn patches(embedding: &Conv2d, pictures: Tensor<4>) -> Tensor<3> {
    embedding.forward(pictures).flatten::<3>(2, 3).swap_dims(1, 2)
}

/// Pre-norm transformer layers with a final norm.
#[derive(Module, Debug)]
pub(super) struct Tower {
    layers: Vec<TowerLayer>,
    norm: LayerNorm,
}

impl Tower {
    /// The class token's row of `[B, L, D]` after all layers and the norm: `[B, D]`.
    pub(super) fn class_feature(&self, embedded: Tensor<3>) -> Tensor<2> {
        let hidden = self.layers.iter().fold(embedded, |x, layer| layer.forward(x));
        // The norm is row-wise, so the other rows are not needed.
        self.norm.forward(hidden.narrow(1, 0, 1)).squeeze_dim(1)
    }
}

/// One layer. The three families of checkpoints name its parts differently: each has a key table
/// beside its config.
#[derive(Module, Debug)]
struct TowerLayer {
    norm1: LayerNorm,
    attention: TowerAttention,
    scale1: Option<LayerScale>,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    scale2: Option<LayerScale>,
    #[module(skip)]
    activation: Activation,
}

impl TowerLayer {
    fn new(config: &TowerConfig, activation: Activation, device: &Device) -> Self {
        let (narrow, wide) = (config.hidden_size, config.intermediate_size);
        let scale = || config.layer_scale.then(|| LayerScale::new(narrow, device));
        Self {
            norm1: config.norm(device),
            attention: TowerAttention::new(config, device),
            scale1: scale(),
            norm2: config.norm(device),
            fc1: LinearConfig::new(narrow, wide).init(device),
            fc2: LinearConfig::new(wide, narrow).init(device),
            scale2: scale(),
            activation,
        }
    }

    /// `[B, L, D]` to `[B, L, D]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let scaled = |scale: &Option<LayerScale>, x| match scale {
            Some(scale) => scale.forward(x),
            None => x,
        };
        let attended = self.attention.forward(self.norm1.forward(x.clone()));
        let x = x + scaled(&self.scale1, attended);
        let inner = self.activation.forward(self.fc1.forward(self.norm2.forward(x.clone())));
        x + scaled(&self.scale2, self.fc2.forward(inner))
    }
}

/// Self-attention of all rows to all rows.
#[derive(Module, Debug)]
struct TowerAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl TowerAttention {
    fn new(config: &TowerConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let linear = |bias| LinearConfig::new(width, width).with_bias(bias).init(device);
        Self {
            query: linear(config.qkv_bias),
            key: linear(config.qkv_bias),
            value: linear(config.qkv_bias),
            out: linear(true),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let heads = |linear: &Linear| {
            let split = [batch, length, self.heads, width / self.heads];
            linear.forward(x.clone()).reshape(split).swap_dims(1, 2)
        };
        let (query, key, value) = (heads(&self.query), heads(&self.key), heads(&self.value));
        let attended = attention(query, key, value, None, None, Default::default());
        self.out.forward(attended.swap_dims(1, 2).reshape([batch, length, width]))
    }
}

/// LayerScale: a factor per channel.
#[derive(Module, Debug)]
struct LayerScale {
    lambda1: Param<Tensor<1>>,
}

impl LayerScale {
    fn new(width: usize, device: &Device) -> Self {
        Self { lambda1: Initializer::Ones.init([width], device) }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x * self.lambda1.val().unsqueeze()
    }
}
