//! Loading options and the origin of a model.

use std::fmt;

use burn::tensor::Device;
use editmgt_backends::{DeviceError, DtypePolicy};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::lora::{LoraFile, LoraSource, LoraUse};

/// Device and precision of a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The device of every component.
    pub device: Device,
    /// The precision of each component.
    pub dtype: DtypePolicy,
}

impl LoadOptions {
    /// This device, in the precision that suits it.
    ///
    /// # Errors
    /// [`DeviceError`] when it can't compute in any.
    pub fn new(device: Device) -> Result<Self, DeviceError> {
        let dtype = DtypePolicy::choose(&device, None)?;
        Ok(Self { device, dtype })
    }
}

/// What a model was loaded from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSource {
    /// Identity: see [`identity`](crate::identity).
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
    /// The beginning of its identity, and the adapters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model {:.12}", self.sha256)?;
        self.loras.iter().try_for_each(|lora| write!(f, " with the {lora}"))
    }
}
