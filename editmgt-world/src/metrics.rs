use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Named numbers of a step or an evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Adds one number.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<f64>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Merges the numbers of `other`, which take precedence.
    pub fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.0.iter().map(|(name, value)| (name.clone(), *value)));
        self
    }

    /// A number by its name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All numbers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}
