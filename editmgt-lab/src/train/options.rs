//! The options of a training run.

use std::path::PathBuf;

use clap::Args;
use editmgt_store::RunAccess;

use crate::lock::LockArgs;

#[derive(Args)]
pub(super) struct ExportArgs {
    /// The run's config, TOML
    pub(super) config: PathBuf,
    /// The run's own folder; the model goes to its folder `model`
    #[arg(long)]
    pub(super) out: PathBuf,
}

#[derive(Args)]
pub(super) struct RunArgs {
    /// The run's config, TOML
    pub(super) config: PathBuf,
    /// The run's own folder: checkpoints, metrics.jsonl, and the result
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Go on with the run in the folder
    #[arg(long)]
    pub(super) resume: bool,
    #[command(flatten)]
    pub(super) lock: LockArgs,
    /// Where to compute: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
}

impl RunArgs {
    pub(super) fn access(&self) -> RunAccess {
        RunAccess { resume: self.resume, locking: self.lock.locking() }
    }
}
