use crate::{GridSize, LoopProgress};

/// The result of a stage.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a stage: what it expected, what it got, and what to do.
///
/// Implementations of the traits outside this workspace wrap their errors with [`Error::stage`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor, grid or list has the wrong extent.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// What was measured, for instance `"reference tokens"`.
        what: &'static str,
        /// The extent that was expected.
        expected: String,
        /// The actual extent.
        got: String,
    },

    /// A value is outside its range, or NaN.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// What was given, for instance `"guidance scale"`.
        what: &'static str,
        /// The range that was expected.
        expected: String,
        /// The actual value.
        got: String,
    },

    /// A token id is outside the embedding table.
    #[error("token {id} at position {position}: expected an id below {limit}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Row-major position in the whole batch.
        position: usize,
        /// One more than the largest id.
        limit: usize,
    },

    /// The grid to decode has ids that are not codebook indices.
    #[error(
        "{count} of {total} tokens are not codebook indices (the mask token, or ids of {codebook_size} and \
         above); finish sampling before decoding"
    )]
    MaskTokenRemains {
        /// Number of such tokens.
        count: usize,
        /// Number of tokens of the grid.
        total: usize,
        /// The codec's number of codes.
        codebook_size: usize,
    },

    /// The keyword for the localisation does not occur in the instruction.
    #[error(
        "the phrase {phrase:?} does not occur in {prompt:?}; use words of the instruction itself"
    )]
    PhraseNotFound {
        /// The phrase that was looked for.
        phrase: String,
        /// The text that it was looked for in.
        prompt: String,
    },

    /// The grid size is not supported by the model.
    #[error("a grid of {got} tokens: {why}")]
    Grid {
        /// The actual grid.
        got: GridSize,
        /// What the model requires.
        why: String,
    },

    /// An observer answered [`Flow::Stop`](crate::Flow::Stop).
    #[error("stopped by the caller after {completed} of {total} steps")]
    Stopped {
        /// Steps that were completed.
        completed: usize,
        /// Steps that were planned.
        total: usize,
        /// The state to resume from; `None` if sampling had not started.
        progress: Option<Box<LoopProgress>>,
    },

    /// The device failed to compute or to return a result.
    #[error("the device failed while {doing}: {message}")]
    Device {
        /// The operation that failed.
        doing: &'static str,
        /// The backend's error message.
        message: String,
    },

    /// An error of an implementation, in its error type.
    #[error(transparent)]
    Stage(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps the error type of an implementation.
    pub fn stage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Stage(Box::new(error))
    }

    /// An [`Error::Shape`].
    pub fn shape(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Shape { what, expected: expected.to_string(), got: got.to_string() }
    }

    /// An [`Error::Value`].
    pub fn value(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Value { what, expected: expected.to_string(), got: got.to_string() }
    }

    /// An [`Error::Device`] with the debug form of the backend's error.
    pub fn device(doing: &'static str, error: impl std::fmt::Debug) -> Self {
        Self::Device { doing, message: format!("{error:?}") }
    }
}
