use std::path::PathBuf;

use editmgt_backends::DeviceError;
use editmgt_checkpoint::{CheckpointError, WeightBits};
use editmgt_core::LoopProgress;
use editmgt_core::config::ConfigError;
use editmgt_text::TokenizerError;

use crate::lora::LoraError;
use crate::model::ModelKind;
use crate::photo::PhotoError;
use crate::request::Job;

/// Why an edit did not happen. Edits write nothing to the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// An option is out of range.
    #[error("{option}: expected {expected}, got {got}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its range.
        expected: String,
        /// What came.
        got: String,
    },
    /// The photo, the mask or the output file.
    #[error(transparent)]
    Photo(#[from] PhotoError),
    /// The model can't be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device is unavailable.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The observer stopped the edit: [`OpenPhoto::resume`](crate::OpenPhoto::resume) continues it.
    #[error(transparent)]
    Stopped(StoppedEdit),
    /// The model was not trained for the task.
    #[error("{}", not_trained(*job, *kind, trained_for))]
    NotTrained {
        /// The task.
        job: Job,
        /// The family of the model.
        kind: ModelKind,
        /// What it was trained for.
        trained_for: Vec<Job>,
    },
    /// A stage of the edit failed.
    #[error(transparent)]
    Stage(editmgt_core::Error),
}

fn not_trained(job: Job, kind: ModelKind, trained_for: &[Job]) -> String {
    let jobs: Vec<String> = trained_for.iter().map(|job| format!("`{job}`")).collect();
    let jobs = if jobs.is_empty() { "another task".to_owned() } else { jobs.join(" and ") };
    let instead = match job {
        Job::Edit => {
            "the part to change can be generated from a description and a mask with `inpaint`"
        }
        Job::Generate => "name a model that generates images, such as Meissonic's, with --model",
        Job::Inpaint => "name another model with --model",
    };
    format!(
        "{job}: this model (of the {kind} family) was trained for {jobs}, not to {job}; {instead}, or run \
         it with --anyway (`anyway` of the request)"
    )
}

/// How far an edit was when its observer stopped it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("stopped by the caller after {completed} of {total} steps")]
#[non_exhaustive]
pub struct StoppedEdit {
    /// Steps completed.
    pub completed: usize,
    /// Steps planned.
    pub total: usize,
    /// What the steps computed; `None` before the first one.
    pub progress: Option<Box<LoopProgress>>,
}

impl From<LoopProgress> for StoppedEdit {
    /// An edit that is continued from a state of your own; `total` is not known and 0.
    fn from(progress: LoopProgress) -> Self {
        Self { completed: progress.completed, total: 0, progress: Some(Box::new(progress)) }
    }
}

impl From<editmgt_core::Error> for EditError {
    /// A stage that could not read its weights is still the [`Model`](Self::Model)'s failure.
    fn from(error: editmgt_core::Error) -> Self {
        match error {
            editmgt_core::Error::Stage(source) => match source.downcast() {
                Ok(model) => Self::Model(*model),
                Err(source) => Self::Stage(editmgt_core::Error::Stage(source)),
            },
            editmgt_core::Error::Stopped { completed, total, progress } => {
                Self::Stopped(StoppedEdit { completed, total, progress })
            }
            error => Self::Stage(error),
        }
    }
}

impl EditError {
    /// An [`EditError::Option`].
    pub fn option(option: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Option { option, expected: expected.to_string(), got: got.to_string() }
    }
}

/// Why a model can't be loaded, written or described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The folder does not look like a model.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// There is no such folder, and no model can have this name.
    #[cfg(feature = "hub")]
    #[error("{}: there is no such folder, and no model has this name: {cause}", path.display())]
    NoModel {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it as a name.
        cause: Box<editmgt_hub::HubError>,
    },
    /// A part of a class that this program doesn't compute.
    #[error("{}: {part} is of the class {class:?}, expected {}", path.display(), known.join(" or "))]
    Class {
        /// The `model_index.json` that names it.
        path: PathBuf,
        /// The part.
        part: &'static str,
        /// Its class.
        class: String,
        /// The classes that are read.
        known: &'static [&'static str],
    },
    /// A pipeline of another method, though its parts have our names.
    #[error(
        "{}: a pipeline of the class {class:?}, expected {}; for one of these under another name use \
         --accept-unknown-keys (in the library: EditorBuilder::accept_unknown_keys)",
        path.display(), known.join(" or ")
    )]
    Pipeline {
        /// The `model_index.json` that names it.
        path: PathBuf,
        /// Its class.
        class: String,
        /// The classes that are read.
        known: &'static [&'static str],
    },
    /// A file can't be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// A file can't be written, locked or read.
    #[error(transparent)]
    Store(editmgt_store::StoreError),
    /// A config that is not understood.
    #[error("{}: {cause}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: ConfigError,
    },
    /// The weights.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// A model that is named, and is not in the hub's cache.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] editmgt_hub::HubError),
    /// A LoRA adapter.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// A tokenizer's files.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Weights that are in other bits already than those requested.
    #[error(
        "{}: its weights are in {stored} already, and {requested} were requested; leave the option out, or start from \
         the original", dir.display()
    )]
    Quantized {
        /// The component's folder.
        dir: PathBuf,
        /// The bits in the files.
        stored: WeightBits,
        /// The bits of [`LoadOptions::quantize`](crate::LoadOptions::quantize).
        requested: WeightBits,
    },
    /// Weights that are read when they are needed are not those that were there at first.
    #[error(
        "{}: the files have changed since the model was opened; open it again", dir.display()
    )]
    Changed {
        /// The component's folder.
        dir: PathBuf,
    },
    /// A model without a folder lacks a part.
    #[error(
        "no {part} was given: set it with EditorBuilder::{part}, or load the others from a folder"
    )]
    MissingPart {
        /// `codec`, `text` or `transformer`.
        part: &'static str,
    },
    /// Parts that refuse each other.
    #[error(transparent)]
    Part(#[from] editmgt_core::Error),
    /// Components that don't belong together.
    #[error("{what}: the {left} has {left_value}, the {right} has {right_value}")]
    Disagree {
        /// The number they should share.
        what: &'static str,
        /// One component.
        left: &'static str,
        /// Its number.
        left_value: usize,
        /// The other component.
        right: &'static str,
        /// Its number.
        right_value: usize,
    },
}

impl From<editmgt_store::StoreError> for ModelError {
    fn from(error: editmgt_store::StoreError) -> Self {
        match error {
            editmgt_store::StoreError::Io { path, cause } => Self::Io { path, cause },
            error => Self::Store(error),
        }
    }
}

impl ModelError {
    /// A [`ModelError::Folder`].
    pub fn folder(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Folder { path: path.into(), problem: problem.into() }
    }

    /// Makes a [`ModelError::Io`] of the system's error for this file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, cause }
    }
}
