//! Many edits with one model: from a file of jobs to images and a manifest.
//!
//! ```text
//! jobs.jsonl ─► read_jobs ─► [BatchJob] ─► Shard ─► Batch::edit ─► OUT/000001-cat.png
//!                                             BatchFolder ─► OUT/manifest.jsonl, a line per job
//! ```
//!
//! A line of the manifest is written when the image is complete and synced to disk, with its length
//! and SHA-256. A killed run therefore loses at most the current job; when it is resumed, missing
//! or damaged results are made again.
//!
//! ```no_run
//! use editmgt::batch::{Batch, BatchFolder, Shard, read_jobs};
//! use editmgt::{Editor, Silent};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (jobs, shard) = (read_jobs("jobs.jsonl")?, Shard::ALL);
//! let mut folder = BatchFolder::open("out", shard, true)?;
//! let editor = Editor::builder("models/editmgt").build()?;
//! let mut batch = Batch::new(editor, &mut folder)?;
//! for job in jobs.iter().filter(|job| job.is_in(shard)) {
//!     if !batch.is_done(job) {
//!         println!("{:?}", batch.edit(job, &mut Silent)?.status);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod folder;
mod jobs;
mod run;

pub use editmgt_store::{ArrayTaskError, Locking, RunAccess, Shard};
pub use error::{BadLine, BatchError};
pub use folder::{BatchEntry, BatchFolder, JobStatus};
pub use jobs::{BatchJob, read_jobs};
pub use run::Batch;

#[cfg(test)]
mod tests;
