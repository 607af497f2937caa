//! DINO: image features of the first (`ViTModel`) or second version (`Dinov2Model`).

mod config;
mod model;

use std::path::Path;

use burn::tensor::{DType, Device};
use editmgt::config::UnknownKeys;
use editmgt::{ModelError, checkpoint_identity, read_config};
use editmgt_checkpoint::{WeightFiles, load_module};
use image::RgbImage;

use self::config::{DinoConfig, DinoKind};
use self::model::DinoModel;
use super::preparation::{Preparation, Processor};
use crate::encoders::Result;

/// Files that determine the features, besides the weights.
const FILES: [&str; 3] = ["config.json", Preparation::FILE, Preparation::ALL_FILE];

/// A DINO checkpoint with its image preprocessing.
pub struct Dino {
    model: DinoModel,
    preparation: Preparation,
    device: Device,
    sha256: String,
}

impl Dino {
    /// Loads the `ViTModel` or `Dinov2Model` in the folder `dir`: `config.json`, weights in one
    /// safetensors file or in shards, and `preprocessor_config.json`. Weights are held as f32.
    ///
    /// # Errors
    /// [`ModelError`] for a file that is missing or malformed, another kind of model, keys or
    /// shapes that don't match the config, or preprocessing to another size than a `ViTModel`'s.
    pub fn open(dir: &Path, device: &Device) -> Result<Self, ModelError> {
        Self::open_with(dir, device, UnknownKeys::Refuse)
    }

    /// As [`open`](Self::open), with configs read as strictly as `unknown_keys` says.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); with [`UnknownKeys::Accept`] none for an unknown key.
    pub fn open_with(
        dir: &Path,
        device: &Device,
        unknown_keys: UnknownKeys,
    ) -> Result<Self, ModelError> {
        let parse = |text: &str| DinoConfig::from_json(text, unknown_keys);
        let config = read_config(dir, "config.json", parse)?;
        let preparation = match config.kind {
            DinoKind::Vit => {
                let preparation = Preparation::read(dir, Processor::Vit, unknown_keys)?;
                preparation.check_square(config.tower.image_size)?;
                preparation
            }
            DinoKind::Dinov2 => {
                let preparation = Preparation::read(dir, Processor::Clip, unknown_keys)?;
                preparation.check_patch(config.tower.patch_size)?;
                preparation
            }
        };
        let bad_config = |cause| ModelError::Config { path: dir.join("config.json"), cause };
        let model = DinoModel::new(&config, device).map_err(bad_config)?;
        Ok(Self {
            model: load_module(model, &WeightFiles::open(dir)?, &config.keys(), DType::F32)?,
            preparation,
            device: device.clone(),
            sha256: checkpoint_identity(dir, &FILES)?,
        })
    }

    /// Image features, one row per image: the class token after the last norm, not normalised.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt::Error::Shape) for an image without pixels,
    /// [`Error::Device`](editmgt::Error::Device) for a device that fails.
    pub fn images(&self, pictures: &[&RgbImage]) -> Result<Vec<Vec<f32>>> {
        self.preparation.batches(pictures, &self.device, |batch| self.model.forward(batch))
    }

    /// Identity of the checkpoint: see [`checkpoint_identity`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
