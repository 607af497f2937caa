use crate::{Backend, Compute, Dtype};

/// An error in finding, opening or using a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No backend has this name.
    #[error(
        "device {name:?}: expected one of {}, or one with an index like cuda:1",
        names(Backend::ALL)
    )]
    Unknown {
        /// The name.
        name: String,
    },

    /// The backend is not in this build.
    #[error(
        "device {name}: this build has {}; build with `--features {backend}` for it",
        names(Backend::built())
    )]
    NotBuilt {
        /// The name.
        name: String,
        /// The backend, whose name is that of the feature.
        backend: Backend,
    },

    /// The machine has no such device, or no driver for it.
    #[error("device {name}: not found; the backend finds {found} on this machine")]
    NotFound {
        /// The name.
        name: String,
        /// How many devices the backend finds.
        found: usize,
    },

    /// The device exists, but its driver fails or computes wrong results.
    #[error("device {name}: found, but it does not work: {reason}")]
    Broken {
        /// The name.
        name: String,
        /// The backend's error message.
        reason: String,
    },

    /// The device doesn't support the float type.
    #[error("{requested} is not supported by this device; it supports {}", names(supported.iter()))]
    Dtype {
        /// The requested float type.
        requested: Dtype,
        /// The float types that the device supports.
        supported: Vec<Dtype>,
    },

    /// The device doesn't compute that way.
    #[error(
        "compute {requested} is not supported by this device; it is by `cpu` (the flex backend)"
    )]
    Compute {
        /// The requested way.
        requested: Compute,
    },

    /// No way to compute has this name.
    #[error("compute {name:?}: expected {}", names(Compute::ALL))]
    UnknownCompute {
        /// The name.
        name: String,
    },

    /// No float type has this name.
    #[error("dtype {name:?}: expected f32, f16 or bf16")]
    UnknownDtype {
        /// The name.
        name: String,
    },
}

fn names(items: impl IntoIterator<Item: ToString>) -> String {
    let names: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
