//! The loaded parts of a model, each behind its trait.

use std::fmt;
use std::path::Path;

use burn::tensor::Device;
use editmgt_backends::DtypePolicy;
use editmgt_core::{MgtTransformer, TextEncoder, VqCodec};
use editmgt_sampler::SchedulerConfig;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::folder::ModelFolder;
use crate::lora::{LoraFile, LoraSource, LoraUse};
use crate::request::EditDefaults;
use crate::stored::StoredModel;

/// Where a model lives and in which precision.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The device of every component.
    pub device: Device,
    /// The precision of each component.
    pub dtype: DtypePolicy,
}

/// A loaded model. Any part can be replaced by your own before an [`Editor`](crate::Editor) is
/// made of it.
pub struct Model {
    /// Photo to tokens and back.
    pub codec: Box<dyn VqCodec>,
    /// Instruction to features.
    pub text: Box<dyn TextEncoder>,
    /// Tokens to logits.
    pub transformer: Box<dyn MgtTransformer>,
    /// How many tokens are fixed when.
    pub scheduler: SchedulerConfig,
    /// How it wants to be used.
    pub defaults: EditDefaults,
    /// What it was loaded from, for reports; not checked against the parts, so take it away (or
    /// set your own) when you replace one. `None` for parts of your own.
    pub source: Option<ModelSource>,
    /// Where the tensors live.
    pub device: Device,
}

/// What a model was loaded from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSource {
    /// Tells models apart: see [`identity`](crate::identity).
    pub sha256: String,
    /// The precision of each component.
    pub dtype: DtypePolicy,
    /// The LoRA adapters that it was loaded with, in order.
    #[serde(default)]
    pub loras: Vec<LoraSource>,
}

impl ModelSource {
    pub(crate) fn new(
        sha256: String,
        dtype: DtypePolicy,
        loras: &[(LoraUse, LoraFile)],
    ) -> Result<Self, ModelError> {
        let loras = loras.iter().map(|(choice, file)| LoraSource::read(choice, file));
        Ok(Self { sha256, dtype, loras: loras.collect::<Result<_, _>>()? })
    }

    /// Whether it is the same model with the same adapters, whatever the precision.
    pub fn is_same(&self, other: &Self) -> bool {
        let loras = self.loras.iter().zip(&other.loras);
        self.sha256 == other.sha256
            && self.loras.len() == other.loras.len()
            && loras.into_iter().all(|(a, b)| a.is_same(b))
    }
}

impl fmt::Display for ModelSource {
    /// The first digits of its identity, and the adapters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model {:.12}", self.sha256)?;
        self.loras.iter().try_for_each(|lora| write!(f, " with the {lora}"))
    }
}

impl Model {
    /// Loads every component of a folder, one tensor at a time.
    ///
    /// On flex in f32, matrices of transformer and text encoder that are stored in f16 or bf16 stay so: they
    /// are widened where they are used, which gives the same results, bit for bit, in half the memory.
    ///
    /// # Errors
    /// [`ModelError`] naming the file, and for weights all missing, unused and mis-shaped keys;
    /// [`ModelError::Disagree`] when the components are not of one model.
    pub fn load(folder: &ModelFolder, options: &LoadOptions) -> Result<Self, ModelError> {
        Self::load_with_loras(folder, options, &[])
    }

    /// Loads every component of a folder, and LoRA adapters into the transformer.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`ModelError::Lora`] for an adapter that is malformed or for
    /// another model.
    pub fn load_with_loras(
        folder: &ModelFolder,
        options: &LoadOptions,
        loras: &[LoraUse],
    ) -> Result<Self, ModelError> {
        StoredModel::open(folder, options, loras)?.load()
    }

    /// Opens a folder without reading its weights: each stage reads its own when it is needed, and
    /// lets go of them when another one is, so that one component at a time is in memory. CLIP and
    /// Gemma2 are two. Edits come out the same, bit for bit; each costs the time of loading every
    /// component once and the codec twice (and the codec and the transformer again for each
    /// preview), which counts as the time of the stage that had to wait.
    ///
    /// Configs, tokenisers and adapters are read now, and keys and shapes are compared. A component
    /// whose config or weights have changed (as [`checkpoint_identity`](crate::checkpoint_identity)
    /// tells) when it is read later is refused. Edits that run at once would take the components
    /// from each other: let them follow each other.
    ///
    /// # Errors
    /// Those of [`load_with_loras`](Self::load_with_loras). What goes wrong when weights are read
    /// is an error of that stage: [`Error::Stage`](editmgt_core::Error::Stage) with a
    /// [`ModelError`], which an edit gives as [`EditError::Model`](crate::EditError::Model).
    pub fn on_demand(
        folder: &ModelFolder,
        options: &LoadOptions,
        loras: &[LoraUse],
    ) -> Result<Self, ModelError> {
        StoredModel::open(folder, options, loras)?.on_demand()
    }

    /// The model, when its parts and its defaults belong together; `root` is where it is from.
    pub(crate) fn checked(self, root: &Path) -> Result<Self, ModelError> {
        self.check()?;
        let blocks = self.transformer.spec().blocks();
        match self.defaults.check_for(blocks, self.pixels_per_cell()) {
            Ok(()) => Ok(self),
            Err(source) => Err(ModelError::Config { path: root.join(EditDefaults::FILE), source }),
        }
    }

    /// What both sides of the pictures that it works on are multiples of.
    pub fn pixels_per_cell(&self) -> usize {
        self.codec.spec().downsample_factor * self.transformer.spec().grid_factor
    }

    /// Checks that the parts belong together; [`load`](Self::load) has done so.
    ///
    /// # Errors
    /// [`ModelError::Disagree`] with the two numbers.
    pub fn check(&self) -> Result<(), ModelError> {
        let transformer = self.transformer.spec();
        let (codec, text) = (self.codec.spec(), self.text.spec());
        let numbers = [
            ("codebook size", transformer.codebook_size, "codec", codec.codebook_size),
            ("text width", transformer.text_size, "text encoder", text.hidden_size),
            ("pooled text width", transformer.pooled_size, "text encoder", text.pooled_size),
            (
                "mask token",
                transformer.mask_token as usize,
                "scheduler",
                self.scheduler.mask_token_id as usize,
            ),
        ];
        for (what, left_value, right, right_value) in numbers {
            if left_value != right_value {
                let left = "transformer";
                return Err(ModelError::Disagree { what, left, left_value, right, right_value });
            }
        }
        Ok(())
    }
}
