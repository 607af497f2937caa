use std::fmt;
use std::fs::{self, File};

use editmgt_transformer::LoraStreams;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AdapterFiles, LoraError, LoraFile, LoraUse};
use crate::model::identity::{digits, part, weights};

/// Identity and options of an adapter that a model was loaded with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LoraSource {
    /// The name of its folder or file.
    pub name: String,
    /// Identity: a SHA-256 of its `adapter_config.json`, if there is one, and of the parts of its
    /// weights that [`identity`](crate::identity) samples.
    pub sha256: String,
    /// Its scale: see [`LoraUse::scale`].
    pub scale: f32,
    /// The streams that it is applied to.
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

    /// Whether it is the same adapter with the same options, whatever its folder's name.
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
        // Its name may come from a file: escaped against terminal control characters.
        write!(f, "LoRA adapter {:?} (scale {}, streams {streams})", self.name, self.scale)
    }
}
