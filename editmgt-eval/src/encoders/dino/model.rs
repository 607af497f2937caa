use burn::module::{Initializer, Module, Param};
use burn::nn::conv::Conv2d;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};
use editmgt::config::ConfigError;

use super::config::{COMPONENT, DinoConfig};
use crate::encoders::tower::{Tower, patches};

/// A vision transformer. Dimensions of size 1 are as in the checkpoint.
#[derive(Module, Debug)]
pub(super) struct DinoModel {
    cls_token: Param<Tensor<3>>,
    position_embeddings: Param<Tensor<3>>,
    patch_embedding: Conv2d,
    tower: Tower,
    /// Patches per side of the learned position grid.
    learned: usize,
    patch_size: usize,
}

impl DinoModel {
    /// The model with uninitialised weights.
    pub(super) fn new(config: &DinoConfig, device: &Device) -> Result<Self, ConfigError> {
        let tower = &config.tower;
        Ok(Self {
            cls_token: Initializer::Zeros.init([1, 1, tower.hidden_size], device),
            position_embeddings: Initializer::Zeros
                .init([1, tower.positions(), tower.hidden_size], device),
            patch_embedding: tower.patch_embedding(true, device),
            tower: tower.tower(COMPONENT, device)?,
            learned: tower.patches(tower.image_size),
            patch_size: tower.patch_size,
        })
    }

    /// Features `[B, D]` of images `[B, 3, H, W]` of at least a patch.
    pub(super) fn forward(&self, pictures: Tensor<4>) -> Tensor<2> {
        let [batch, _, height, width] = pictures.dims();
        let grid = [height / self.patch_size, width / self.patch_size];
        let class = self.cls_token.val().repeat_dim(0, batch);
        let rows = Tensor::cat(vec![class, patches(&self.patch_embedding, pictures)], 1);
        self.tower.class_feature(rows + self.positions(grid))
    }

    /// Position embeddings of a grid of patches, `[1, 1 + N, D]`: the learned ones, bicubically
    /// interpolated for another grid.
    fn positions(&self, grid: [usize; 2]) -> Tensor<3> {
        let learned = self.position_embeddings.val();
        let side = self.learned;
        if grid == [side; 2] {
            return learned;
        }
        let [_, rows, width] = learned.dims();
        let class = learned.clone().narrow(1, 0, 1);
        let plane = learned.narrow(1, 1, rows - 1).swap_dims(1, 2).reshape([1, width, side, side]);
        let options = InterpolateOptions::new(InterpolateMode::Bicubic)
            .with_output_size(grid)
            .with_align_corners(false);
        let plane = interpolate(plane, options).flatten::<3>(2, 3).swap_dims(1, 2);
        Tensor::cat(vec![class, plane], 1)
    }
}
