use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use super::{Checkpoint, CheckpointWriter, TrainError};

const CONFIG: &str = "config.toml";
const LOCK: &str = "run.lock";
const CHECKPOINTS: &str = "checkpoints";
const PARTIAL: &str = ".partial";

/// The output folder of a run, which no other run can open while this one has it.
///
/// The lock is the system's: it goes with the process, however that ends, so there is no stale one.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Opens the folder for a new run, which makes it where it is missing, or to go on with the
    /// run that is there.
    ///
    /// # Errors
    /// [`TrainError::InUse`] while another run has it; [`TrainError::NotEmpty`] for a new run in
    /// a folder that holds something; [`TrainError::NoRun`] or [`TrainError::OtherConfig`] when
    /// there is no run of this config to resume.
    pub fn open(root: &Path, config: &impl Serialize, resume: bool) -> Result<Self, TrainError> {
        let config = Table::try_from(config).map_err(|e| TrainError::Config(e.to_string()))?;
        let path = root.join(CONFIG);
        if resume && !path.is_file() {
            return Err(TrainError::NoRun { dir: root.to_owned() });
        }
        std::fs::create_dir_all(root).map_err(TrainError::io(root))?;
        let lock = lock(root)?;
        if resume {
            check_config(&path, &config)?;
        } else {
            refuse_contents(root)?;
            let text = toml::to_string(&config).map_err(|e| TrainError::Config(e.to_string()))?;
            // Last, and at once: a folder with a config is one of a run.
            let checkpoints = root.join(CHECKPOINTS);
            std::fs::create_dir(&checkpoints).map_err(TrainError::io(&checkpoints))?;
            write_atomically(&path, text.as_bytes())?;
        }
        let folder = Self { root: root.to_owned(), _lock: lock };
        remove_if_there(&folder.partial())?;
        Ok(folder)
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

    /// The newest checkpoint of the run in `root`, if there is one; the run may go on meanwhile.
    ///
    /// # Errors
    /// A checkpoint that is damaged or of another version.
    pub fn newest_checkpoint(root: &Path) -> Result<Option<Checkpoint>, TrainError> {
        checkpoints(root)?.last().map(|dir| Checkpoint::open(dir)).transpose()
    }

    /// Writes the checkpoint of `step` steps done: all of it or nothing. Then removes the oldest,
    /// so that `keep` are left.
    ///
    /// # Errors
    /// Those of `write`, and whatever the system refuses (a full disk). The earlier checkpoints
    /// are untouched then, and the unfinished one is gone.
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
        // As wide as any step, so that names sort like numbers.
        let dir = self.root.join(CHECKPOINTS).join(format!("step-{step:012}"));
        // Of a run that was stopped right after saving, and is the same to the bit.
        remove_if_there(&dir)?;
        std::fs::rename(&partial, &dir).map_err(TrainError::io(&dir))?;
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

fn lock(root: &Path) -> Result<File, TrainError> {
    let path = root.join(LOCK);
    let file = File::create(&path).map_err(TrainError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::InUse { dir: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(TrainError::Io { path, source }),
    }
}

fn refuse_contents(root: &Path) -> Result<(), TrainError> {
    for entry in std::fs::read_dir(root).map_err(TrainError::io(root))? {
        let name = entry.map_err(TrainError::io(root))?.file_name();
        if name != LOCK {
            let found = name.to_string_lossy().into_owned();
            return Err(TrainError::NotEmpty { dir: root.to_owned(), found });
        }
    }
    Ok(())
}

fn check_config(path: &Path, config: &Table) -> Result<(), TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    let started: Table = text.parse().map_err(|e| TrainError::malformed(path, e))?;
    let mut keys = Vec::new();
    differences(&started, config, "", &mut keys);
    if keys.is_empty() {
        return Ok(());
    }
    Err(TrainError::OtherConfig { path: path.to_owned(), keys })
}

/// The dotted names of all keys that differ.
fn differences(one: &Table, other: &Table, prefix: &str, keys: &mut Vec<String>) {
    let names: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    for name in names {
        match (one.get(name), other.get(name)) {
            (Some(Value::Table(one)), Some(Value::Table(other))) => {
                differences(one, other, &format!("{prefix}{name}."), keys);
            }
            (one, other) if one != other => keys.push(format!("{prefix}{name}")),
            _ => {}
        }
    }
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let partial = path.with_extension("partial");
    File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(TrainError::io(path))
}

fn remove_if_there(dir: &Path) -> Result<(), TrainError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(TrainError::io(dir)(e)),
        _ => Ok(()),
    }
}
