use std::fmt;
use std::fs::{self, File};

use editmgt_transformer::LoraStreams;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AdapterFiles, LoraError, LoraFile, LoraUse};
use crate::model::identity::{digits, part, weights};

/// An adapter that a model was loaded with: enough to know it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSource {
    /// What its folder or file is called.
    pub name: String,
    /// Tells adapters apart: a SHA-256 over its `adapter_config.json`, where it has one, and, of its weights, what
    /// [`identity`](crate::identity) looks at.
    pub sha256: String,
    /// How much of it: see [`LoraUse::scale`].
    pub scale: f32,
    /// The rows that it changes.
    pub streams: LoraStreams,
}

impl LoraSource {
    pub(crate) fn read(choice: &LoraUse, file: &LoraFile) -> Result<Self, LoraError> {
        let mut hash = Sha256::new();
        let AdapterFiles { config, weights: path } = AdapterFiles::find(&choice.path)?;
        if let Some(config) = config {
            part(&mut hash, &fs::read(&config).map_err(LoraError::io(&config))?);
        }
        weights(&mut hash, || File::open(&path)).map_err(LoraError::io(&path))?;
        Ok(Self {
            name: choice.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: digits(hash),
            scale: choice.scale,
            streams: choice.streams.unwrap_or(file.streams),
        })
    }

    /// Whether it is the same adapter, used in the same way, whatever its folder is called.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.sha256, self.scale, self.streams) == (&other.sha256, other.scale, other.streams)
    }
}

impl fmt::Display for LoraSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = match self.streams {
            LoraStreams::Image => "image",
            LoraStreams::Reference => "reference",
            LoraStreams::Both => "both",
        };
        // Its name may come from a file: nothing that steers a terminal.
        write!(f, "LoRA adapter {:?} (scale {}, streams {streams})", self.name, self.scale)
    }
}
