//! Infrastructure shared by all training runs.
//!
//! ```text
//! RunFolder            config.toml, run.lock, metrics.jsonl, checkpoints/step-*/
//!   └─ run(trainee)    the loop: step, log, evaluate, save
//!        └─ Trainee    the trained modules, a step, the contents of a checkpoint
//!             └─ Learner   a model and its optimizer: losses, clipping, schedule, average
//! ```
//!
//! Runs are resumable: a checkpoint has everything that the next step reads, randomness is
//! addressed by (seed, purpose, step) and has no state ([`Draws`]), and a resumed run has exactly
//! the losses of an unbroken one.
mod checkpoint;
mod ema;
mod error;
mod folder;
mod freeze;
mod gradients;
mod initial;
mod learner;
mod metrics;
mod optimizer;
mod precision;
mod schedule;
#[cfg(test)]
mod tests;
mod train;

pub use editmgt_world::{Draws, Metrics, Stream};

pub use checkpoint::{Checkpoint, CheckpointWriter};
pub use ema::Ema;
pub use error::TrainError;
pub use folder::RunFolder;
pub use freeze::freeze;
pub use gradients::clip_by_norm;
pub use initial::initialise;
pub use learner::{Learner, Update};
pub use optimizer::{AdamWOptions, LearnerOptions};
pub use precision::{Precision, Products};
pub use schedule::{Decay, LrSchedule};
pub use train::{LoopOptions, TrainEvent, Trainee, run};
