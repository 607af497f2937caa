//! Loads one component of a folder.

use editmgt_core::config::UnknownKeys;
use editmgt_core::{MgtTransformer, TextEncoder, VqCodec};
use editmgt_sampler::{SchedulerConfig, Timesteps};
use editmgt_transformer::{MgtConfig, MgtModel, TransformerConfig};

use super::codec::open_codec;
use super::component::read_scheduler;
use super::text::{LoadedText, open_text};
use super::transformer::{StoredTransformer, read_transformer};
use crate::error::ModelError;
use crate::model::folder::ModelFolder;
use crate::model::options::LoadOptions;

/// Single components, for use without an editor, for instance in training.
impl ModelFolder {
    /// Loads a transformer of Meissonic's family, with its config. All of its weights have the
    /// dtype of the options, as training requires.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load); [`ModelError::Folder`] for another family.
    pub fn load_transformer(
        &self,
        options: &LoadOptions,
    ) -> Result<(MgtConfig, MgtModel), ModelError> {
        let config = read_transformer(self, options)?;
        let stored = StoredTransformer::open(self, &config, options)?;
        match (config, stored) {
            (
                TransformerConfig::Meissonic(config) | TransformerConfig::Muddit(config),
                StoredTransformer::Meissonic { model, .. },
            ) => Ok((config, model.load()?)),
            _ => {
                let problem = "expected a transformer of Meissonic's family (Transformer2DModel), got UVit2DModel";
                Err(ModelError::folder(&self.transformer, problem))
            }
        }
    }

    /// Loads the transformer of whatever family, all of its weights in the dtype of the options.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_any_transformer(
        &self,
        options: &LoadOptions,
    ) -> Result<Box<dyn MgtTransformer>, ModelError> {
        let config = read_transformer(self, options)?;
        Ok(match StoredTransformer::open(self, &config, options)? {
            StoredTransformer::Meissonic { model, .. } => Box::new(model.load()?),
            StoredTransformer::Amused(model) => Box::new(model.load()?),
        })
    }

    /// Loads the codec.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_codec(&self, options: &LoadOptions) -> Result<Box<dyn VqCodec>, ModelError> {
        open_codec(self.weights(&self.vqvae, options)?, options)?.load()
    }

    /// Loads the text encoder named in the transformer's config.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_text(&self, options: &LoadOptions) -> Result<Box<dyn TextEncoder>, ModelError> {
        Ok(self.load_text_encoder(options)?.into_boxed())
    }

    /// As [`load_text`](Self::load_text), with the concrete type.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_text_encoder(&self, options: &LoadOptions) -> Result<LoadedText, ModelError> {
        let config = read_transformer(self, options)?;
        open_text(self, config.text_encoder_architecture(), options)?.load()
    }

    /// Reads the config of the scheduler.
    ///
    /// # Errors
    /// [`ModelError`] naming the file.
    pub fn read_scheduler(&self) -> Result<SchedulerConfig, ModelError> {
        read_scheduler(&self.scheduler, UnknownKeys::Refuse, Timesteps::default())
    }
}
