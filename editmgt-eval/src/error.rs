use std::path::{Path, PathBuf};

use editmgt::{EditError, ModelError};
use editmgt_store::StoreError;
use editmgt_train::run::TrainError;

/// Why an evaluation fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// Inputs that are compared pixel by pixel, or token by token, differ in size.
    #[error("{what}: expected {expected}, got {got}")]
    Size {
        /// The input of the wrong size, for instance `"mask"`.
        what: &'static str,
        /// The expected size.
        expected: String,
        /// The actual size.
        got: String,
    },
    /// An I/O error, such as a full disk.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file cannot be written, locked or read.
    #[error(transparent)]
    Store(StoreError),
    /// A damaged file of a run.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The folder has a run with another configuration.
    #[error(
        "{}: the run was started with another {}; use that one or choose another folder",
        path.display(), keys.join(", ")
    )]
    OtherRun {
        /// The setting that differs.
        path: PathBuf,
        /// The keys that differ.
        keys: Vec<String>,
    },
    /// Another process writes the same shard.
    #[error("{}: in use by another run; wait for it or choose another shard", path.display())]
    InUse {
        /// The file of the shard.
        path: PathBuf,
    },
    /// There are no records to summarise or to compare.
    #[error("{}: {problem}", path.display())]
    NoRecords {
        /// The run's folder.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// An edit failed. Earlier measurements are kept.
    #[error("edit {index}: {cause}")]
    Edit {
        /// The edit's index.
        index: u64,
        /// The cause.
        cause: Box<EditError>,
    },
    /// An encoder cannot be loaded.
    #[error(transparent)]
    Encoder(#[from] ModelError),
    /// A rater's endpoint is unreachable, or did not answer in time. Earlier ratings are kept.
    #[error("{url}: {problem}")]
    Endpoint {
        /// Its URL.
        url: String,
        /// The cause.
        problem: String,
    },
    /// A rater's endpoint refused the request. Earlier ratings are kept.
    #[error("{url}: expected status 200, got {status}: {reply}")]
    Status {
        /// Its URL.
        url: String,
        /// The status of the answer.
        status: u16,
        /// The beginning of the answer.
        reply: String,
    },
    /// A plot cannot be drawn.
    #[error("{0}")]
    Plot(String),
    /// A data set cannot be read.
    #[error(transparent)]
    Data(#[from] TrainError),
}

impl From<StoreError> for EvalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { path, cause } => Self::Io { path, cause },
            StoreError::Locked { path } => Self::InUse { path },
            error => Self::Store(error),
        }
    }
}

impl EvalError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { path, cause }
    }

    pub(crate) fn malformed(path: &Path, problem: impl ToString) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn edit(index: u64) -> impl FnOnce(EditError) -> Self {
        move |cause| Self::Edit { index, cause: Box::new(cause) }
    }
}
