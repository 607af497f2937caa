//! Runs a stage on the inputs of a golden folder and compares what comes out with the expected
//! values: the way to check a port of a checkpoint, a backend or a codec.
//!
//! The format of a golden folder is described in `docs/golden-format.md`.

mod compare;
mod golden;

use std::path::PathBuf;

pub use compare::{Comparison, Measure};
pub use golden::{GoldenFolder, GoldenTensor};

/// Why a folder could not be verified at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The golden file or its manifest is not as it should be.
    #[error("{}: {message}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A stage refused the golden inputs.
    #[error(transparent)]
    Stage(#[from] editmgt_core::Error),
    /// A component can't be loaded.
    #[error(transparent)]
    Component(Box<dyn std::error::Error + Send + Sync>),
}

impl VerifyError {
    /// A malformed golden file.
    pub fn golden(path: PathBuf, message: String) -> Self {
        Self::Golden { path, message }
    }

    /// A component that can't be loaded.
    pub fn component(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Component(Box::new(error))
    }
}
