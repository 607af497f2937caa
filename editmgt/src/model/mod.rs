//! Models: component paths, loading, and the loaded parts.
//!
//! ```text
//! ModelFolder ──► StoredModel (configs, keys and shapes checked) ──load──────► BaseModel ──adapters─► Model
//!                                                                └─on_demand─► Model that reads its weights when needed
//! the small model in the program, or parts of the user's own ────────────────► BaseModel ──adapters─► Model
//! ```

pub(crate) mod base;
mod decoder;
#[cfg(feature = "embedded")]
pub(crate) mod embedded;
mod folder;
pub(crate) mod identity;
mod index;
mod kind;
mod load;
mod loaded;
mod location;
mod on_demand;
mod options;
mod precision;
mod quantization;
mod quantize;
pub(crate) mod stored;

pub use folder::ModelFolder;
pub use kind::ModelKind;
pub(crate) use kind::check_trained_for;
pub use loaded::Model;
pub(crate) use location::ModelOrigin;
pub use options::{LoadOptions, ModelSource};
pub use precision::InferencePrecision;
pub use quantization::ModelQuantization;
pub use quantize::{QuantizablePart, QuantizeRequest, WrittenPart, quantize_model};
pub use stored::{LoadedText, load_component, read_config};
