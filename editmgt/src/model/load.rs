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
        let (stored, loras) = open(folder, options, loras)?;
        stored.load()?.model(&loras)
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
