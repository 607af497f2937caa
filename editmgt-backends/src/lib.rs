//! The devices of this build, their capabilities, and the float type to use on them.
//!
//! The only library crate that enables burn backends, by cargo features: `flex` (the default: CPU,
//! nothing to install), `ndarray`, `wgpu`, `vulkan`, `metal`, `webgpu` and `cuda`.
//!
//! ```
//! use editmgt_backends::{Dtype, DtypePolicy, open};
//!
//! # fn main() -> Result<(), editmgt_backends::DeviceError> {
//! let device = open("cpu")?;
//! let dtypes = DtypePolicy::choose(&device, None)?;
//! assert_eq!(dtypes.transformer, Dtype::F32);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod choice;
pub mod conformance;
mod device;
mod dtype;
mod error;
mod memory;

pub use choice::{Backend, DeviceChoice};
pub use device::{DeviceInfo, DeviceState, available, available_on, open, open_default};
pub use dtype::{Compute, Dtype, DtypePolicy};
pub use error::DeviceError;
pub use memory::{available_memory, peak_memory, resident_memory};
