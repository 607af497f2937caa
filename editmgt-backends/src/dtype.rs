use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::{DeviceError, device};

/// A float type that models can run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits: exact against the official numbers.
    F32,
    /// 16 bits, fine steps, largest value 65504.
    F16,
    /// 16 bits, coarse steps, the range of f32.
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

    /// Those that `device` can store, convert and compute with. Opens the device.
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
    /// The masked generative transformer, where the time goes.
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

    /// The types to run in on `device`: transformer and text encoder in `requested`, which by
    /// default is f32 on a CPU, and on a GPU bf16 where it can. The codec stays in f32: it runs
    /// once, it is small, and a code is the nearest of thousands, which rounding would change.
    ///
    /// # Errors
    /// [`DeviceError::Dtype`] where the device can't compute with `requested`.
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

    /// Checks that `device` can compute with all three.
    ///
    /// # Errors
    /// [`DeviceError::Dtype`] for the first that it can't.
    pub fn check(&self, device: &Device) -> Result<(), DeviceError> {
        [self.transformer, self.vq, self.text].iter().try_for_each(|dtype| dtype.check(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        assert_eq!("float16".parse(), Ok(Dtype::F16));
        let error = "int8".parse::<Dtype>().unwrap_err().to_string();
        assert!(error.contains("int8") && error.contains("bf16"), "{error}");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn flex_runs_in_all_of_them_and_in_f32_by_default() {
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
