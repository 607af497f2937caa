//! The transformer without its weights.

use editmgt_checkpoint::WeightBits;
use editmgt_core::KeyMap;
use editmgt_sampler::Timesteps;
use editmgt_transformer::{MgtModel, TransformerConfig, UVit2DModel};

use super::component::{Stored, read_component};
use crate::error::ModelError;
use crate::lora::{LoraError, LoraFile, LoraUse};
use crate::model::folder::ModelFolder;
use crate::model::options::LoadOptions;

/// The transformer of the class that the folder's config names.
pub(crate) enum StoredTransformer {
    /// `keys` are the names of its layers in adapters.
    Meissonic { model: Box<Stored<MgtModel>>, keys: KeyMap },
    /// Takes no adapters.
    Amused(Box<Stored<UVit2DModel>>),
}

impl StoredTransformer {
    /// Compares keys and shapes with those of the config.
    pub(super) fn open(
        folder: &ModelFolder,
        config: &TransformerConfig,
        options: &LoadOptions,
    ) -> Result<Self, ModelError> {
        let (dir, device) = (&folder.transformer, &options.device);
        let files = folder.weights(dir, options)?;
        let (keys, dtype) = (config.keys(), options.dtype.transformer.into());
        Ok(match config {
            TransformerConfig::Amused(config) => {
                let model = Stored::open(files, dtype, || Ok((keys, config.init(device)?)))?;
                Self::Amused(Box::new(model))
            }
            TransformerConfig::Meissonic(config) | TransformerConfig::Muddit(config) => {
                let build = || Ok((keys.clone(), config.init(device)?));
                let model = Box::new(Stored::open(files, dtype, build)?);
                Self::Meissonic { model, keys }
            }
            other => {
                let problem = format!("the transformer's family is not loaded here: {other:?}");
                return Err(ModelError::folder(dir, problem));
            }
        })
    }

    /// Checks the adapters against it.
    pub(super) fn check(&self, loras: &[(LoraUse, LoraFile)]) -> Result<(), ModelError> {
        for (choice, file) in loras {
            match self {
                Self::Meissonic { model, keys } => {
                    let streams = choice.streams.unwrap_or(file.streams);
                    file.for_model(&model.unloaded, keys, choice.scale, streams)?;
                }
                Self::Amused(_) => {
                    return Err(LoraError::Unsupported {
                        path: choice.path.clone(),
                        key: "the model of an adapter",
                        expected: "a transformer of Meissonic's family (Transformer2DModel)",
                        got: "UVit2DModel".into(),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    /// As [`Stored::for_inference`].
    pub(super) fn for_inference(self, options: &LoadOptions) -> Result<Self, ModelError> {
        Ok(match self {
            Self::Meissonic { model, keys } => {
                Self::Meissonic { model: Box::new(model.for_inference(options)?), keys }
            }
            Self::Amused(model) => Self::Amused(Box::new(model.for_inference(options)?)),
        })
    }

    pub(super) fn bits(&self) -> Option<WeightBits> {
        match self {
            Self::Meissonic { model, .. } => model.bits(),
            Self::Amused(model) => model.bits(),
        }
    }
}

pub(super) fn read_transformer(
    folder: &ModelFolder,
    options: &LoadOptions,
) -> Result<TransformerConfig, ModelError> {
    read_component(&folder.transformer, options, TransformerConfig::from_json_with)
}

/// The timestep input of a model whose scheduler has no key for it.
pub(super) fn timesteps_of(config: Option<&TransformerConfig>) -> Timesteps {
    match config {
        Some(TransformerConfig::Muddit(_)) => Timesteps::RemainingShare,
        _ => Timesteps::default(),
    }
}
