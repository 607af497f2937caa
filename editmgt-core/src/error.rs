use crate::{GridSize, LoopProgress};

/// The result of a stage.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a stage refuses, with what it expected, what came, and what to do.
///
/// Implementations of the traits outside this workspace report their own failures with
/// [`Error::stage`].
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
        /// The extent that came.
        got: String,
    },

    /// A number is outside its range, or is not a number.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// What was given, for instance `"guidance scale"`.
        what: &'static str,
        /// The range that was expected.
        expected: String,
        /// The value that came.
        got: String,
    },

    /// A token id that the model has no row for.
    #[error("token {id} at position {position}: expected an id below {limit}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Row-major position in the whole batch.
        position: usize,
        /// One more than the largest id.
        limit: usize,
    },

    /// The codec was asked to decode a grid that is not finished.
    #[error(
        "{count} of {total} tokens are no codes (the mask token, or ids of {codebook_size} and above); \
         finish sampling before decoding"
    )]
    MaskTokenRemains {
        /// How many such tokens there are.
        count: usize,
        /// All tokens of the grid.
        total: usize,
        /// The codec's number of codes.
        codebook_size: usize,
    },

    /// The phrase that should steer the localisation is not part of the instruction.
    #[error(
        "the phrase {phrase:?} does not occur in {prompt:?}; use words of the instruction itself"
    )]
    PhraseNotFound {
        /// The phrase that was looked for.
        phrase: String,
        /// The text that it was looked for in.
        prompt: String,
    },

    /// The grid's sides don't suit the model.
    #[error("a grid of {got} tokens: {why}")]
    Grid {
        /// The grid that came.
        got: GridSize,
        /// What the model needs.
        why: String,
    },

    /// An observer answered [`Flow::Stop`](crate::Flow::Stop).
    #[error("stopped by the caller after {completed} of {total} steps")]
    Stopped {
        /// Steps that were completed.
        completed: usize,
        /// Steps that were planned.
        total: usize,
        /// What to go on from; `None` when nothing was sampled yet.
        progress: Option<Box<LoopProgress>>,
    },

    /// The device failed to compute or to hand over a result.
    #[error("the device failed while {doing}: {message}")]
    Device {
        /// What was being done.
        doing: &'static str,
        /// The backend's own words.
        message: String,
    },

    /// A failure of an implementation, in its own error type.
    #[error(transparent)]
    Stage(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps the error type of an implementation.
    pub fn stage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Stage(Box::new(error))
    }

    /// A wrong extent: anything printable on both sides.
    pub fn shape(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Shape { what, expected: expected.to_string(), got: got.to_string() }
    }

    /// A value outside its range.
    pub fn value(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Value { what, expected: expected.to_string(), got: got.to_string() }
    }

    /// A failed device, in the words of its error.
    pub fn device(doing: &'static str, error: impl std::fmt::Debug) -> Self {
        Self::Device { doing, message: format!("{error:?}") }
    }
}
