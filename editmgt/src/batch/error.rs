use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::{EditError, StoppedEdit};

/// How many bad lines a message names.
const NAMED: usize = 10;

/// A line of a file of jobs that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Why a batch can't begin or go on. (A job that fails is no such reason.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file can't be written, locked or read.
    #[error(transparent)]
    Store(editmgt_store::StoreError),
    /// Lines that are no jobs.
    #[error("{}: {}", path.display(), Lines(lines))]
    Lines {
        /// The file of jobs.
        path: PathBuf,
        /// All of them.
        lines: Vec<BadLine>,
    },
    /// There is nothing to do.
    #[error("{}: expected a JSON object a line, got an empty file", path.display())]
    NoJobs {
        /// The file of jobs.
        path: PathBuf,
    },
    /// Another process writes to the folder.
    #[error("{}: another batch is writing to this folder; wait for it or use another", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has results.
    #[error(
        "{}: there are results of an earlier run; go on with it (resume) or use another folder",
        manifest.display()
    )]
    Begun {
        /// Their manifest.
        manifest: PathBuf,
    },
    /// The folder has results that were split otherwise, so that jobs could be done twice.
    #[error(
        "{}: this folder's jobs were split otherwise; use the same number of shards or another \
         folder",
        manifest.display()
    )]
    OtherShards {
        /// A manifest of the earlier run.
        manifest: PathBuf,
    },
    /// The folder has results of another model, or of one with other LoRA adapters.
    #[error(
        "{}: expected {made_with}, which made {job}, got {got}; use that model or another folder",
        manifest.display()
    )]
    OtherModel {
        /// The manifest.
        manifest: PathBuf,
        /// A result that is there.
        job: String,
        /// The model that made it.
        made_with: String,
        /// The batch's.
        got: String,
    },
    /// A manifest that is damaged in its middle.
    #[error("{}: line {line}: {source}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The folder or its manifest is not there any more.
    #[error(
        "{}: the output folder vanished while the batch was running; what it held is lost",
        dir.display()
    )]
    Gone {
        /// The folder.
        dir: PathBuf,
    },
    /// A result can't be written, so no other can either.
    #[error(transparent)]
    Output(EditError),
    /// The observer stopped the batch; the job that ran is not recorded.
    #[error(transparent)]
    Stopped(StoppedEdit),
}

impl From<editmgt_store::StoreError> for BatchError {
    fn from(error: editmgt_store::StoreError) -> Self {
        match error {
            editmgt_store::StoreError::Io { path, source } => Self::Io { path, source },
            error => Self::Store(error),
        }
    }
}

impl BatchError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
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
