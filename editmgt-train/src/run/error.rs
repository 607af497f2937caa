use std::path::{Path, PathBuf};

use editmgt_checkpoint::CheckpointError;
use editmgt_core::config::ConfigError;
use editmgt_store::StoreError;

/// Why a run can't start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
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
    /// Another run writes to the folder.
    #[error("{}: in use by another run; choose another folder or wait for it", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// A new run would mix its files with others.
    #[error("{}: {found} is already there; resume the run or choose another folder", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// What is there.
        found: String,
    },
    /// There is no run to resume.
    #[error("{}: there is no run to resume", dir.display())]
    NoRun {
        /// The folder.
        dir: PathBuf,
    },
    /// A run can only be resumed with the config that it was started with.
    #[error("{}: the run was started with another config ({}); use that one", path.display(), keys.join(", "))]
    OtherConfig {
        /// The config of the run.
        path: PathBuf,
        /// The keys that differ.
        keys: Vec<String>,
    },
    /// A file of a run that is not what was written.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A value of the config is out of range.
    #[error("{key}: expected {expected}, got {got}")]
    Option {
        /// The key.
        key: &'static str,
        /// Its range.
        expected: String,
        /// What came.
        got: String,
    },
    /// The config is no TOML of the expected form.
    #[error("config: {0}")]
    Config(String),
    /// The config of a component.
    #[error(transparent)]
    Component(#[from] ConfigError),
    /// A loss or a gradient is not a number.
    #[error("the {what} is {value}; a lower learning rate or gradient clipping may help")]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// NaN or an infinity.
        value: f32,
    },
    /// A step failed. The checkpoints are untouched.
    #[error("step {step}: {source}; {}", kept_message(kept))]
    Step {
        /// The step, 0 is the first.
        step: u64,
        /// The last good checkpoint.
        kept: Option<PathBuf>,
        /// Why.
        source: Box<TrainError>,
    },
    /// Weights can't be read or written.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The model to start from, or an adapter of it.
    #[error(transparent)]
    Model(#[from] editmgt::ModelError),
    /// A stage refused its input, or a device failed.
    #[error(transparent)]
    Stage(#[from] editmgt_core::Error),
    /// A data set can't be learned from.
    #[error(transparent)]
    Dataset(#[from] crate::data::DataError),
    /// The data can't be had.
    #[error("example {index}: {message}")]
    Data {
        /// Which example.
        index: u64,
        /// What is wrong with it.
        message: String,
    },
}

impl From<StoreError> for TrainError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { path, source } => Self::Io { path, source },
            error => Self::Store(error),
        }
    }
}

impl TrainError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn malformed(path: &Path, problem: impl ToString) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn option(key: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Option { key, expected: expected.to_string(), got: got.to_string() }
    }
}

fn kept_message(kept: &Option<PathBuf>) -> String {
    match kept {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there is no checkpoint yet".to_owned(),
    }
}
