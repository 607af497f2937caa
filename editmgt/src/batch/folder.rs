use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use editmgt_store::{FolderLock, RunAccess, Shard, StoreError, json};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{BatchError, BatchJob};
use crate::model::ModelSource;
use crate::model::identity::digits;

const LOCK: &str = "batch.lock";
/// Prefix of manifest names.
const MANIFEST: &str = "manifest";

/// Outcome of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// The result is written.
    Done,
    /// Failed; `error` has the reason.
    Failed,
}

/// A line of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchEntry {
    /// The job's name.
    pub name: String,
    /// The number of its line in the file of jobs, from 1.
    pub line: usize,
    /// See [`BatchJob::sha256`].
    pub sha256: String,
    /// Its outcome.
    pub status: JobStatus,
    /// The result, a file in the output folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// The SHA-256 of its contents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha256: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The [`EditReport`](crate::EditReport).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
}

impl BatchEntry {
    /// The entry of a job that has no result yet.
    pub(super) fn failed(job: &BatchJob) -> Self {
        Self {
            name: job.name.clone(),
            line: job.line,
            sha256: job.sha256.clone(),
            status: JobStatus::Failed,
            output: None,
            output_bytes: None,
            output_sha256: None,
            error: None,
            report: None,
        }
    }

    /// Sets the result to `output`, a complete file in the folder `dir`.
    ///
    /// # Errors
    /// [`BatchError::Io`] when it cannot be read.
    pub fn set_output(&mut self, dir: &Path, output: String) -> Result<(), BatchError> {
        let path = dir.join(&output);
        let (bytes, sha256) = digest(&path).map_err(BatchError::io(&path))?;
        self.status = JobStatus::Done;
        (self.output_bytes, self.output_sha256) = (Some(bytes), Some(sha256));
        self.output = Some(output);
        Ok(())
    }
}

/// Length and SHA-256 of a file.
fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let bytes = std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok((bytes, digits(hash)))
}

/// The last entry of each job, by name.
type Entries = HashMap<String, BatchEntry>;

/// The output folder of a batch, or of one shard of it, locked against other processes.
///
/// The locks are the operating system's: they end with the process.
#[derive(Debug)]
pub struct BatchFolder {
    dir: PathBuf,
    manifest: PathBuf,
    entries: Entries,
    _locks: [FolderLock; 2],
}

impl BatchFolder {
    /// Opens the folder, creating it if needed. `access` is whether to resume an existing batch, or
    /// a [`RunAccess`]. Temporary files of killed runs are removed.
    ///
    /// The shards of a batch can share a folder (each has its own manifest), and run concurrently.
    ///
    /// # Errors
    /// [`BatchError::InUse`], [`BatchError::Begun`] without resuming, [`BatchError::OtherShards`],
    /// [`BatchError::Manifest`], [`BatchError::Io`].
    pub fn open(
        dir: impl AsRef<Path>,
        shard: Shard,
        access: impl Into<RunAccess>,
    ) -> Result<Self, BatchError> {
        let RunAccess { resume, locking } = access.into();
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(BatchError::io(dir))?;
        // The whole batch locks out all others; a shard only itself.
        let in_use = |error| match error {
            StoreError::Locked { .. } => BatchError::InUse { dir: dir.to_owned() },
            error => error.into(),
        };
        let (all, manifest) = (dir.join(LOCK), manifest_name(shard));
        let own = dir.join(&manifest).with_extension("lock");
        let locks = if shard.is_all() {
            let whole = FolderLock::exclusive(&all, locking).map_err(in_use)?;
            [whole, FolderLock::none()]
        } else {
            let whole = FolderLock::shared(&all, locking).map_err(in_use)?;
            [whole, FolderLock::exclusive(own, locking).map_err(in_use)?]
        };
        editmgt_store::remove_stale(dir);
        for entry in fs::read_dir(dir).map_err(BatchError::io(dir))? {
            let name = entry.map_err(BatchError::io(dir))?.file_name();
            let parts = Shard::parts(&name.to_string_lossy(), MANIFEST);
            if parts.is_some_and(|parts| parts != shard.of()) {
                return Err(BatchError::OtherShards { manifest: dir.join(name) });
            }
        }
        let manifest = dir.join(manifest);
        let entries =
            editmgt_store::open_log(&manifest, |line, text| parse(&manifest, line, text))?;
        let entries = by_name(entries);
        // A manifest without lines is of a run that ended early, for instance because its model was
        // missing.
        if !resume && !entries.is_empty() {
            return Err(BatchError::Begun { manifest });
        }
        Ok(Self { dir: dir.to_owned(), manifest, entries, _locks: locks })
    }

