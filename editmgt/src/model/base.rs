//! A loaded model before its LoRA adapters.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use editmgt_backends::DtypePolicy;
use editmgt_core::{KeyMap, MgtTransformer, TextEncoder, VqCodec};
use editmgt_sampler::SchedulerConfig;
use editmgt_transformer::MgtModel;

use super::folder::ModelFolder;
use super::kind::ModelKind;
use super::loaded::Model;
use super::options::{LoadOptions, ModelSource};
use super::quantization::ModelQuantization;
use super::stored::StoredModel;
use crate::custom::CustomParts;
use crate::error::{EditError, ModelError};
use crate::lora::{LoraFile, LoraUse, apply_loras, open_loras};
use crate::request::EditDefaults;

/// Adapters that were read, each with how it is used.
pub(crate) type LoraFiles = Vec<(LoraUse, LoraFile)>;

/// A loaded model before its adapters. A clone shares all tensors.
#[derive(Clone)]
pub(crate) struct BaseModel {
    pub(crate) transformer: BaseTransformer,
    pub(crate) codec: Arc<dyn VqCodec>,
    pub(crate) text: Arc<dyn TextEncoder>,
    pub(crate) metadata: ModelMetadata,
}

#[derive(Clone)]
pub(crate) enum BaseTransformer {
    /// Takes adapters; `keys` names its layers.
    Loaded { model: Box<MgtModel>, keys: KeyMap },
    /// The user's own takes none, nor does one of another family.
    Own(Arc<dyn MgtTransformer>),
}

/// The small parts of a model.
#[derive(Clone)]
pub(crate) struct ModelMetadata {
    pub(crate) root: PathBuf,
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) defaults: EditDefaults,
    pub(crate) kind: ModelKind,
    /// Identity, precision and quantisation; `None` with parts of the user's own.
    pub(crate) source: Option<(String, DtypePolicy, ModelQuantization)>,
    pub(crate) device: Device,
}

impl BaseModel {
    /// A model of the user's own parts only.
    pub(crate) fn of_parts(parts: &CustomParts, device: Device) -> Result<Self, ModelError> {
        let (codec, text, transformer) = parts.all()?;
        let mask_token = transformer.spec().mask_token;
        let scheduler = parts.scheduler.unwrap_or_else(|| SchedulerConfig::new(mask_token));
        let defaults = parts.defaults.clone().unwrap_or_default();
        let metadata = ModelMetadata {
            root: PathBuf::new(),
            scheduler,
            defaults,
            kind: ModelKind::Custom,
            source: None,
            device,
        };
        Ok(Self { transformer: BaseTransformer::Own(transformer), codec, text, metadata })
    }

    /// The model with these adapters, when its parts belong together. A transformer of the user's
    /// own stays as it is.
    pub(crate) fn model(self, loras: &[(LoraUse, LoraFile)]) -> Result<Model, ModelError> {
        let Self { transformer, codec, text, metadata } = self;
        let transformer: Box<dyn MgtTransformer> = match transformer {
            BaseTransformer::Loaded { model, keys } => Box::new(apply_loras(*model, &keys, loras)?),
            BaseTransformer::Own(own) => Box::new(own),
        };
        let source = metadata.source(loras)?;
        metadata.model(transformer, Box::new(codec), Box::new(text), source)
    }
}

impl ModelMetadata {
    /// What the model with these adapters was loaded from.
    pub(crate) fn source(
        &self,
        loras: &[(LoraUse, LoraFile)],
    ) -> Result<Option<ModelSource>, ModelError> {
        let source = self.source.clone();
        let source = source.map(|(sha256, dtype, quantization)| {
            ModelSource::new(sha256, dtype, quantization, loras)
        });
        source.transpose()
    }

    /// The model of these parts, when they belong together.
    pub(crate) fn model(
        self,
        transformer: Box<dyn MgtTransformer>,
        codec: Box<dyn VqCodec>,
        text: Box<dyn TextEncoder>,
        source: Option<ModelSource>,
    ) -> Result<Model, ModelError> {
        let Self { root, scheduler, defaults, kind, source: _, device } = self;
        let model = Model { codec, text, transformer, scheduler, defaults, kind, source, device };
        model.checked(&root)
    }
}

/// How an editor's model gets other adapters.
#[derive(Clone)]
pub(crate) enum Adapters {
    /// They are applied to the transformer as it was loaded.
    Loaded(Arc<BaseModel>),
    /// The folder is opened again; its weights are read when they are needed.
    OnDemand(Arc<Reopen>),
    /// The transformer is the user's own, or of a family that takes none.
    Unsupported,
}

/// What a model that reads its weights when they are needed was opened with.
pub(crate) struct Reopen {
    pub(crate) folder: ModelFolder,
    pub(crate) options: LoadOptions,
    pub(crate) parts: CustomParts,
}

impl Reopen {
    pub(crate) fn model(&self, loras: &[LoraUse]) -> Result<Model, ModelError> {
        let loras = open_loras(loras)?;
        StoredModel::open(&self.folder, &self.options, &loras, &self.parts)?.on_demand(loras)
    }
}

impl Adapters {
    /// `model`, which these adapters belong to, with other adapters; `None` for itself.
    pub(crate) fn model(
        &self,
        model: &Model,
        loras: &[LoraUse],
    ) -> Result<Option<Model>, EditError> {
        match self {
            Self::Loaded(base) => {
                let loras = open_loras(loras).map_err(ModelError::from)?;
                Ok(Some(BaseModel::clone(base).model(&loras)?))
            }
            Self::OnDemand(reopen) => {
                let reopened = reopen.model(loras)?;
                let identity = |model: &Model| model.source.as_ref().map(|s| s.sha256.clone());
                if identity(&reopened) != identity(model) {
                    return Err(ModelError::Changed { dir: reopen.folder.root.clone() }.into());
                }
                Ok(Some(reopened))
            }
            Self::Unsupported if loras.is_empty() => Ok(None),
            Self::Unsupported => Err(own_transformer()),
        }
    }
}

/// Adapters for a transformer that takes none.
pub(crate) fn own_transformer() -> EditError {
    let expected = "a transformer of Meissonic's family that the builder loads";
    EditError::option("lora", expected, "one of your own, or of another family")
}
