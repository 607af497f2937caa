//! Checkpoint folders in the official layout: one safetensors file, or shards with an index.
//!
//! Loading is strict and frugal. Headers are read and checked first, and nothing else until every
//! parameter of the module has its key with the right shape and no key is left over; then one
//! tensor at a time is read, converted and handed to the module's device.
//!
//! ```no_run
//! use burn::{nn::{Linear, LinearConfig}, tensor::{DType, Device}};
//! use editmgt_checkpoint::{CheckpointError, WeightFiles, load_module};
//! use editmgt_core::KeyMap;
//!
//! # fn main() -> Result<(), CheckpointError> {
//! let files = WeightFiles::open("transformer")?;
//! let linear = LinearConfig::new(16, 32).init(&Device::default()); // allocates nothing yet
//! let linear: Linear = load_module(linear, &files, &KeyMap::default(), DType::F32)?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod decode;
mod error;
mod files;
mod header;
mod keys;
mod load;
mod mismatch;
mod output;
mod random;
mod save;
mod summary;
mod write;

pub use error::{CheckpointError, HeaderError};
pub use files::{TensorEntry, WeightFiles};
pub use keys::{TensorSpec, module_paths, module_tensors};
pub use load::{check_module, load_module, load_module_with_halves};
pub use mismatch::{Mismatch, Misshaped};
pub use random::write_random;
pub use safetensors::Dtype as FileDtype;
pub use save::{save_module, save_tensors};
pub use summary::{ComponentSummary, DtypeCount};
pub use write::{WeightsName, WriteOptions};
