use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use editmgt_store::{FileRoles, FolderLock, RunAccess, StoreError, differences};
use serde::Serialize;
use toml::{Table, Value};

use super::metrics::METRICS;
use super::{Checkpoint, CheckpointWriter, TrainError};
use crate::data::DataReport;

const CONFIG: &str = "config.toml";
const LOCK: &str = "run.lock";
const CHECKPOINTS: &str = "checkpoints";
const PARTIAL: &str = ".partial";

/// The output folder of a run, locked against other runs.
///
/// The lock is the operating system's: it ends with the process, so it cannot become stale.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: FolderLock,
}

impl RunFolder {
    /// Opens the folder for a new run, creating it if needed, or to resume the run in it. `access`
    /// is whether to resume, or a [`RunAccess`].
    ///
    /// # Errors
    /// [`TrainError::InUse`] while another run has it; [`TrainError::NotEmpty`] for a new run in a
    /// folder with files; [`TrainError::NoRun`] or [`TrainError::OtherConfig`] when there is no run
    /// of this config to resume.
    pub fn open(
        root: &Path,
        config: &impl Serialize,
        access: impl Into<RunAccess>,
    ) -> Result<Self, TrainError> {
        let RunAccess { resume, locking } = access.into();
        let config = Table::try_from(config).map_err(|e| TrainError::Config(e.to_string()))?;
        let path = root.join(CONFIG);
        if resume && !path.is_file() {
            return Err(TrainError::NoRun { dir: root.to_owned() });
        }
        std::fs::create_dir_all(root).map_err(TrainError::io(root))?;
        let lock =
            FolderLock::exclusive(root.join(LOCK), locking).map_err(|error| match error {
                StoreError::Locked { .. } => TrainError::InUse { dir: root.to_owned() },
                error => error.into(),
            })?;
        editmgt_store::remove_stale(root);
        if resume {
            check_config(&path, &config)?;
        } else {
            refuse_contents(root)?;
            let text = toml::to_string(&config).map_err(|e| TrainError::Config(e.to_string()))?;
            // Written last and atomically: a folder with a config is a valid run folder.
            let checkpoints = root.join(CHECKPOINTS);
            std::fs::create_dir(&checkpoints).map_err(TrainError::io(&checkpoints))?;
            editmgt_store::write(&path, text)?;
        }
        let folder = Self { root: root.to_owned(), _lock: lock };
        remove_if_there(&folder.partial())?;
        Ok(folder)
    }

    /// Checks whether [`open`](Self::open) would succeed, before anything is loaded, without
    /// writing.
    ///
    /// # Errors
    /// [`TrainError::NotEmpty`] for a new run in a folder with files,
    /// [`TrainError::NoRun`] when there is no run to resume.
    pub fn check(root: &Path, resume: bool) -> Result<(), TrainError> {
        if resume && !root.join(CONFIG).is_file() {
            Err(TrainError::NoRun { dir: root.to_owned() })
        } else if !resume && root.exists() {
            refuse_contents(root)
        } else {
            Ok(())
        }
    }

    /// Declares the files of a run's folder, except its copy of the config, as outputs: a run
    /// appends to them or replaces them.
    ///
    /// # Errors
    /// [`StoreError::OverInput`] where one of them is an input.
    pub fn declare_outputs(root: &Path, roles: &mut FileRoles) -> Result<(), StoreError> {
        const WHAT: &str = "run's own files";
        for name in [LOCK, METRICS, DataReport::FILE] {
            roles.output(WHAT, root.join(name))?;
        }
        for folder in [CHECKPOINTS, "samples", "model", "adapter", "codec"] {
            roles.output_tree(WHAT, root.join(folder))?;
        }
        Ok(())
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The newest checkpoint, if there is one.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another version.
    pub fn latest(&self) -> Result<Option<Checkpoint>, TrainError> {
        Self::newest_checkpoint(&self.root)
    }

    /// The newest checkpoint of the run in `root`, if any; the run may still be active.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another version.
    pub fn newest_checkpoint(root: &Path) -> Result<Option<Checkpoint>, TrainError> {
        checkpoints(root)?.last().map(|dir| Checkpoint::open(dir)).transpose()
    }

    /// Writes the checkpoint after `step` steps atomically, then removes the oldest, so that `keep`
    /// remain.
    ///
    /// # Errors
    /// Those of `write`, and I/O errors (a full disk). Earlier checkpoints are then untouched, and
    /// the incomplete one is removed.
    pub fn save(
        &self,
        step: u64,
        keep: usize,
        write: impl FnOnce(&CheckpointWriter) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let partial = self.partial();
        remove_if_there(&partial)?;
        let complete = || {
            let writer = CheckpointWriter::begin(partial.clone())?;
            write(&writer)?;
            writer.finish(step)
        };
        if let Err(error) = complete() {
            // The error that led here is the one to report.
            let _ = std::fs::remove_dir_all(&partial);
            return Err(error);
        }
        // Zero-padded, so that names sort like numbers.
        let dir = self.root.join(CHECKPOINTS).join(format!("step-{step:012}"));
        // From a run that was stopped right after saving: identical.
        remove_if_there(&dir)?;
        editmgt_store::publish_folder(&partial, &dir)?;
        let checkpoints = checkpoints(&self.root)?;
        let surplus = checkpoints.len().saturating_sub(keep.max(1));
        checkpoints[..surplus].iter().try_for_each(|dir| remove_if_there(dir))?;
        Ok(dir)
    }

    fn partial(&self) -> PathBuf {
        self.root.join(CHECKPOINTS).join(PARTIAL)
    }
}

/// Oldest first.
fn checkpoints(root: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let dir = root.join(CHECKPOINTS);
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(&dir).map_err(TrainError::io(&dir))? {
        let entry = entry.map_err(TrainError::io(&dir))?;
        if entry.file_name().to_string_lossy().starts_with("step-") {
            found.insert(entry.path());
        }
    }
    Ok(found.into_iter().collect())
}

fn refuse_contents(root: &Path) -> Result<(), TrainError> {
    for entry in std::fs::read_dir(root).map_err(TrainError::io(root))? {
        let name = entry.map_err(TrainError::io(root))?.file_name();
        if name != LOCK && !editmgt_store::is_sidecar(&name) {
            let found = name.to_string_lossy().into_owned();
            return Err(TrainError::NotEmpty { dir: root.to_owned(), found });
        }
    }
    Ok(())
}

fn check_config(path: &Path, config: &Table) -> Result<(), TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    let started: Table = text.parse().map_err(|e| TrainError::malformed(path, e))?;
    let (started, config) = (Value::Table(started), Value::Table(config.clone()));
    fn entries(value: &Value) -> Option<BTreeMap<&str, &Value>> {
        Some(value.as_table()?.iter().map(|(key, value)| (key.as_str(), value)).collect())
    }
    let keys = differences(&started, &config, &entries);
    if keys.is_empty() {
        return Ok(());
    }
    Err(TrainError::OtherConfig { path: path.to_owned(), keys })
}

fn remove_if_there(dir: &Path) -> Result<(), TrainError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(dir)(e)),
        _ => Ok(()),
    }
}
