//! Checkpoint folders in the official layout: one safetensors file, or shards with an index. With
//! the feature `pytorch` also PyTorch's own files, where a folder has nothing else; their pickles
//! are not run.
//!
//! Loading is strict. Headers are read first and compared with the module: every parameter must
//! have its key with the right shape, and every key a parameter. Then one tensor at a time is read,
//! converted and moved to the module's device, so peak memory is the model plus one tensor.
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
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod decode;
mod error;
mod files;
mod header;
mod keys;
mod load;
mod mismatch;
mod output;
#[cfg(feature = "pytorch")]
mod pytorch;
mod quantization;
mod quantize;
mod random;
mod save;
mod sets;
mod summary;
mod write;

pub use editmgt_kernels::{UnknownBits, WeightBits};
pub use error::{CheckpointError, HeaderError, PickleError};
pub use files::{TensorEntry, WeightFiles};
pub use keys::{TensorSpec, module_paths, module_tensors};
pub use load::{LoadOptions, cast_module, check_module, load_module, load_module_part};
pub use mismatch::{Mismatch, Misshaped};
pub use quantization::QuantizationConfig;
pub use quantize::{copy_weights, quantize_weights};
pub use random::write_random;
pub use safetensors::Dtype as FileDtype;
pub use save::{save_module, save_tensors};
pub use summary::{ComponentSummary, DtypeCount};
pub use write::{WeightsName, WriteOptions};
