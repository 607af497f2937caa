//! Writes a complete model with random weights in the official layout.
//!
//! It does not edit sensibly; it is for measuring speed and memory, for testing a device or a
//! deployment without a download, and as the start of a training from scratch. The tokenisers are
//! byte-level without merges, because the released ones may not be redistributed.

mod configs;
mod tokenizers;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use burn::tensor::Device;
use editmgt::{EditError, ModelError};
use editmgt_backends::Dtype;
use editmgt_checkpoint::{CheckpointError, TensorSpec, WriteOptions, module_tensors, write_random};
use editmgt_core::config::ConfigError;
use editmgt_store::{StagedFolder, StoreError};
use editmgt_text::{ClipTextConfig, Gemma2Config};
use editmgt_transformer::{MgtConfig, UVit2DConfig};
use editmgt_vq::VqConfig;

pub(crate) use configs::Configs;

/// Sizes of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The official model: 14 + 28 blocks of width 1024, the 146M codec, CLIP ViT-H/14 and
    /// Gemma2-2B. 7.6 GB in bf16.
    Full,
    /// The same architecture in miniature, under 4 MB: runs anywhere in seconds.
    Tiny,
    /// Meissonic's architecture in miniature: a base that was not trained to edit, with CLIP only.
    MeissonicTiny,
    /// aMUSEd's in miniature, in the layout of its repositories.
    AmusedTiny,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 4] = [Self::Full, Self::Tiny, Self::MeissonicTiny, Self::AmusedTiny];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Tiny => "tiny",
            Self::MeissonicTiny => "meissonic-tiny",
            Self::AmusedTiny => "amused-tiny",
        }
    }
}

impl FromStr for Preset {
    type Err = EditError;

    fn from_str(name: &str) -> Result<Self, EditError> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            EditError::option("preset", format!("one of {names}"), name)
        })
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Request of an initialisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitRequest {
    /// The sizes.
    pub preset: Preset,
    /// The dtype of every weight.
    pub dtype: Dtype,
    /// Seed of the weights.
    pub seed: u64,
}

/// Writes the model into `out`, tensor by tensor: peak memory is the largest tensor.
///
/// The folder is made under a temporary name beside `out` and renamed when it is complete.
///
/// # Errors
/// [`ModelError::Folder`] when `out` exists and is not an empty folder, [`ModelError::Io`] and
/// [`ModelError::Weights`] when writing fails; then nothing is left behind.
pub fn init(out: &Path, request: &InitRequest) -> Result<(), ModelError> {
    let folder = |error| match error {
        StoreError::NotEmpty { path } => {
            ModelError::folder(path, "exists and is not empty; name a new folder")
        }
        StoreError::NoFolder { path, folder } => {
            let problem =
                format!("the folder {} does not exist; create it first", folder.display());
            ModelError::folder(path, problem)
        }
        error => error.into(),
    };
    let staging = StagedFolder::new(out).map_err(folder)?;
    write(staging.path(), request)?;
    staging.publish()?;
    Ok(())
}

fn write(root: &Path, request: &InitRequest) -> Result<(), ModelError> {
    let configs = Configs::of(request.preset);
    for &(component, name) in configs.components() {
        let dir = folder(root, component)?;
        let tensors = tensors(&configs, component, &dir)?;
        let options = WriteOptions::new(name, request.dtype.into());
        write_random(&dir, &tensors, &options, request.seed)?;
        write_text(&dir.join("config.json"), &configs.text(component))?;
    }
    write_text(
        &folder(root, "scheduler")?.join("scheduler_config.json"),
        &configs.text("scheduler"),
    )?;
    tokenizers::write_clip(&folder(root, "tokenizer")?, configs.clip_vocab())?;
    if configs.edits() {
        tokenizers::write_gemma(&root.join("llm_encoder"))?;
    }
    if configs.is_amused() {
        write_text(&root.join("model_index.json"), &configs.text("model_index"))?;
    }
    Ok(())
}

/// Keys and shapes of a component's checkpoint. Allocates nothing: parameters of a module are
/// created at the first use, and these are never used.
fn tensors(configs: &Configs, component: &str, dir: &Path) -> Result<Vec<TensorSpec>, ModelError> {
    let config = &configs.text(component);
    // Any device works: the modules are listed, not run.
    let device = Device::default();
    let listed = || -> Result<Result<Vec<TensorSpec>, CheckpointError>, ConfigError> {
        Ok(match component {
            "transformer" if configs.is_amused() => {
                let config = UVit2DConfig::from_json(config)?;
                module_tensors(&config.init(&device)?, &config.keys())
            }
            "editmgt" | "transformer" => {
                let config = MgtConfig::from_json(config)?;
                module_tensors(&config.init(&device)?, &config.keys())
            }
            "vqvae" => {
                let config = VqConfig::from_json(config)?;
                module_tensors(&config.init(&device)?, &config.keys())
            }
            "text_encoder" => {
                let config = ClipTextConfig::from_json(config)?;
                module_tensors(&config.init(&device)?, &config.keys())
            }
            _ => {
                let config = Gemma2Config::from_json(config)?;
                module_tensors(&config.init_complete(&device)?, &config.keys())
            }
        })
    };
    let path = dir.join("config.json");
    Ok(listed().map_err(|cause| ModelError::Config { path, cause })??)
}

fn folder(root: &Path, name: &str) -> Result<std::path::PathBuf, ModelError> {
    let dir = root.join(name);
    std::fs::create_dir_all(&dir).map_err(ModelError::io(&dir))?;
    Ok(dir)
}

fn write_text(path: &Path, text: &str) -> Result<(), ModelError> {
    std::fs::write(path, text).map_err(ModelError::io(path))
}
