use std::path::{Path, PathBuf};

use editmgt_checkpoint::CheckpointError;
use editmgt_core::config::ConfigError;
use editmgt_store::StoreError;

/// Why a run cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
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
    /// Another run writes to the folder.
    #[error("{}: in use by another run; choose another folder or wait for it", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// A new run would mix its files with existing ones.
    #[error("{}: {found} is already there; resume the run or choose another folder", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// The existing files.
        found: String,
    },
    /// There is no run to resume.
    #[error("{}: there is no run to resume", dir.display())]
    NoRun {
        /// The folder.
        dir: PathBuf,
    },
    /// A run can only be resumed with its original config.
    #[error("{}: the run was started with another config ({}); use that one", path.display(), keys.join(", "))]
    OtherConfig {
        /// The config of the run.
        path: PathBuf,
        /// The keys that differ.
        keys: Vec<String>,
    },
    /// A damaged file of a run.
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
        /// The value.
        got: String,
    },
    /// The config is not valid TOML, or has unknown keys.
    #[error("config: {0}")]
    Config(String),
    /// The config of a component.
    #[error(transparent)]
    Component(#[from] ConfigError),
    /// A loss or a gradient is not finite.
    #[error("the {what} is {value}; a lower learning rate or gradient clipping may help")]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// NaN or an infinity.
        value: f32,
    },
    /// A step failed. The checkpoints are untouched.
    #[error("step {step}: {cause}; {}", kept_message(kept))]
    Step {
        /// The step, 0 is the first.
        step: u64,
        /// The last good checkpoint.
        kept: Option<PathBuf>,
        /// The cause.
        cause: Box<TrainError>,
    },
    /// Weights cannot be read or written.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The initial model, or an adapter of it, cannot be loaded.
    #[error(transparent)]
    Model(#[from] editmgt::ModelError),
    /// A stage rejected its input, or a device failed.
    #[error(transparent)]
    Stage(#[from] editmgt_core::Error),
    /// A data set cannot be used for training.
    #[error(transparent)]
    Dataset(#[from] crate::data::DataError),
    /// An example cannot be read.
    #[error("example {index}: {message}")]
    Data {
        /// The index of the example.
        index: u64,
        /// What is wrong with it.
        message: String,
    },
}

impl From<StoreError> for TrainError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { path, cause } => Self::Io { path, cause },
            error => Self::Store(error),
        }
    }
}

impl TrainError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { path, cause }
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
