use burn::tensor::Tensor;
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
    /// The model's guess after a step as a picture; only for an observer that
    /// [`wants_preview`](EditObserver::wants_preview).
    Preview {
        /// Steps completed, 1..=`total`.
        completed: usize,
        /// Steps planned.
        total: usize,
        /// `[B, 3, H, W]` RGB in 0..1, in the size that the model works on, or so many times
        /// smaller as the observer [says](EditObserver::preview_shrink).
        image: &'a Tensor<4>,
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

    /// Whether to decode a preview after this many of `total` steps. It costs a run of the
    /// codec's decoder; who doesn't ask pays nothing.
    fn wants_preview(&mut self, completed: usize, total: usize) -> bool {
        let _ = (completed, total);
        false
    }

    /// How many times smaller than the edit previews are, along each side: see
    /// [`VqCodec::decode_small`](crate::VqCodec::decode_small). 1, unless the observer says more.
    fn preview_shrink(&self) -> usize {
        1
    }
}

/// An observer that sees previews: after every so many steps, and after the last.
///
/// ```
/// use editmgt_core::{EditEvent, EditObserver, Flow, Previews};
///
/// let show = |event: &EditEvent<'_>| {
///     if let EditEvent::Preview { completed, image, .. } = event {
///         println!("step {completed}: {:?}", image.dims());
///     }
///     Flow::Continue
/// };
/// let mut observer = Previews::every(4, show);
/// assert!(observer.wants_preview(4, 6) && observer.wants_preview(6, 6));
/// assert!(!observer.wants_preview(5, 6));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Previews<O> {
    steps: usize,
    shrink: usize,
    observer: O,
}

impl<O: EditObserver> Previews<O> {
    /// Previews after every `steps` steps for `observer`, which also sees all other events; 0:
    /// after the last alone.
    pub fn every(steps: usize, observer: O) -> Self {
        Self { steps, shrink: 1, observer }
    }

    /// The same, with pictures `times` smaller, along each side.
    #[must_use]
    pub fn shrunk(self, times: usize) -> Self {
        Self { shrink: times, ..self }
    }
}

impl<O: EditObserver> EditObserver for Previews<O> {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        self.observer.event(event)
    }

    fn wants_preview(&mut self, completed: usize, total: usize) -> bool {
        completed == total || (self.steps > 0 && completed.is_multiple_of(self.steps))
    }

    fn preview_shrink(&self) -> usize {
        self.shrink
    }
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
