//! Runs a stage on the inputs of a golden folder and compares the outputs with the expected values:
//! the way to check a port of a checkpoint, a backend or a codec.
//!
//! The format of a golden folder is described in `docs/golden-format.md`.

mod clip;
mod compare;
mod gemma2;
mod golden;
mod localisation;
mod pipeline;
mod preproc;
mod scheduler;
mod shared;
mod tokenizers;
mod transformer;
mod uvit;
mod vq;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use editmgt::{ModelError, read_config};
use editmgt_transformer::TransformerConfig;
use serde::Serialize;

pub use compare::{Comparison, Measure};
pub use golden::{GoldenFolder, GoldenTensor};

/// Why a folder cannot be verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The golden file or its manifest is malformed.
    #[error("{}: {message}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A stage rejected the golden inputs.
    #[error(transparent)]
    Stage(#[from] editmgt_core::Error),
    /// A component cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A component rejects its files.
    #[error(transparent)]
    Component(Box<dyn std::error::Error + Send + Sync>),
}

impl VerifyError {
    /// A malformed golden file.
    pub fn golden(path: PathBuf, message: String) -> Self {
        Self::Golden { path, message }
    }

    /// A component that rejects its files.
    pub fn component(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Component(Box::new(error))
    }
}

/// The stage that a golden folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GoldenStage {
    /// Encode, quantize, decode.
    VqCodec,
    /// The MGT's forward pass and its attention capture.
    Transformer,
    /// CLIP's text tower.
    Clip,
    /// Gemma2's hidden states.
    Gemma2,
    /// Both tokenisers.
    Tokenizers,
    /// The unmasking step.
    Scheduler,
    /// Attention to score map to held tokens.
    Localisation,
    /// Photo to tensor.
    ImagePreparation,
    /// The whole pipeline.
    Pipeline,
}

impl GoldenStage {
    /// Detects the stage by the folder's contents.
    ///
    /// # Errors
    /// [`VerifyError::Golden`] for unknown contents.
    pub fn of(folder: &GoldenFolder) -> Result<Self, VerifyError> {
        let dir = folder.dir();
        let config = std::fs::read_to_string(dir.join("config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
        let class = config["_class_name"].as_str().or(config["model_type"].as_str());
        Ok(match class {
            _ if dir.join("pipeline.json").is_file() => Self::Pipeline,
            Some("VQModel") => Self::VqCodec,
            Some("Transformer2DModel" | "SymmetricTransformer2DModel" | "UVit2DModel") => {
                Self::Transformer
            }
            Some("clip_text_model") => Self::Clip,
            Some("gemma2") => Self::Gemma2,
            _ if dir.join("clip_tokenizer").is_dir() => Self::Tokenizers,
            _ if dir.join("scheduler_config.json").is_file() => Self::Scheduler,
            _ if folder.has("raw") => Self::Localisation,
            _ if folder.has("in0") => Self::ImagePreparation,
            _ => {
                let message = "no stage known by this config.json or these tensors; \
                               see docs/golden-format.md";
                return Err(VerifyError::golden(dir.to_owned(), message.into()));
            }
        })
    }
}

/// Result of one folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// The folder.
    pub folder: PathBuf,
    /// The stage.
    pub stage: GoldenStage,
    /// All comparisons; never empty.
    pub comparisons: Vec<Comparison>,
}

impl Verification {
    /// Whether every comparison passed.
    pub fn pass(&self) -> bool {
        self.comparisons.iter().all(|comparison| comparison.pass)
    }
}

/// Runs the stage of `dir` on `device`, in f32.
///
/// # Errors
/// [`VerifyError`] when the folder cannot be verified; a wrong number is a failed comparison, not
/// an error.
pub fn verify(dir: &Path, device: &Device) -> Result<Verification, VerifyError> {
    verify_variant(dir, device, None)
}

/// The same, where a pipeline's components are read in a [variant](editmgt::LoadOptions::variant).
///
/// # Errors
/// Those of [`verify`].
pub fn verify_variant(
    dir: &Path,
    device: &Device,
    variant: Option<&str>,
) -> Result<Verification, VerifyError> {
    if let Some(verification) = shared::verify(dir)? {
        return Ok(verification);
    }
    let folder = GoldenFolder::open(dir)?;
    let stage = GoldenStage::of(&folder)?;
    let comparisons = match stage {
        GoldenStage::VqCodec => vq::verify(&folder, device),
        GoldenStage::Transformer => {
            match read_config(dir, "config.json", TransformerConfig::from_json)? {
                TransformerConfig::Amused(config) => uvit::verify(&folder, &config, device),
                config => transformer::verify(&folder, &config, device),
            }
        }
        GoldenStage::Clip => clip::verify(&folder, device),
        GoldenStage::Gemma2 => gemma2::verify(&folder, device),
        GoldenStage::Tokenizers => tokenizers::verify(&folder),
        GoldenStage::Scheduler => scheduler::verify(&folder, device),
        GoldenStage::Localisation => localisation::verify(&folder),
        GoldenStage::ImagePreparation => preproc::verify(&folder, device),
        GoldenStage::Pipeline => pipeline::verify(&folder, device, variant),
    }?;
    if comparisons.is_empty() {
        let message = "nothing to compare: no tensor has a name known to this stage";
        return Err(VerifyError::golden(dir.to_owned(), message.into()));
    }
    Ok(Verification { folder: dir.to_owned(), stage, comparisons })
}
