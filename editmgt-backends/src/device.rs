//! Finds and opens devices.
//!
//! A graphics driver may be missing, or fail in its first computation, and then a backend panics.
//! Both become a [`DeviceError`]. A driver that ends the process, and a build with `panic =
//! "abort"`, can't be handled. (A caught panic still calls the panic hook, which prints it unless
//! the program has set another one.) A program that has to survive such a driver calls
//! [`available_on`] in a child process, as `editmgt devices` does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Device, Tensor};
use editmgt_store::panic_text;
use serde::{Deserialize, Serialize};

use crate::{Backend, DeviceChoice, DeviceError, Dtype};

/// A device of this build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// The name that [`open`] takes.
    pub name: String,
    /// Its backend.
    pub backend: Backend,
    /// Whether it is the default device.
    pub default: bool,
    /// Whether it works, and its capabilities.
    pub state: DeviceState,
}

/// Whether a device works, and its capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// It works.
    Ready {
        /// Its name from the driver, if available.
        hardware: Option<String>,
        /// The float types that it can store, convert and compute with.
        dtypes: Vec<Dtype>,
        /// Total memory in bytes, if known; burn can't query that of a GPU.
        memory: Option<u64>,
    },
    /// It doesn't work.
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl DeviceInfo {
    /// A backend that doesn't work.
    pub fn unavailable(backend: Backend, reason: impl Into<String>) -> Self {
        let choice = DeviceChoice { backend, index: None };
        Self::new(choice, true, DeviceState::Unavailable { reason: reason.into() })
    }

    fn new(choice: DeviceChoice, first: bool, state: DeviceState) -> Self {
        let preferred = DeviceChoice::preferred().map(|choice| choice.backend);
        let default = first && preferred == Some(choice.backend);
        Self { name: choice.to_string(), backend: choice.backend, default, state }
    }
}

/// All devices of this build. Opens each GPU and runs a small computation on it; a backend without
/// a device on this machine is listed once, as unavailable.
pub fn available() -> Vec<DeviceInfo> {
    Backend::built().flat_map(available_on).collect()
}

/// The devices of one backend, as in [`available`]. Never empty.
pub fn available_on(backend: Backend) -> Vec<DeviceInfo> {
    let choice = |index| DeviceChoice { backend, index };
    let choices: Vec<_> = match caught(|| gpus(backend).len()) {
        Ok(count) if count > 0 => (0..count).map(|index| choice(Some(index))).collect(),
        // A CPU, or an error that opening will report.
        _ => vec![choice(None)],
    };
    let infos = choices.into_iter().enumerate();
    infos.map(|(i, choice)| DeviceInfo::new(choice, i == 0, choice.inspect())).collect()
}

/// Opens the default device, [`DeviceChoice::preferred`].
///
/// # Errors
/// Those of [`open`]; for a build without backends the error names the feature to enable.
pub fn open_default() -> Result<Device, DeviceError> {
    match DeviceChoice::preferred() {
        Some(choice) => choice.open(),
        None => open("cpu"),
    }
}

/// Opens a device by name: `flex`, `cpu` (an alias of `flex`), `cuda`, `cuda:1`, `wgpu`, …
///
/// A GPU is tested with a small computation. That fixes its default dtypes, so `Device::configure`
/// has no effect on it afterwards; create tensors with an explicit dtype instead.
///
/// # Errors
/// An unknown name, a backend that is not in this build, a device that is missing or does not work.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    name.parse::<DeviceChoice>()?.open()
}

impl DeviceChoice {
    /// Opens the device, as [`open`] does.
    ///
    /// # Errors
    /// As [`open`], except for unknown names.
    pub fn open(self) -> Result<Device, DeviceError> {
        let name = self.to_string();
        if !self.backend.is_built() {
            return Err(DeviceError::NotBuilt { name, backend: self.backend });
        }
        match caught(|| self.find()) {
            Err(reason) => Err(DeviceError::Broken { name, reason }),
            Ok(Err(found)) => Err(DeviceError::NotFound { name, found }),
            Ok(Ok(device)) if self.backend.is_cpu() => Ok(device),
            Ok(Ok(device)) => match caught(|| test_device(&device)).flatten() {
                Ok(()) => Ok(device),
                Err(reason) => Err(DeviceError::Broken { name, reason }),
            },
        }
    }

    /// The device, or the number of devices of its backend.
    fn find(self) -> Result<Device, usize> {
        let (device, found) = if self.backend.is_cpu() {
            (cpu(self.backend).filter(|_| self.index.is_none_or(|index| index == 0)), 1)
        } else {
            let mut gpus = gpus(self.backend);
            let found = gpus.len();
            let device = match self.index {
                Some(index) if index < found => Some(gpus.swap_remove(index)),
                None if found > 0 => preferred_gpu(self.backend),
                _ => None,
            };
            (device, found)
        };
        device.ok_or(found)
    }

    fn inspect(self) -> DeviceState {
        let device = match self.open() {
            Ok(device) => device,
            Err(error) => return DeviceState::Unavailable { reason: error.to_string() },
        };
        let memory = if self.backend.is_cpu() { crate::memory::host_memory() } else { None };
        match caught(|| (hardware(&device), Dtype::supported(&device))) {
            Ok((hardware, dtypes)) => DeviceState::Ready { hardware, dtypes, memory },
            Err(reason) => DeviceState::Unavailable { reason },
        }
    }
}

/// Whether a device computes on the CPU.
pub(crate) fn is_cpu(device: &Device) -> bool {
    Backend::built().filter_map(cpu).any(|cpu| cpu == *device)
}

