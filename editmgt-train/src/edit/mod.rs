//! Training the transformer to edit.
//!
//! ```text
//! EditDataset ──► EditBatch    masks, dropped conditions, timesteps: from addressed draws alone
//!                     ▼
//!                 EditModel    transformer, small text encoder, a head for the changed tokens
//!                     ▼
//!                 masked_nll (+ map_divergence, changed_cross_entropy)
//! ```
//!
//! [`EditTrainer`] is the [`Trainee`](crate::run::Trainee) that puts these together. With
//! [`EditOptions::paper`] it minimises what the official training script does; every departure is
//! an option of its own.

mod batch;
#[cfg(test)]
mod data_tests;
mod evaluate;
mod export;
mod file;
mod loss;
mod masking;
mod model;
mod options;
mod order;
#[cfg(test)]
mod tests;
mod timestep;
mod trainer;

pub use crate::data::{EditDataset, EditExample, WorldEdits};
pub use batch::EditBatch;
pub use file::{EditRun, SmallModelOptions};
pub use loss::{changed_cross_entropy, map_divergence, masked_nll};
pub use masking::{MaskDraw, MaskingOptions, mask_ratio, masked_count};
pub use model::{EditModel, EditParts};
pub use options::{ConditionOptions, DroppedText, EditOptions, LossOptions};
pub use order::Order;
pub use timestep::TimestepConvention;
pub use trainer::{EditData, EditTrainer, TextSide};
