//! CLIP (`CLIPModel`): features of pictures and of captions in one space.

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

/// What decides the features, beside the weights.
const FILES: [&str; 7] = [
    "config.json",
    Preparation::FILE,
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// CLIP of the user's: both towers, the tokeniser and the way pictures are prepared.
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
    /// [`ModelError`] for a file that is missing or malformed, a model of another kind, keys or
    /// shapes that are not those of the config, pictures of another size than the model's.
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
        let bad_config = |source| ModelError::Config { path: dir.join("config.json"), source };
        let text = config.text.init(device).map_err(bad_config)?;
        let vision = ClipVision::new(&config, device).map_err(bad_config)?;
        // Each half takes its own keys of the one checkpoint and knows those of the other.
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

    /// Features of pictures in the space of both towers (`get_image_features`), one after the
    /// other, not scaled to length 1.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt::Error::Shape) for a picture without pixels,
    /// [`Error::Device`](editmgt::Error::Device) for a device that fails.
    pub fn images(&self, pictures: &[&RgbImage]) -> Result<Vec<Vec<f32>>> {
        self.preparation.batches(pictures, &self.device, |batch| self.vision.forward(batch))
    }

    /// Features of captions in the space of both towers (`get_text_features`), one after the
    /// other, not scaled to length 1. A caption that is too long loses its tail.
    ///
    /// # Errors
    /// [`Error::Stage`](editmgt::Error::Stage) for a caption that the tokeniser fails on,
    /// [`Error::Device`](editmgt::Error::Device) for a device that fails,
    /// [`Error::Value`](editmgt::Error::Value) and
    /// [`Error::TokenOutOfRange`](editmgt::Error::TokenOutOfRange) for a tokeniser of another
    /// model.
    pub fn captions(&self, captions: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut features = Vec::with_capacity(captions.len());
        for batch in captions.chunks(BATCH) {
            let output = self.text.forward(&self.tokenizer.encode(batch)?)?;
            features.extend(rows(output.text_embeds)?);
        }
        Ok(features)
    }

    /// Tells checkpoints apart: see [`checkpoint_identity`].
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}
