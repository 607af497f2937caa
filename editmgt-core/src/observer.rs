use serde::{Deserialize, Serialize};

use crate::TokenGrid;

/// A part of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Instruction to features.
    EncodeText,
    /// Photo to tokens.
    EncodeImage,
    /// The loop over steps.
    Sample,
    /// Tokens to image.
    Decode,
}

/// Something that happened during an edit.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum EditEvent<'a> {
    /// A stage begins.
    StageStarted(Stage),
    /// A step of the loop is done.
    Step {
        /// Steps completed, 1..=`total`.
        completed: usize,
        /// Steps planned.
        total: usize,
        /// The canvas after the step.
        tokens: &'a TokenGrid,
        /// The model's guess for the whole canvas: decode it for a preview.
        predicted: &'a TokenGrid,
        /// Masked tokens left in the whole batch.
        masked: usize,
        /// Share of the tokens that region hold kept at this step, 0..1.
        held: f32,
    },
    /// A stage is done.
    StageFinished(Stage),
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop as soon as possible: the edit ends with
    /// [`Error::Stopped`](crate::Error::Stopped) and writes nothing.
    Stop,
}

/// Watches an edit, and may stop it.
pub trait EditObserver {
    /// Called on the editing thread; the edit waits for the answer.
    fn event(&mut self, event: &EditEvent<'_>) -> Flow;
}

/// Watches nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl EditObserver for Silent {
    fn event(&mut self, _: &EditEvent<'_>) -> Flow {
        Flow::Continue
    }
}

impl<F: FnMut(&EditEvent<'_>) -> Flow> EditObserver for F {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        self(event)
    }
}
