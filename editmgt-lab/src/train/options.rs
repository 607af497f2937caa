//! The options of a training run.

use std::path::PathBuf;

use clap::Args;
use editmgt_store::{FileRoles, RunAccess};
use editmgt_train::run::{RunFolder, TrainError};

use crate::lock::LockArgs;

#[derive(Args)]
pub(super) struct ExportArgs {
    /// The run's config, TOML
    pub(super) config: PathBuf,
    /// The run's folder; the model is written to its sub-folder `model`
    #[arg(long)]
    pub(super) out: PathBuf,
}

#[derive(Args)]
pub(super) struct TrainRunArgs {
    /// The run's config, TOML
    pub(super) config: PathBuf,
    /// Output folder of the run: checkpoints, metrics.jsonl, and the result
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Resume the run in the folder
    #[arg(long)]
    pub(super) resume: bool,
    #[command(flatten)]
    pub(super) lock: LockArgs,
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
}

impl TrainRunArgs {
    /// Checks, before anything is loaded, that the run's folder is usable and that no output is
    /// also an input: its config, and what `declare` declares.
    pub(super) fn check_files(
        &self,
        declare: impl FnOnce(&mut FileRoles),
    ) -> Result<FileRoles, TrainError> {
        RunFolder::check(&self.out, self.resume)?;
        let mut roles = FileRoles::default();
        roles.input("config", &self.config);
        declare(&mut roles);
        RunFolder::declare_outputs(&self.out, &mut roles)?;
        Ok(roles)
    }

    pub(super) fn access(&self) -> RunAccess {
        RunAccess { resume: self.resume, locking: self.lock.locking() }
    }
}