/// The backend of a device. Enumerates GPUs only if it is not a CPU device.
pub(crate) fn backend(device: &Device) -> Option<Backend> {
    let on_cpu = |backend: &Backend| cpu(*backend).is_some_and(|cpu| cpu == *device);
    let on_gpu = |backend: &Backend| {
        preferred_gpu(*backend).is_some_and(|gpu| gpu == *device) || gpus(*backend).contains(device)
    };
    Backend::built().find(on_cpu).or_else(|| Backend::built().find(on_gpu))
}

/// The device of a CPU backend of this build.
fn cpu(backend: Backend) -> Option<Device> {
    match backend {
        #[cfg(feature = "flex")]
        Backend::Flex => Some(Device::flex()),
        // Deprecated upstream, but the only other CPU backend to compare flex with.
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        Backend::Ndarray => Some(Device::ndarray()),
        _ => None,
    }
}

/// The GPUs of a backend of this build; empty without a driver.
fn gpus(backend: Backend) -> Vec<Device> {
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec(),
        #[cfg(feature = "wgpu-plain")]
        Backend::Wgpu => Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec(),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => Device::enumerate(burn::tensor::DeviceType::Vulkan).into_vec(),
        #[cfg(feature = "metal")]
        Backend::Metal => Device::enumerate(burn::tensor::DeviceType::Metal).into_vec(),
        #[cfg(feature = "webgpu")]
        Backend::Webgpu => Device::enumerate(burn::tensor::DeviceType::WebGpu).into_vec(),
        _ => Vec::new(),
    }
}

/// The default GPU of a backend of this build.
fn preferred_gpu(backend: Backend) -> Option<Device> {
    #[cfg(feature = "wgpu-plain")]
    use burn::tensor::DeviceKind::DefaultDevice;
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda => Some(Device::cuda(burn::tensor::DeviceIndex::Default)),
        #[cfg(feature = "wgpu-plain")]
        Backend::Wgpu => Some(Device::wgpu(DefaultDevice)),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => Some(Device::vulkan(DefaultDevice)),
        #[cfg(feature = "metal")]
        Backend::Metal => Some(Device::metal(DefaultDevice)),
        #[cfg(feature = "webgpu")]
        Backend::Webgpu => Some(Device::webgpu(DefaultDevice)),
        _ => None,
    }
}

/// The driver's name of the device.
#[cfg(any(feature = "cuda", feature = "wgpu-plain"))]
pub(crate) fn hardware(device: &Device) -> Option<String> {
    device.identity().map(|identity| identity.name)
}

/// Only GPU backends have one.
#[cfg(not(any(feature = "cuda", feature = "wgpu-plain")))]
pub(crate) fn hardware(_device: &Device) -> Option<String> {
    None
}

/// Multiplies two small matrices.
fn test_device(device: &Device) -> Result<(), String> {
    let matrix = Tensor::<2>::from_data([[1.0f32, 2.0], [3.0, 4.0]], (device, DType::F32));
    let square = matrix.clone().matmul(matrix);
    let values = square.try_into_vec_as::<f32>().map_err(|e| e.to_string())?;
    if values == [7.0, 10.0, 15.0, 22.0] {
        return Ok(());
    }
    Err(format!("[[1, 2], [3, 4]] squared gives {values:?}"))
}

/// Runs code that may panic in a backend.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_text(&*panic).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
    #[test]
    fn flex_is_the_default_and_ready() {
        let infos = available();
        let defaults: Vec<_> = infos.iter().filter(|info| info.default).collect();
        let [DeviceInfo { name, state, .. }] = defaults[..] else { panic!("{infos:?}") };
        assert_eq!(name, "flex");
        let DeviceState::Ready { dtypes, .. } = state else { panic!("{state:?}") };
        assert!(DeviceInfo::unavailable(Backend::Flex, "broken").default);
        assert!(!DeviceInfo::unavailable(Backend::Cuda, "broken").default);
        assert_eq!(dtypes[..], Dtype::ALL);
        for name in ["flex", "flex:0", "cpu"] {
            assert_eq!(open(name), Ok(Device::flex()));
        }
    }

    #[test]
    fn ready_devices_open_and_others_do_not() {
        for info in available() {
            let ready = matches!(info.state, DeviceState::Ready { .. });
            assert_eq!(open(&info.name).is_ok(), ready, "{info:?}");
        }
    }

    #[test]
    fn open_explains_unknown_missing_and_unbuilt_devices() {
        assert!(matches!(open("gpu"), Err(DeviceError::Unknown { .. })));
        for backend in Backend::ALL {
            let error = open(&format!("{backend}:999")).unwrap_err();
            let message = error.to_string();
            if backend.is_built() {
                assert!(matches!(error, DeviceError::NotFound { .. }), "{message}");
            } else {
                assert!(message.contains(&format!("--features {backend}")), "{message}");
            }
        }
    }

    #[test]
    fn caught_returns_the_panic_message() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| -> u8 { panic!("no driver") }), Err("no driver".to_owned()));
        let version = 4;
        assert_eq!(caught(|| -> u8 { panic!("needs {version}") }), Err("needs 4".to_owned()));
    }

    #[test]
    fn backend_of_a_device_is_the_one_that_opened_it() {
        for info in available() {
            if let Ok(device) = open(&info.name) {
                assert_eq!(backend(&device), Some(info.backend), "{}", info.name);
            }
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn test_device_passes_on_flex() {
        assert_eq!(test_device(&Device::flex()), Ok(()));
    }
}
