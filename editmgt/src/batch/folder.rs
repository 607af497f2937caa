use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BatchError, BatchJob, Shard};
use crate::model::ModelSource;

const LOCK: &str = "batch.lock";

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// The result is there.
    Done,
    /// There is none; `error` says why.
    Failed,
}

/// A line of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchEntry {
    /// The job's name.
    pub name: String,
    /// The number of its line in the file of jobs, from 1.
    pub line: usize,
    /// See [`BatchJob::sha256`].
    pub sha256: String,
    /// How it ended.
    pub status: JobStatus,
    /// The result, a file in the output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The [`EditReport`](crate::EditReport).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
}

/// The last entry of each job, by its name.
type Entries = HashMap<String, BatchEntry>;

/// The output folder of a batch, or of one shard of it, which no other process can write to
/// meanwhile.
///
/// The locks are the system's: they go with the process, however that ends.
#[derive(Debug)]
pub struct BatchFolder {
    dir: PathBuf,
    manifest: PathBuf,
    entries: Entries,
    _locks: [Option<File>; 2],
}

impl BatchFolder {
    /// Opens the folder, which is made where it is missing. `resume` goes on with the batch that is
    /// there, if there is one.
    ///
    /// The shards of a batch can share a folder (each has a manifest of its own), and run at once.
    ///
    /// # Errors
    /// [`BatchError::InUse`], [`BatchError::Begun`] without `resume`, [`BatchError::OtherShards`],
    /// [`BatchError::Manifest`], [`BatchError::Io`].
    pub fn open(dir: impl AsRef<Path>, shard: Shard, resume: bool) -> Result<Self, BatchError> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(BatchError::io(dir))?;
        // All of it, or one of its shards: then others may have the folder, but not this shard.
        let whole = lock(dir, LOCK, shard.is_all())?;
        let manifest = shard.manifest();
        let part = match shard.is_all() {
            true => None,
            false => Some(lock(dir, &manifest.replace(".jsonl", ".lock"), true)?),
        };
        for entry in fs::read_dir(dir).map_err(BatchError::io(dir))? {
            let name = entry.map_err(BatchError::io(dir))?.file_name();
            let parts = Shard::parts(&name.to_string_lossy());
            if parts.is_some_and(|parts| parts != shard.of()) {
                return Err(BatchError::OtherShards { manifest: dir.join(name) });
            }
        }
        let manifest = dir.join(manifest);
        let entries = match manifest.exists() {
            true => read(&manifest)?,
            false => {
                File::create_new(&manifest).map_err(BatchError::io(&manifest))?;
                HashMap::new()
            }
        };
        // One without a line is of a run that came to nothing, for instance for want of a model.
        if !resume && !entries.is_empty() {
            return Err(BatchError::Begun { manifest });
        }
        Ok(Self { dir: dir.to_owned(), manifest, entries, _locks: [Some(whole), part] })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether this very job was done and its result is there.
    pub fn is_done(&self, job: &BatchJob) -> bool {
        let entry = self.entries.get(&job.name);
        entry.is_some_and(|entry| entry.sha256 == job.sha256 && self.has_result(entry))
    }

    fn has_result(&self, entry: &BatchEntry) -> bool {
        let result = entry.output.as_ref().map(|output| self.dir.join(output));
        entry.status == JobStatus::Done && result.is_some_and(|result| result.is_file())
    }

    /// The manifests of the other shards, which may be at work on them.
    fn others(&self) -> Result<Vec<(PathBuf, Entries)>, BatchError> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(BatchError::io(&self.dir))? {
            let path = entry.map_err(BatchError::io(&self.dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path != self.manifest && Shard::parts(&name).is_some() {
                let bytes = fs::read(&path).map_err(BatchError::io(&path))?;
                let entries = parse(&path, whole_lines(&bytes))?;
                others.push((path, entries));
            }
        }
        Ok(others)
    }

    /// Checks that the results that are there, also those of other shards, were made by this model;
    /// `None` for one of parts of your own.
    pub(super) fn check_model(&self, model: Option<&ModelSource>) -> Result<(), BatchError> {
        let named = |model: Option<&ModelSource>| {
            model.map_or_else(|| "a model of other parts".to_owned(), ToString::to_string)
        };
        let others = self.others()?;
        let all =
            others.iter().flat_map(|(path, entries)| entries.values().map(move |e| (path, e)));
        let own = self.entries.values().map(|entry| (&self.manifest, entry));
        for (manifest, entry) in own.chain(all).filter(|(_, entry)| self.has_result(entry)) {
            let Some(report) = &entry.report else { continue };
            let before = ModelSource::deserialize(&report["model"]).ok();
            let same = match (&before, model) {
                (Some(before), Some(model)) => before.is_same(model),
                (before, model) => before.is_none() && model.is_none(),
            };
            if !same {
                return Err(BatchError::OtherModel {
                    manifest: manifest.clone(),
                    job: entry.name.clone(),
                    made_with: named(before.as_ref()),
                    got: named(model),
                });
            }
        }
        Ok(())
    }

    /// Whether the folder is still there.
    ///
    /// # Errors
    /// [`BatchError::Gone`].
    pub fn check(&self) -> Result<(), BatchError> {
        match self.manifest.is_file() {
            true => Ok(()),
            false => Err(BatchError::Gone { dir: self.dir.clone() }),
        }
    }

    /// Adds a line to the manifest; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`BatchError::Gone`], [`BatchError::Io`].
    pub fn record(&mut self, entry: BatchEntry) -> Result<(), BatchError> {
        let mut line = serde_json::to_vec(&entry).expect("an entry has text keys only");
        line.push(b'\n');
        // Opened anew, and never made: in a folder that vanished an open file could be written to
        // with nobody ever seeing it.
        let written = OpenOptions::new().append(true).open(&self.manifest).and_then(|mut file| {
            file.write_all(&line)?;
            file.sync_data()
        });
        match written {
            Ok(()) => {
                self.entries.insert(entry.name.clone(), entry);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(BatchError::Gone { dir: self.dir.clone() })
            }
            Err(error) => Err(BatchError::io(&self.manifest)(error)),
        }
    }
}

fn lock(dir: &Path, name: &str, alone: bool) -> Result<File, BatchError> {
    let path = dir.join(name);
    // Its content is nobody's business, so it is never cut off.
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file.map_err(BatchError::io(&path))?;
    match if alone { file.try_lock() } else { file.try_lock_shared() } {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BatchError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(BatchError::Io { path, source }),
    }
}

/// Reads a manifest of our own. A last line without an end was being written when the run was
/// killed: it is cut off.
fn read(manifest: &Path) -> Result<Entries, BatchError> {
    let bytes = fs::read(manifest).map_err(BatchError::io(manifest))?;
    let whole = whole_lines(&bytes);
    if whole.len() < bytes.len() {
        let cut = OpenOptions::new().write(true).open(manifest);
        let cut = cut.and_then(|file| file.set_len(whole.len() as u64));
        cut.map_err(BatchError::io(manifest))?;
    }
    parse(manifest, whole)
}

/// Without the last line where it has no end.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)]
}

fn parse(manifest: &Path, lines: &[u8]) -> Result<Entries, BatchError> {
    let mut entries = HashMap::new();
    for (i, line) in lines.split(|&byte| byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let entry: BatchEntry = serde_json::from_slice(line).map_err(|source| {
            BatchError::Manifest { path: manifest.to_owned(), line: i + 1, source }
        })?;
        entries.insert(entry.name.clone(), entry);
    }
    Ok(entries)
}
