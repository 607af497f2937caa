use crate::{Backend, Dtype};

/// Why there is no such device, or why it can't run what was asked of it.
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

    /// The backend exists and is not part of this build.
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

    /// The device is there, and its driver fails or computes wrong numbers.
    #[error("device {name}: it is there and does not work: {reason}")]
    Broken {
        /// The name.
        name: String,
        /// The backend's own words.
        reason: String,
    },

    /// The device can't compute with this float type.
    #[error("{requested} is not supported by this device; it supports {}", names(supported.iter()))]
    Dtype {
        /// What was asked for.
        requested: Dtype,
        /// What the device supports.
        supported: Vec<Dtype>,
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
