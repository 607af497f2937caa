//! CLIP (`CLIPModel`): features of images and of captions in one space.

mod config;
mod vision;

use std::path::Path;

use burn::tensor::{DType, Device};
use editmgt::config::UnknownKeys;
use editmgt::{ModelError, checkpoint_identity, read_config};
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_text::{ClipText, PromptTokenizer};
use image::RgbImage;

use self::config::ClipConfig;
use self::vision::ClipVision;
use super::BATCH;
use super::preparation::{Preparation, Processor, rows};
use crate::encoders::Result;

/// Files that determine the features, besides the weights.
const FILES: [&str; 8] = [
    "config.json",
    Preparation::FILE,
    Preparation::ALL_FILE,
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// A CLIP checkpoint: both towers, the tokeniser and the image preprocessing.
pub struct Clip {
    text: ClipText,
    tokenizer: PromptTokenizer,
    vision: ClipVision,
    preparation: Preparation,
    device: Device,
    sha256: String,
}

impl Clip {
    /// Loads the `CLIPModel` in the folder `dir`: `config.json`, weights in one safetensors file or
    /// in shards, `preprocessor_config.json`, and the tokeniser's files. Weights are held as f32.
    ///
    /// # Errors
    /// [`ModelError`] for a file that is missing or malformed, another kind of model, keys or
    /// shapes that don't match the config, or preprocessing to another size than the model's.
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
        let parse = |text: &str| ClipConfig::from_json(text, unknown_keys);
        let config = read_config(dir, "config.json", parse)?;
        let preparation = Preparation::read(dir, Processor::Clip, unknown_keys)?;
        preparation.check_square(config.vision.image_size)?;
        let tokenizer =
            PromptTokenizer::clip(dir)?.with_length(config.text.max_position_embeddings)?;
        let bad_config = |cause| ModelError::Config { path: dir.join("config.json"), cause };
        let text = config.text.init(device).map_err(bad_config)?;
        let vision = ClipVision::new(&config, device).map_err(bad_config)?;
        // Each tower reads its own keys of the shared checkpoint and ignores those of the other.
        let weights = WeightFiles::open(dir)?;
        Ok(Self {
            text: load_module(text, &weights, &config.text.keys(), DType::F32)?,
            vision: load_module(vision, &weights, &config.vision_keys(), DType::F32)?,
            tokenizer,
            preparation,
            device: device.clone(),
            sha256: checkpoint_identity(dir, &FILES)?,
        })
    }

    /// Image features in the joint space (`get_image_features`), one row per image, not normalised.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt::Error::Shape) for an image without pixels,
    /// [`Error::Device`](editmgt::Error::Device) for a device that fails.
    pub fn images(&self, pictures: &[&RgbImage]) -> Result<Vec<Vec<f32>>> {
        self.preparation.batches(pictures, &self.device, |batch| self.vision.forward(batch))
    }

    /// Text features in the joint space (`get_text_features`), one row per caption, not normalised.
    /// Captions beyond the maximum length are truncated.
    ///
    /// # Errors
    /// [`Error::Stage`](editmgt::Error::Stage) when the tokeniser fails on a caption,
    /// [`Error::Device`](editmgt::Error::Device) when a device fails,
    /// [`Error::Value`](editmgt::Error::Value) and
    /// [`Error::TokenOutOfRange`](editmgt::Error::TokenOutOfRange) for the tokeniser of another
    /// model.
    pub fn captions(&self, captions: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut features = Vec::with_capacity(captions.len());
        for batch in captions.chunks(BATCH) {
            let output = self.text.forward(&self.tokenizer.encode(batch)?)?;
            features.extend(rows(output.text_embeds)?);
        }
        Ok(features)
    }

    /// Identity of the checkpoint: see [`checkpoint_identity`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
