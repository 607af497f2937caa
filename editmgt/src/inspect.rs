//! Describes a model from its headers alone: nothing is loaded, however large it is.

use std::path::Path;

use editmgt_checkpoint::{ComponentSummary, WeightFiles};
use serde::Serialize;

use crate::error::ModelError;
use crate::folder::ModelFolder;

/// The parts of a model, and their sum.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// Each component with weights, by name.
    pub components: Vec<(&'static str, ComponentSummary)>,
    /// All of them together.
    pub total: ComponentSummary,
}

impl ModelSummary {
    /// Every line of a table: the components, then the total.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &ComponentSummary)> {
        let components = self.components.iter().map(|(name, summary)| (*name, summary));
        components.chain([("total", &self.total)])
    }
}

/// Reads the headers of every component's weights.
///
/// # Errors
/// [`ModelError`] naming the file.
pub fn inspect(root: &Path) -> Result<ModelSummary, ModelError> {
    let folder = ModelFolder::open(root)?;
    let mut components = Vec::new();
    for (name, dir) in folder.components() {
        components.push((name, WeightFiles::open(dir)?.summary()?));
    }
    let mut total = ComponentSummary::default();
    for (_, summary) in &components {
        total.add(summary);
    }
    Ok(ModelSummary { components, total })
}
