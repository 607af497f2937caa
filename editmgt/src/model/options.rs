//! Loading options and the origin of a model.

use std::fmt;

use burn::tensor::Device;
use editmgt_backends::{DeviceError, DtypePolicy};
use editmgt_checkpoint::WeightBits;
use editmgt_core::config::UnknownKeys;
use serde::{Deserialize, Serialize};

use super::quantization::ModelQuantization;
use crate::error::ModelError;
use crate::lora::{LoraFile, LoraSource, LoraUse};

/// Device and precision of a model, and how its files are read.
///
/// ```
/// use editmgt::{Dtype, DtypePolicy, LoadOptions};
///
/// # fn main() -> Result<(), editmgt::DeviceError> {
/// let device = editmgt::open_device("cpu")?;
/// let options = LoadOptions::new(device, DtypePolicy::uniform(Dtype::F32)).variant("fp16");
/// assert_eq!(options.variant.as_deref(), Some("fp16"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The device of every component.
    pub device: Device,
    /// The precision of each component.
    pub dtype: DtypePolicy,
    /// The variant of the weights to read, `fp16` for `*.fp16.safetensors`. A component that does
    /// not have it is read from its plain files, but one must have it. Without one the plain files
    /// are read, or the only variant that there is.
    pub variant: Option<String>,
    /// What happens to keys of configs that this program doesn't know.
    pub unknown_keys: UnknownKeys,
    /// Quantises the weights of transformer and text encoders while they are read, to these bits:
    /// see [`quantize_model`](crate::quantize_model), which does so once and for all. A component
    /// that is stored so is read as it is.
    pub quantize: Option<WeightBits>,
}

impl LoadOptions {
    /// Reads the plain files, and refuses unknown keys.
    pub fn new(device: Device, dtype: DtypePolicy) -> Self {
        Self { device, dtype, variant: None, unknown_keys: UnknownKeys::Refuse, quantize: None }
    }

    /// Sets [`variant`](Self::variant).
    #[must_use]
    pub fn variant(self, variant: impl Into<String>) -> Self {
        Self { variant: Some(variant.into()), ..self }
    }

    /// Whether keys of configs that this program doesn't know are ignored, in place of being errors
    /// (default: no). For keys that don't change the results.
    #[must_use]
    pub fn accept_unknown_keys(self, accept: bool) -> Self {
        Self { unknown_keys: UnknownKeys::accept(accept), ..self }
    }
}

impl LoadOptions {
    /// Sets [`quantize`](Self::quantize).
    #[must_use]
    pub fn quantize(self, bits: WeightBits) -> Self {
        Self { quantize: Some(bits), ..self }
    }

    /// This device, in the precision that suits it.
    ///
    /// # Errors
    /// [`DeviceError`] when it can't compute in any.
    pub fn for_device(device: Device) -> Result<Self, DeviceError> {
        let dtype = DtypePolicy::choose(&device, None)?;
        Ok(Self::new(device, dtype))
    }
}

/// What a model was loaded from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelSource {
    /// Identity: see [`identity`](crate::identity).
    pub sha256: String,
    /// The precision of each component.
    pub dtype: DtypePolicy,
    /// The bits of components whose weights are quantised.
    #[serde(default, skip_serializing_if = "ModelQuantization::is_none")]
    pub quantization: ModelQuantization,
    /// The LoRA adapters that it was loaded with, in order.
    #[serde(default)]
    pub loras: Vec<LoraSource>,
}

impl ModelSource {
    pub(crate) fn new(
        sha256: String,
        dtype: DtypePolicy,
        quantization: ModelQuantization,
        loras: &[(LoraUse, LoraFile)],
    ) -> Result<Self, ModelError> {
        let loras = loras.iter().map(|(choice, file)| LoraSource::read(choice, file));
        let loras = loras.collect::<Result<_, _>>()?;
        Ok(Self { sha256, dtype, quantization, loras })
    }

    /// Whether it is the same model with the same adapters and the same quantised weights, whatever
    /// the dtypes.
    pub fn is_same(&self, other: &Self) -> bool {
        let loras = self.loras.iter().zip(&other.loras);
        self.sha256 == other.sha256
            && self.quantization == other.quantization
            && self.loras.len() == other.loras.len()
            && loras.into_iter().all(|(a, b)| a.is_same(b))
    }
}

impl fmt::Display for ModelSource {
    /// The beginning of its identity, the quantised components, and the adapters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model {:.12}", self.sha256)?;
        if !self.quantization.is_none() {
            write!(f, " ({})", self.quantization)?;
        }
        self.loras.iter().try_for_each(|lora| write!(f, " with the {lora}"))
    }
}
