//! Loading a model from its folder.

use super::base::LoraFiles;
use super::folder::ModelFolder;
use super::loaded::Model;
use super::options::LoadOptions;
use super::stored::StoredModel;
use crate::custom::CustomParts;
use crate::error::ModelError;
use crate::lora::{LoraUse, open_loras};

impl Model {
    /// Loads every component of a folder, one tensor at a time.
    ///
    /// On flex in f32, transformer and text encoder keep matrices stored in f16 or bf16 in that
    /// dtype: they are widened on use, with bit-for-bit equal results in half the memory.
    ///
    /// # Errors
    /// [`ModelError`] naming the file, and for weights all missing, unused and mis-shaped keys;
    /// [`ModelError::Disagree`] for components of different models.
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
        let (stored, loras) = open(folder, options, loras)?;
        stored.load()?.model(&loras)
    }

    /// Opens a folder without reading its weights: each stage loads its component on demand,
    /// evicting the previous one, so that only one component is in memory at a time. CLIP and
    /// Gemma2 are two components, and so are the codec's encoder and decoder. Results are
    /// bit-for-bit equal; each edit loads every component once (and the decoder and the transformer
    /// again for each preview), which counts as time of the waiting stage.
    ///
    /// Configs, tokenisers and adapters are read now, and keys and shapes are checked. A component
    /// whose config or weights have changed (by its
    /// [`checkpoint_identity`](crate::checkpoint_identity)) when it is loaded later is refused.
    /// Concurrent edits would evict each other's components: run them sequentially.
    ///
    /// # Errors
    /// Those of [`load_with_loras`](Self::load_with_loras). A failure to read weights later is an
    /// error of the stage: [`Error::Stage`](editmgt_core::Error::Stage) with a [`ModelError`],
    /// which an edit returns as [`EditError::Model`](crate::EditError::Model).
    pub fn on_demand(
        folder: &ModelFolder,
        options: &LoadOptions,
        loras: &[LoraUse],
    ) -> Result<Self, ModelError> {
        let (stored, loras) = open(folder, options, loras)?;
        stored.on_demand(loras)
    }
}

fn open(
    folder: &ModelFolder,
    options: &LoadOptions,
    loras: &[LoraUse],
) -> Result<(StoredModel, LoraFiles), ModelError> {
    let loras = open_loras(loras)?;
    let stored = StoredModel::open(folder, options, &loras, &CustomParts::default())?;
    Ok((stored, loras))
}
