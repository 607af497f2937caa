use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DeviceError;

/// A backend of burn that editmgt can be built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backend {
    /// CPU, the reference.
    Flex,
    /// CPU, f32 only: a second implementation to compare with in tests.
    Ndarray,
    /// NVIDIA GPUs.
    Cuda,
    /// Any GPU, through the preferred graphics API of the machine.
    Wgpu,
    /// Any GPU with a Vulkan driver.
    Vulkan,
    /// Apple GPUs.
    Metal,
    /// The browser's GPU.
    Webgpu,
}

impl Backend {
    /// All backends, the default one first, including those that are not in this build.
    pub const ALL: [Self; 7] = [
        Self::Flex,
        Self::Ndarray,
        Self::Cuda,
        Self::Wgpu,
        Self::Vulkan,
        Self::Metal,
        Self::Webgpu,
    ];

    /// Its name, which is also that of its cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Webgpu => "webgpu",
        }
    }

    /// Whether it is in this build.
    pub fn is_built(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Wgpu => cfg!(feature = "wgpu-plain"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Webgpu => cfg!(feature = "webgpu"),
        }
    }

    /// The backends of this build, the default one first.
    pub fn built() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|backend| backend.is_built())
    }

    /// Whether it computes on the CPU.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::Ndarray)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A device by name: a backend, and the index of one of its devices. [Opening](DeviceChoice::open)
/// it checks whether the build and the machine have it.
///
/// ```
/// use editmgt_backends::{Backend, DeviceChoice};
///
/// let second: DeviceChoice = "cuda:1".parse()?;
/// assert_eq!(second, DeviceChoice { backend: Backend::Cuda, index: Some(1) });
/// assert_eq!("cpu".parse::<DeviceChoice>()?.to_string(), "flex");
/// # Ok::<(), editmgt_backends::DeviceError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceChoice {
    /// The backend.
    pub backend: Backend,
    /// Index of the device, in the order of [`available`](crate::available); `None` for the
    /// backend's default.
    pub index: Option<usize>,
}

impl DeviceChoice {
    /// The default device: that of the first backend of [`Backend::ALL`] in this build.
    pub fn preferred() -> Option<Self> {
        Backend::built().next().map(|backend| Self { backend, index: None })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => self.backend.fmt(f),
            Some(index) => write!(f, "{}:{index}", self.backend),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    /// Parses `flex`, `cpu` (an alias of `flex`), `cuda`, `cuda:1`, `wgpu`, …
    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown { name: name.to_owned() };
        let (backend, index) = match name.split_once(':') {
            None => (name, None),
            Some((backend, index)) => (backend, Some(index.parse().map_err(|_| unknown())?)),
        };
        let backend = match backend {
            "cpu" => Backend::Flex,
            other => Backend::ALL
                .into_iter()
                .find(|backend| backend.name() == other)
                .ok_or_else(unknown)?,
        };
        Ok(Self { backend, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for backend in Backend::ALL {
            for name in [backend.name().to_owned(), format!("{backend}:3")] {
                assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
            }
        }
        for bad in ["", "gpu", "Flex", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", ":1", " flex"] {
            let error = bad.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("flex"), "{error}");
        }
    }
}
