#![forbid(unsafe_code)]
//! stub
use burn::tensor::{DType, Device};
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(String);
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dtype {
    #[default]
    F32,
    F16,
    Bf16,
}
impl std::str::FromStr for Dtype {
    type Err = BackendError;
    fn from_str(s: &str) -> Result<Self, BackendError> {
        Ok(match s {
            "f32" => Self::F32,
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            _ => return Err(BackendError(s.into())),
        })
    }
}
impl From<Dtype> for DType {
    fn from(d: Dtype) -> DType {
        match d {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
        }
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DtypePolicy {
    pub transformer: Dtype,
    pub vq: Dtype,
    pub text: Dtype,
}
impl DtypePolicy {
    pub fn uniform(d: Dtype) -> Self {
        Self { transformer: d, vq: d, text: d }
    }
    pub fn check(&self, _: &Device) -> Result<(), BackendError> {
        Ok(())
    }
}
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeviceInfo {
    pub name: String,
}
impl std::fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}
pub fn available() -> Vec<DeviceInfo> {
    vec![]
}
pub fn open(_: &str) -> Result<Device, BackendError> {
    Ok(Device::flex())
}
