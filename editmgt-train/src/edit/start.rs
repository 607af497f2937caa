//! The initial model of a fine-tuning run.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use editmgt::{Dtype, DtypePolicy, LoadOptions, ModelFolder};
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_core::TextEncoder;
use editmgt_text::{SmallText, SmallTextConfig, WordTokenizer};
use editmgt_transformer::{MgtConfig, MgtModel, TextArchitecture};

use super::export::MODEL;
use crate::run::TrainError;

/// A model from a folder, in f32.
pub(super) struct Start {
    pub(super) folder: ModelFolder,
    pub(super) config: MgtConfig,
    /// On the training device.
    pub(super) transformer: MgtModel,
    pub(super) text: StartText,
}

/// The text encoder of a model.
pub(super) enum StartText {
    /// A small one can be trained.
    Small(Box<SmallStart>),
    /// Any other is frozen.
    Frozen(Box<dyn TextEncoder>),
}

/// A small text encoder, on the training device.
pub(super) struct SmallStart {
    pub(super) config: SmallTextConfig,
    pub(super) module: SmallText,
    pub(super) tokenizer: WordTokenizer,
}

impl Start {
    /// Loads the model in `path`: its own folder, or that of the run that made it.
    ///
    /// # Errors
    /// A folder without a model, weights that don't fit, a run without a result.
    pub(super) fn load(path: &Path, learning: &Device) -> Result<Self, TrainError> {
        let folder = ModelFolder::open(&model_to_start_from(path))?;
        let (config, transformer) = folder.load_transformer(&f32_on(learning))?;
        let text = match config.text_encoder_architecture {
            TextArchitecture::Small => small_text(&folder, learning)?,
            _ => StartText::Frozen(folder.load_text(&f32_on(&learning.clone().inner()))?),
        };
        Ok(Self { folder, config, transformer, text })
    }
}

/// The folder of the model: `path`, or the result's folder within a run's folder.
pub(super) fn model_to_start_from(path: &Path) -> PathBuf {
    if path.join("config.toml").is_file() { path.join(MODEL) } else { path.to_owned() }
}

/// All in f32: half precision is too coarse for gradients.
pub(super) fn f32_on(device: &Device) -> LoadOptions {
    LoadOptions::new(device.clone(), DtypePolicy::uniform(Dtype::F32))
}

fn small_text(folder: &ModelFolder, learning: &Device) -> Result<StartText, TrainError> {
    let path = folder.text_encoder.join("config.json");
    let text = editmgt_store::read_text(&path)?;
    let config = SmallTextConfig::from_json(&text)?;
    let files = WeightFiles::open(&folder.text_encoder)?;
    let module = load_module(config.init(learning)?, &files, &config.keys(), DType::F32)?;
    let tokenizer = WordTokenizer::open(&folder.tokenizer, config.max_position_embeddings)
        .map_err(editmgt::ModelError::from)?;
    Ok(StartText::Small(Box::new(SmallStart { config, module, tokenizer })))
}
