use std::path::{Path, PathBuf};

use editmgt::{EditError, ModelError};
use editmgt_store::StoreError;
use editmgt_train::run::TrainError;

/// Why something can't be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// Things that are compared pixel by pixel, or token by token, differ in size.
    #[error("{what}: expected {expected}, got {got}")]
    Size {
        /// What has the wrong size, for instance `"mask"`.
        what: &'static str,
        /// The size that the other one has.
        expected: String,
        /// The size that came.
        got: String,
    },
    /// The system refused to read or write; a full disk is one of these.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file can't be written, locked or read.
    #[error(transparent)]
    Store(StoreError),
    /// A file of a run that is not what was written.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The folder holds a run of something else.
    #[error(
        "{}: the run was started with another {}; use that one or choose another folder",
        path.display(), keys.join(", ")
    )]
    OtherRun {
        /// What the run was started with.
        path: PathBuf,
        /// The keys that differ.
        keys: Vec<String>,
    },
    /// Another process writes the same part.
    #[error("{}: in use by another run; wait for it or choose another shard", path.display())]
    InUse {
        /// The file of the part.
        path: PathBuf,
    },
    /// There is nothing to summarise or to compare.
    #[error("{}: {problem}", path.display())]
    NoRecords {
        /// The run's folder.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// An edit failed. What was measured before it is kept.
    #[error("edit {index}: {source}")]
    Edit {
        /// Which one.
        index: u64,
        /// Why.
        source: EditError,
    },
    /// An encoder that should look at edits can't be loaded.
    #[error(transparent)]
    Encoder(#[from] ModelError),
    /// A rater's endpoint can't be reached, or does not answer in time. What was rated before is
    /// kept.
    #[error("{url}: {problem}")]
    Endpoint {
        /// Where it should be.
        url: String,
        /// Why not.
        problem: String,
    },
    /// A rater's endpoint refused. What was rated before is kept.
    #[error("{url}: expected status 200, got {status}: {said}")]
    Status {
        /// Where it is.
        url: String,
        /// What it answered.
        status: u16,
        /// The beginning of what it said to that.
        said: String,
    },
    /// A plot can't be drawn.
    #[error("{0}")]
    Plot(String),
    /// A data set can't be read.
    #[error(transparent)]
    Data(#[from] TrainError),
}

impl From<StoreError> for EvalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { path, source } => Self::Io { path, source },
            StoreError::Locked { path } => Self::InUse { path },
            error => Self::Store(error),
        }
    }
}

impl EvalError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn malformed(path: &Path, problem: impl ToString) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn edit(index: u64) -> impl FnOnce(EditError) -> Self {
        move |source| Self::Edit { index, source }
    }
}