    /// The files that a batch writes into `dir` besides its results.
    pub fn own_files(dir: &Path, shard: Shard) -> Vec<PathBuf> {
        let manifest = dir.join(manifest_name(shard));
        let mut files = vec![dir.join(LOCK), manifest.clone()];
        if !shard.is_all() {
            files.push(manifest.with_extension("lock"));
        }
        files
    }

    /// Whether an earlier run recorded anything here.
    pub fn is_begun(&self) -> bool {
        !self.entries.is_empty()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether this job was done and its result is intact: length and hash are checked, so the file
    /// is read.
    pub fn is_done(&self, job: &BatchJob) -> bool {
        let entry = self.entries.get(&job.name);
        entry.is_some_and(|entry| entry.sha256 == job.sha256 && self.is_intact(entry))
    }

    fn is_intact(&self, entry: &BatchEntry) -> bool {
        let (Some(output), Some(bytes), Some(sha256)) =
            (&entry.output, entry.output_bytes, &entry.output_sha256)
        else {
            return false;
        };
        let path = self.dir.join(output);
        entry.status == JobStatus::Done
            && fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() == bytes)
            && digest(&path).is_ok_and(|(_, found)| found == *sha256)
    }

    fn has_result(&self, entry: &BatchEntry) -> bool {
        let result = entry.output.as_ref().map(|output| self.dir.join(output));
        entry.status == JobStatus::Done && result.is_some_and(|result| result.is_file())
    }

    /// The manifests of the other shards, which may be running.
    fn others(&self) -> Result<Vec<(PathBuf, Entries)>, BatchError> {
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(BatchError::io(&self.dir))? {
            let path = entry.map_err(BatchError::io(&self.dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path != self.manifest && Shard::parts(&name, MANIFEST).is_some() {
                let entries =
                    editmgt_store::read_log(&path, |line, text| parse(&path, line, text))?;
                others.push((path, by_name(entries)));
            }
        }
        Ok(others)
    }

    /// Checks that the existing results, including those of other shards, were made by this model;
    /// `None` for custom parts.
    pub(super) fn check_model(&self, model: Option<&ModelSource>) -> Result<(), BatchError> {
        let named = |model: Option<&ModelSource>| {
            model.map_or_else(|| "a model of custom parts".to_owned(), ToString::to_string)
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

    /// Checks that the folder still exists.
    ///
    /// # Errors
    /// [`BatchError::Gone`].
    pub fn check(&self) -> Result<(), BatchError> {
        if self.manifest.is_file() {
            Ok(())
        } else {
            Err(BatchError::Gone { dir: self.dir.clone() })
        }
    }

    /// Appends a line to the manifest, synced to disk when this returns.
    ///
    /// # Errors
    /// [`BatchError::Gone`], [`BatchError::Io`].
    pub fn record(&mut self, entry: BatchEntry) -> Result<(), BatchError> {
        let line = serde_json::to_vec(&entry).expect("an entry has text keys only");
        match editmgt_store::append_line(&self.manifest, line) {
            Ok(()) => {
                self.entries.insert(entry.name.clone(), entry);
                Ok(())
            }
            Err(StoreError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
                Err(BatchError::Gone { dir: self.dir.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The manifest of a shard.
fn manifest_name(shard: Shard) -> String {
    shard.file(MANIFEST)
}

fn parse(manifest: &Path, line: usize, text: &[u8]) -> Result<BatchEntry, BatchError> {
    json::parse_object(text).and_then(json::from_object).map_err(|problem| BatchError::Manifest {
        path: manifest.to_owned(),
        line,
        cause: serde_json::Error::custom(problem),
    })
}

/// A later entry replaces an earlier one.
fn by_name(entries: Vec<BatchEntry>) -> Entries {
    entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect()
}
