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

/// The float type of each model of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtypePolicy {
    /// The masked generative transformer, which takes most of the time.
    pub transformer: Dtype,
    /// The VQ codec.
    pub vq: Dtype,
    /// The text encoder.
    pub text: Dtype,
}

impl DtypePolicy {
    /// All three models in `dtype`.
    pub fn uniform(dtype: Dtype) -> Self {
        Self { transformer: dtype, vq: dtype, text: dtype }
    }

    /// The types to use on `device`: `requested` for transformer and text encoder; the default is
    /// f32 on a CPU, and bf16 on a GPU that supports it. The codec runs in f32: it runs once, it is
    /// small, and rounding would change which of thousands of codes is nearest.
    ///
    /// # Errors
    /// [`DeviceError::Dtype`] if the device doesn't support `requested`.
    pub fn choose(device: &Device, requested: Option<Dtype>) -> Result<Self, DeviceError> {
        let dtype = match requested {
            Some(dtype) => dtype,
            None if !device::is_cpu(device) && Dtype::Bf16.check(device).is_ok() => Dtype::Bf16,
            None => Dtype::F32,
        };
        let policy = Self { transformer: dtype, vq: Dtype::F32, text: dtype };
        policy.check(device)?;
        Ok(policy)
    }

    /// Checks that `device` supports all three.
    ///
    /// # Errors
    /// [`DeviceError::Dtype`] for the first one that it doesn't support.
    pub fn check(&self, device: &Device) -> Result<(), DeviceError> {
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

    #[cfg(feature = "flex")]
    #[test]
    fn flex_supports_all_dtypes_and_defaults_to_f32() {
        let device = Device::flex();
        assert_eq!(DtypePolicy::choose(&device, None), Ok(DtypePolicy::uniform(Dtype::F32)));
        for dtype in Dtype::ALL {
            let policy = DtypePolicy::choose(&device, Some(dtype)).unwrap();
            assert_eq!(policy, DtypePolicy { vq: Dtype::F32, ..DtypePolicy::uniform(dtype) });
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
    }
}
