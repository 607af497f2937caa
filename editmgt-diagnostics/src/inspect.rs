//! Describes a model by its headers only: no weights are loaded.

use std::path::Path;

use editmgt::{
    EditDefaults, Job, ModelError, ModelFolder, ModelKind, WeightBits, variant_identity,
};
use editmgt_backends::Dtype;
use editmgt_checkpoint::ComponentSummary;
use editmgt_core::config::UnknownKeys;
use serde::Serialize;

/// The parts of a model, and their sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// The summary of each component with weights, by name.
    pub components: Vec<(&'static str, ComponentSummary)>,
    /// The total.
    pub total: ComponentSummary,
    /// Identity of the model, see [`editmgt::identity`].
    pub sha256: String,
    /// Its family, by its transformer's config.
    pub family: String,
    /// What it was trained for, by its folder or its family.
    pub trained_for: Vec<Job>,
    /// The model's default options, if its folder has any.
    pub defaults: EditDefaults,
}

impl ModelSummary {
    /// The lines of a table: the components, then the total.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &ComponentSummary)> {
        let components = self.components.iter().map(|(name, summary)| (*name, summary));
        components.chain([("total", &self.total)])
    }

    /// Bytes of the weights of a line of [`rows`](Self::rows) when the model is loaded in `dtype`:
    /// all but the codec's, which [`DtypePolicy::choose`](editmgt::DtypePolicy::choose) keeps in
    /// f32. 0 for an unknown name. Activations are not included. In f32 it is an upper bound: on
    /// flex, [half-precision matrices keep their dtype](editmgt::Model::load).
    pub fn memory(&self, row: &str, dtype: Dtype) -> u64 {
        let rows = self.components.iter().filter(|(name, _)| row == "total" || row == *name);
        rows.map(|(name, summary)| match *name {
            "vqvae" => summary.memory(Dtype::F32.into()),
            _ => summary.memory(dtype.into()),
        })
        .sum()
    }

    /// Bytes of the weights of a line of [`rows`](Self::rows) with those of linear layers in
    /// `bits`, by [`LoadOptions::quantize`](editmgt::LoadOptions::quantize) on the CPU: all but the
    /// codec's.
    pub fn memory_quantized(&self, row: &str, bits: WeightBits) -> u64 {
        let rows = self.components.iter().filter(|(name, _)| row == "total" || row == *name);
        rows.map(|(name, summary)| match *name {
            "vqvae" => summary.memory(Dtype::F32.into()),
            _ => summary.memory_quantized(bits),
        })
        .sum()
    }
}

/// Reads the headers of every component's weights, and the model's defaults.
///
/// # Errors
/// [`ModelError`] naming the file.
pub fn inspect(root: &Path) -> Result<ModelSummary, ModelError> {
    inspect_variant(root, None)
}

/// The same of a [variant](editmgt::LoadOptions::variant) of the weights.
///
/// # Errors
/// [`ModelError`] naming the file.
pub fn inspect_variant(root: &Path, variant: Option<&str>) -> Result<ModelSummary, ModelError> {
    inspect_accepting(root, variant, UnknownKeys::Refuse)
}

/// The same, also of a pipeline of an unknown class if unknown keys are accepted.
///
/// # Errors
/// [`ModelError`] naming the file.
pub fn inspect_accepting(
    root: &Path,
    variant: Option<&str>,
    unknown: UnknownKeys,
) -> Result<ModelSummary, ModelError> {
    let folder = ModelFolder::open_accepting(root, unknown)?;
    let mut components = Vec::new();
    for (name, dir) in folder.components() {
        components.push((name, folder.variant_weights(dir, variant)?.summary()?));
    }
    let defaults = EditDefaults::read(&folder.root)?;
    let sha256 = variant_identity(&folder, variant)?;
    let kind = ModelKind::read(&folder.transformer)?;
    let trained_for = defaults.trained_for.as_deref().unwrap_or(kind.trained_for()).to_vec();
    let total = components.iter().map(|(_, summary)| summary).sum();
    let family = kind.to_string();
    Ok(ModelSummary { components, total, sha256, family, trained_for, defaults })
}

#[cfg(test)]
mod tests {
    use editmgt::identity;

    use super::*;
    use crate::init::{InitRequest, Preset, init};

    #[test]
    fn identity_depends_on_weights_dtypes_and_configs() {
        let root = tempfile::tempdir().unwrap();
        let model = |name: &str, dtype, seed| {
            let path = root.path().join(name);
            init(&path, &InitRequest { preset: Preset::Tiny, dtype, seed }).unwrap();
            ModelFolder::open(&path).unwrap()
        };
        let first = model("a", Dtype::F16, 1);
        let sha256 = identity(&first).unwrap();
        assert_eq!(sha256.len(), 64);
        assert_eq!(identity(&model("b", Dtype::F16, 1)).unwrap(), sha256, "another place");
        assert_ne!(identity(&model("c", Dtype::F16, 2)).unwrap(), sha256, "another training");
        assert_ne!(identity(&model("d", Dtype::Bf16, 1)).unwrap(), sha256, "another dtype");
        let config = first.scheduler.join("scheduler_config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text + "\n").unwrap();
        assert_ne!(identity(&first).unwrap(), sha256, "another config");
    }
}
