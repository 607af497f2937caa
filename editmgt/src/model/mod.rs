//! A model: where its components lie, how they are loaded, and the loaded parts.
//!
//! ```text
//! ModelFolder ──► StoredModel (configs, keys and shapes checked) ──load──────► Model
//!                                                                └─on_demand─► Model that reads its weights when needed
//! the small model in the program ────────────────────────────────────────────► Model
//! ```

#[cfg(feature = "embedded")]
mod embedded;
mod folder;
pub(crate) mod identity;
mod index;
mod load;
mod loaded;
mod on_demand;
mod options;
mod stored;

pub use folder::ModelFolder;
pub use loaded::Model;
pub use options::{LoadOptions, ModelSource};
pub use stored::{LoadedText, keeps_half_precision, load_component, read_config};
