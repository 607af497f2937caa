use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::{DeviceError, device};

/// A float type of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits: reproduces the official results.
    F32,
    /// 16 bits, 11 of precision, largest value 65504.
    F16,
    /// 16 bits, 8 of precision, the range of f32.
    Bf16,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Its name: `f32`, `f16` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The types that `device` can store, convert and compute with. Opens the device.
    pub fn supported(device: &Device) -> Vec<Self> {
        Self::ALL.into_iter().filter(|&dtype| device.supports_dtype(DType::from(dtype))).collect()
    }

    /// Checks that `device` can store, convert and compute with it. Opens the device.
    ///
    /// # Errors
    /// [`DeviceError::Dtype`] with what the device supports.
    pub fn check(self, device: &Device) -> Result<(), DeviceError> {
        let supported = Self::supported(device);
        if supported.contains(&self) {
            return Ok(());
        }
        Err(DeviceError::Dtype { requested: self, supported })
    }
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "f32" | "fp32" | "float32" => Ok(Self::F32),
            "f16" | "fp16" | "float16" => Ok(Self::F16),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            _ => Err(DeviceError::UnknownDtype { name: name.to_owned() }),
        }
    }
}

/// What the products of linear layers are computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Compute {
    /// As the dtype says.
    #[default]
    Dtype,
    /// 8 bits: weights are rounded for each output channel, activations for each row as they are
    /// made. Rows with outliers, attention and convolutions are computed in bf16. Only on the CPU
    /// (flex).
    Int8,
}

impl Compute {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Dtype, Self::Int8];

    /// Its name: `dtype` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dtype => "dtype",
            Self::Int8 => "int8",
        }
    }

    /// Whether it is the default.
    pub fn is_dtype(&self) -> bool {
        *self == Self::Dtype
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compute {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let found = Self::ALL.into_iter().find(|compute| compute.name() == name);
        found.ok_or_else(|| DeviceError::UnknownCompute { name: name.to_owned() })
    }
}

/// The float type of each model of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DtypePolicy {
    /// The masked generative transformer, which takes most of the time.
    pub transformer: Dtype,
    /// The VQ codec.
    pub vq: Dtype,
    /// The text encoder.
    pub text: Dtype,
    /// What the linear layers of transformer and text encoder are computed in.
    #[serde(default, skip_serializing_if = "Compute::is_dtype")]
    pub compute: Compute,
}

impl DtypePolicy {
    /// All three models in `dtype`.
    pub fn uniform(dtype: Dtype) -> Self {
        Self { transformer: dtype, vq: dtype, text: dtype, compute: Compute::Dtype }
    }

    /// Transformer and text encoder in `dtype`, the codec in f32.
    pub fn networks(dtype: Dtype) -> Self {
        Self { vq: Dtype::F32, ..Self::uniform(dtype) }
    }

    /// Sets [`compute`](Self::compute).
    #[must_use]
    pub fn with_compute(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// The types to use on `device`: `requested` for transformer and text encoder; the default is
    /// f32 on a CPU, and bf16 on a GPU that supports it. The codec runs in f32: it runs once, it is
    /// small, and rounding would change which of thousands of codes is nearest. On flex its decoder
    /// rounds the operands of products with those of the transformer.
    ///
    /// # Errors
    /// [`DeviceError::Dtype`] if the device doesn't support `requested`.
    pub fn choose(device: &Device, requested: Option<Dtype>) -> Result<Self, DeviceError> {
        let dtype = match requested {
            Some(dtype) => dtype,
            None if !device::is_cpu(device) && Dtype::Bf16.check(device).is_ok() => Dtype::Bf16,
            None => Dtype::F32,
        };
        let policy = Self::networks(dtype);
        policy.check(device)?;
        Ok(policy)
    }

    /// Checks that `device` supports all three, and how they are computed.
    ///
    /// # Errors
    /// [`DeviceError::Dtype`] for the first one that it doesn't support, [`DeviceError::Compute`].
    pub fn check(&self, device: &Device) -> Result<(), DeviceError> {
        // The kernels of the CPU backend, which widen weights, too, are those of int8.
        if !self.compute.is_dtype() && !editmgt_kernels::widens(device) {
            return Err(DeviceError::Compute { requested: self.compute });
        }
        [self.transformer, self.vq, self.text].iter().try_for_each(|dtype| dtype.check(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        assert_eq!("float16".parse(), Ok(Dtype::F16));
        let error = "int8".parse::<Dtype>().unwrap_err().to_string();
        assert!(error.contains("int8") && error.contains("bf16"), "{error}");
    }

    #[test]
    fn ways_to_compute_parse_and_print() {
        for compute in Compute::ALL {
            assert_eq!(compute.to_string().parse(), Ok(compute));
        }
        let error = "int4".parse::<Compute>().unwrap_err().to_string();
        assert!(error.contains("int4") && error.contains("int8"), "{error}");
    }

    #[test]
    fn policies_of_older_records_are_read() {
        let old = r#"{"transformer":"bf16","vq":"f32","text":"bf16"}"#;
        let policy = DtypePolicy::networks(Dtype::Bf16);
        assert_eq!(serde_json::from_str::<DtypePolicy>(old).unwrap(), policy);
        assert_eq!(serde_json::to_string(&policy).unwrap(), old);
        let int8 = policy.with_compute(Compute::Int8);
        let text = serde_json::to_string(&int8).unwrap();
        assert_eq!(serde_json::from_str::<DtypePolicy>(&text).unwrap(), int8);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn flex_supports_all_dtypes_and_defaults_to_f32() {
        let device = Device::flex();
        assert_eq!(DtypePolicy::choose(&device, None), Ok(DtypePolicy::uniform(Dtype::F32)));
        for dtype in Dtype::ALL {
            let policy = DtypePolicy::choose(&device, Some(dtype)).unwrap();
            assert_eq!(policy, DtypePolicy::networks(dtype));
            assert_eq!(policy.with_compute(Compute::Int8).check(&device), Ok(()));
        }
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn ndarray_refuses_half_precision() {
        let device = crate::open("ndarray").unwrap();
        let error = DtypePolicy::choose(&device, Some(Dtype::Bf16)).unwrap_err();
        assert_eq!(
            error,
            DeviceError::Dtype { requested: Dtype::Bf16, supported: vec![Dtype::F32] }
        );
        let int8 = DtypePolicy::uniform(Dtype::F32).with_compute(Compute::Int8);
        let error = int8.check(&device).unwrap_err();
        assert_eq!(error, DeviceError::Compute { requested: Compute::Int8 });
    }
}
