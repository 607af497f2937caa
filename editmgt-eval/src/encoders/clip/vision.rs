use burn::module::{Initializer, Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use editmgt::config::ConfigError;

use super::config::{ClipConfig, VISION};
use crate::encoders::tower::{Tower, patches};

/// The vision tower with its projection.
#[derive(Module, Debug)]
pub(super) struct ClipVision {
    class_embedding: Param<Tensor<1>>,
    patch_embedding: Conv2d,
    position_embedding: Embedding,
    pre_layer_norm: LayerNorm,
    tower: Tower,
    visual_projection: Linear,
}

impl ClipVision {
    /// The tower with uninitialised weights.
    pub(super) fn new(config: &ClipConfig, device: &Device) -> Result<Self, ConfigError> {
        let vision = &config.vision;
        Ok(Self {
            class_embedding: Initializer::Zeros.init([vision.hidden_size], device),
            patch_embedding: vision.patch_embedding(false, device),
            position_embedding: EmbeddingConfig::new(vision.positions(), vision.hidden_size)
                .init(device),
            pre_layer_norm: vision.norm(device),
            tower: vision.tower(VISION, device)?,
            visual_projection: LinearConfig::new(vision.hidden_size, config.projection_dim)
                .with_bias(false)
                .init(device),
        })
    }

    /// Features `[B, P]` of images `[B, 3, S, S]` in the size of the config.
    pub(super) fn forward(&self, pictures: Tensor<4>) -> Tensor<2> {
        let patches = patches(&self.patch_embedding, pictures);
        let [batch, _, width] = patches.dims();
        let class = self.class_embedding.val().reshape([1, 1, width]).repeat_dim(0, batch);
        let positions = self.position_embedding.weight.val().unsqueeze();
        let embedded = Tensor::cat(vec![class, patches], 1) + positions;
        let feature = self.tower.class_feature(self.pre_layer_norm.forward(embedded));
        self.visual_projection.forward(feature)
    }
}
