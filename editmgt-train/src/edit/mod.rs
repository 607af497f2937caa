//! Training the transformer to edit.
//!
//! ```text
//! EditDataset ──► EditBatch    masks, dropped conditions, timesteps, by addressed draws
//!                     ▼
//!                 EditModel    transformer, small text encoder, a head for the changed tokens
//!                     ▼
//!                 masked_nll (+ map_divergence, changed_cross_entropy)
//! ```
//!
//! [`EditTrainer`] is the [`Trainee`](crate::run::Trainee) that combines these. With
//! [`EditOptions::paper`] it minimises the official training script's loss; every departure is a
//! separate option.

mod batch;
mod codes;
mod compute;
#[cfg(test)]
mod data_tests;
mod evaluate;
mod export;
mod file;
mod lora;
mod loss;
mod masking;
mod model;
mod options;
mod order;
mod probe;
mod small;
mod source;
mod start;
mod structured_init;
#[cfg(test)]
mod tests;
mod timestep;
mod trainer;
mod tune;

pub use crate::data::{EditDataset, EditExample, WorldEdits};
pub use batch::EditBatch;
pub use compute::ComputeOptions;
pub use file::{CurriculumStage, EditFile, EditRun};
pub use lora::LoraOptions;
pub use loss::{
    changed_cross_entropy, map_divergence, masked_nll, masked_nll_of, slot_cross_entropy,
    target_cross_entropy,
};
pub use masking::{MaskDraw, MaskingOptions, mask_ratio, masked_count};
pub use model::{EditModel, EditParts};
pub use options::{ConditionOptions, DroppedText, EditOptions, LossOptions, TextLessons};
pub use order::Order;
pub use probe::Probe;
pub use small::SmallModelOptions;
pub use structured_init::StructuredInit;
pub use timestep::TimestepConvention;
pub use trainer::{CurriculumData, EditData, EditTrainer, Lessons, TextSide, TrainingPlan};
pub use tune::TuneRun;
