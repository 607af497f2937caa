use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::{EditError, StoppedEdit};

/// Most bad lines named in a message.
const NAMED: usize = 10;

/// An invalid line of a file of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Why a batch cannot begin or continue. (A failed job is not an error of the batch.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A file cannot be written, locked or read.
    #[error(transparent)]
    Store(editmgt_store::StoreError),
    /// Invalid lines in the file of jobs.
    #[error("{}: {}", path.display(), Lines(lines))]
    Lines {
        /// The file of jobs.
        path: PathBuf,
        /// All invalid lines.
        lines: Vec<BadLine>,
    },
    /// The file has no jobs.
    #[error("{}: expected a JSON object a line, got an empty file", path.display())]
    NoJobs {
        /// The file of jobs.
        path: PathBuf,
    },
    /// Another process is using the folder.
    #[error("{}: another batch is writing to this folder; wait for it or use another", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has results of an earlier run.
    #[error(
        "{}: there are results of an earlier run; resume it or use another folder",
        manifest.display()
    )]
    Begun {
        /// Their manifest.
        manifest: PathBuf,
    },
    /// The folder has results of another number of shards, so that jobs could be done twice.
    #[error(
        "{}: this folder's jobs were split otherwise; use the same number of shards or another \
         folder",
        manifest.display()
    )]
    OtherShards {
        /// A manifest of the earlier run.
        manifest: PathBuf,
    },
    /// The folder has results of another model, or of the model with other LoRA adapters.
    #[error(
        "{}: expected {made_with}, which made {job}, got {got}; use that model or another folder",
        manifest.display()
    )]
    OtherModel {
        /// The manifest.
        manifest: PathBuf,
        /// An existing result.
        job: String,
        /// The model that made it.
        made_with: String,
        /// The batch's model.
        got: String,
    },
    /// A damaged line of a manifest, other than the last.
    #[error("{}: line {line}: {cause}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// The folder or its manifest no longer exists.
    #[error(
        "{}: the output folder vanished while the batch was running; what it held is lost",
        dir.display()
    )]
    Gone {
        /// The folder.
        dir: PathBuf,
    },
    /// A result cannot be written, so the batch stops.
    #[error(transparent)]
    Output(EditError),
    /// The observer stopped the batch; the current job is not recorded.
    #[error(transparent)]
    Stopped(StoppedEdit),
}

impl From<editmgt_store::StoreError> for BatchError {
    fn from(error: editmgt_store::StoreError) -> Self {
        match error {
            editmgt_store::StoreError::Io { path, cause } => Self::Io { path, cause },
            error => Self::Store(error),
        }
    }
}

impl BatchError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, cause }
    }
}

struct Lines<'a>(&'a [BadLine]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, BadLine { line, problem }) in self.0.iter().take(NAMED).enumerate() {
            let comma = if i == 0 { "" } else { "; " };
            write!(f, "{comma}line {line}: {problem}")?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more bad lines"),
        }
    }
}
