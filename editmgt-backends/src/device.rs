//! Finds and opens devices.
//!
//! A graphics driver is not under our control: it may be missing, or fail in its first
//! computation, and then a backend panics. Both come out of here as a [`DeviceError`]. Out of
//! reach are a driver that ends the process, and a build with `panic = "abort"`; a backend that
//! is not built in is never touched. (A caught panic still passes the panic hook, which prints
//! it unless the program has set another one.) A program that has to survive such a driver asks for
//! [`available_on`] in a process of its own, as `editmgt devices` does.

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
    /// Whether it is the one that is used where none is named.
    pub default: bool,
    /// Whether it works, and what it can do.
    pub state: DeviceState,
}

/// Whether a device works, and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// It works.
    Ready {
        /// What its driver calls it, where it says.
        hardware: Option<String>,
        /// The float types that it can store, convert and compute with.
        dtypes: Vec<Dtype>,
        /// All of its memory in bytes, where that is known: burn has no way to ask a GPU.
        memory: Option<u64>,
    },
    /// It can't be used.
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl DeviceInfo {
    /// A backend that can't be used at all.
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

/// Every device of this build. Each GPU is opened for a small computation, which takes a moment;
/// a backend that finds none on this machine is listed once, as unavailable.
pub fn available() -> Vec<DeviceInfo> {
    Backend::built().flat_map(available_on).collect()
}

/// The devices of one backend, as in [`available`]. Never empty.
pub fn available_on(backend: Backend) -> Vec<DeviceInfo> {
    let choice = |index| DeviceChoice { backend, index };
    let choices: Vec<_> = match caught(|| gpus(backend).len()) {
        Ok(count) if count > 0 => (0..count).map(|index| choice(Some(index))).collect(),
        // A CPU, or an error that opening will tell.
        _ => vec![choice(None)],
    };
    let infos = choices.into_iter().enumerate();
    infos.map(|(i, choice)| DeviceInfo::new(choice, i == 0, choice.inspect())).collect()
}

/// Opens the device that is used where none is named, [`DeviceChoice::preferred`].
///
/// # Errors
/// Those of [`open`]; a build without any backend is told how to get one.
pub fn open_default() -> Result<Device, DeviceError> {
    match DeviceChoice::preferred() {
        Some(choice) => choice.open(),
        None => open("cpu"),
    }
}

/// Opens a device by name: `flex`, `cpu` (which is flex), `cuda`, `cuda:1`, `wgpu`, …
///
/// A GPU is tried out with a small computation. That settles its default dtypes, so
/// `Device::configure` has no effect on it afterwards; create tensors with a dtype instead.
///
/// # Errors
/// A name that no backend has, a backend that is not in this build, a device that is not there or
/// does not work.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    name.parse::<DeviceChoice>()?.open()
}

impl DeviceChoice {
    /// Opens the device, as [`open`] does.
    ///
    /// # Errors
    /// As [`open`], but for the name.
    pub fn open(self) -> Result<Device, DeviceError> {
        let name = self.to_string();
        if !self.backend.is_built() {
            return Err(DeviceError::NotBuilt { name, backend: self.backend });
        }
        match caught(|| self.find()) {
            Err(reason) => Err(DeviceError::Broken { name, reason }),
            Ok(Err(found)) => Err(DeviceError::NotFound { name, found }),
            Ok(Ok(device)) if self.backend.is_cpu() => Ok(device),
            Ok(Ok(device)) => match caught(|| try_out(&device)).flatten() {
                Ok(()) => Ok(device),
                Err(reason) => Err(DeviceError::Broken { name, reason }),
            },
        }
    }

    /// The device, or how many devices its backend has instead.
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
        let memory = if self.backend.is_cpu() { host_memory() } else { None };
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

/// The backend of a device. GPUs are looked for only where it is none of the CPU's.
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
        // Deprecated upstream, and still the only other CPU backend to compare flex with.
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        Backend::Ndarray => Some(Device::ndarray()),
        _ => None,
    }
}

/// The GPUs that a backend of this build finds; none without a driver.
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

/// The GPU that a backend of this build prefers among those that it finds.
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

/// What the driver calls the device.
#[cfg(any(feature = "cuda", feature = "wgpu-plain"))]
pub(crate) fn hardware(device: &Device) -> Option<String> {
    device.identity().map(|identity| identity.name)
}

/// Only GPU backends can tell.
#[cfg(not(any(feature = "cuda", feature = "wgpu-plain")))]
pub(crate) fn hardware(_device: &Device) -> Option<String> {
    None
}

/// Multiplies two small matrices.
fn try_out(device: &Device) -> Result<(), String> {
    let matrix = Tensor::<2>::from_data([[1.0f32, 2.0], [3.0, 4.0]], (device, DType::F32));
    let square = matrix.clone().matmul(matrix);
    let values = square.try_into_vec_as::<f32>().map_err(|e| e.to_string())?;
    if values == [7.0, 10.0, 15.0, 22.0] {
        return Ok(());
    }
    Err(format!("[[1, 2], [3, 4]] squared gives {values:?}"))
}

/// Runs what may panic in a backend.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_text(&*panic).to_owned())
}

/// The machine's memory in bytes, where the system tells it in a file.
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
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
    fn every_device_that_is_ready_can_be_opened() {
        for info in available() {
            let ready = matches!(info.state, DeviceState::Ready { .. });
            assert_eq!(open(&info.name).is_ok(), ready, "{info:?}");
        }
    }

    #[test]
    fn what_can_not_be_opened_says_why() {
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
    fn a_panic_becomes_its_message() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| -> u8 { panic!("no driver") }), Err("no driver".to_owned()));
        let version = 4;
        assert_eq!(caught(|| -> u8 { panic!("needs {version}") }), Err("needs 4".to_owned()));
    }

    #[test]
    fn a_device_has_the_backend_that_opened_it() {
        for info in available() {
            if let Ok(device) = open(&info.name) {
                assert_eq!(backend(&device), Some(info.backend), "{}", info.name);
            }
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_small_computation_is_right() {
        assert_eq!(try_out(&Device::flex()), Ok(()));
    }
}
