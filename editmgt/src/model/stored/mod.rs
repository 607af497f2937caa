//! The components of a model folder without their weights.

mod codec;
mod component;
mod single;
mod text;
mod transformer;

use std::sync::Arc;

use editmgt_core::{MgtTransformer, TextEncoder, VqCodec};

use codec::open_codec;
pub(crate) use codec::{StoredCodec, codec_factor};
pub(crate) use component::Stored;
use component::read_scheduler;
pub use component::{load_component, read_config};
pub use text::LoadedText;
pub(crate) use text::{StoredClip, StoredText};
use text::{open_text, text_architecture};
pub(crate) use transformer::StoredTransformer;
use transformer::{read_transformer, timesteps_of};

use super::base::{BaseModel, BaseTransformer, ModelMetadata};
use super::folder::ModelFolder;
use super::identity::variant_identity;
use super::kind::ModelKind;
use super::options::LoadOptions;
use super::quantization::ModelQuantization;
use crate::custom::CustomParts;
use crate::error::ModelError;
use crate::lora::{LoraFile, LoraUse};
use crate::request::EditDefaults;

/// A component of the folder, or one of the user's own in its place.
pub(crate) enum Part<S, T: ?Sized> {
    Stored(S),
    Own(Arc<T>),
}

/// An unloaded model: all of a folder except the weights.
pub(crate) struct StoredModel {
    pub(crate) transformer: Part<StoredTransformer, dyn MgtTransformer>,
    pub(crate) codec: Part<StoredCodec, dyn VqCodec>,
    pub(crate) text: Part<StoredText, dyn TextEncoder>,
    pub(crate) metadata: ModelMetadata,
}

impl StoredModel {
    /// Reads everything that is small and that `parts` don't replace, and compares all keys and
    /// shapes, those of the adapters, too: a mistake should not cost a minute of loading.
    pub(crate) fn open(
        folder: &ModelFolder,
        options: &LoadOptions,
        loras: &[(LoraUse, LoraFile)],
        parts: &CustomParts,
    ) -> Result<Self, ModelError> {
        let defaults = match &parts.defaults {
            Some(defaults) => defaults.clone(),
            None => EditDefaults::read(&folder.root)?,
        };
        let (transformer, config) = match &parts.transformer {
            Some(own) => (Part::Own(own.clone()), None),
            None => {
                let config = read_transformer(folder, options)?;
                let stored = StoredTransformer::open(folder, &config, options)?;
                stored.check(loras)?;
                let stored = stored.for_inference(options)?;
                (Part::Stored(stored), Some(config))
            }
        };
        let text = match &parts.text {
            Some(own) => Part::Own(own.clone()),
            None => {
                let architecture = match &config {
                    Some(config) => config.text_encoder_architecture().clone(),
                    None => text_architecture(folder, options)?,
                };
                Part::Stored(open_text(folder, &architecture, options)?)
            }
        };
        let [text_encoder, llm_encoder] = match &text {
            Part::Stored(text) => text.bits(),
            Part::Own(_) => [None; 2],
        };
        let quantization = ModelQuantization {
            transformer: match &transformer {
                Part::Stored(transformer) => transformer.bits(),
                Part::Own(_) => None,
            },
            text_encoder,
            llm_encoder,
        };
        Ok(Self {
            codec: match &parts.codec {
                Some(own) => Part::Own(own.clone()),
                None => Part::Stored(open_codec(folder.weights(&folder.vqvae, options)?, options)?),
            },
            text,
            metadata: ModelMetadata {
                root: folder.root.clone(),
                scheduler: match parts.scheduler {
                    Some(scheduler) => scheduler,
                    None => {
                        let timesteps = timesteps_of(config.as_ref());
                        read_scheduler(&folder.scheduler, options.unknown_keys, timesteps)?
                    }
                },
                defaults,
                kind: match &parts.transformer {
                    Some(_) => ModelKind::Custom,
                    None => ModelKind::read(&folder.transformer)?,
                },
                source: if parts.change_model() {
                    None
                } else {
                    let sha256 = variant_identity(folder, options.variant.as_deref())?;
                    Some((sha256, options.dtype, quantization))
                },
                device: options.device.clone(),
            },
            transformer,
        })
    }

    /// Loads every component, one tensor at a time.
    pub(crate) fn load(self) -> Result<BaseModel, ModelError> {
        let Self { transformer, codec, text, metadata } = self;
        Ok(BaseModel {
            transformer: match transformer {
                Part::Stored(StoredTransformer::Meissonic { model, keys }) => {
                    BaseTransformer::Loaded { model: Box::new(model.load()?), keys }
                }
                Part::Stored(StoredTransformer::Amused(model)) => {
                    BaseTransformer::Own(Arc::new(model.load()?))
                }
                Part::Own(own) => BaseTransformer::Own(own),
            },
            codec: match codec {
                Part::Stored(codec) => codec.load()?.into(),
                Part::Own(own) => own,
            },
            text: match text {
                Part::Stored(text) => text.load()?.into_boxed().into(),
                Part::Own(own) => own,
            },
            metadata,
        })
    }
}
