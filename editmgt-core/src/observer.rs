use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::TokenGrid;

/// A stage of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Encoding the instruction.
    EncodeText,
    /// Encoding the photo.
    EncodeImage,
    /// The sampling loop.
    Sample,
    /// Decoding the result.
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
        /// The prediction for the whole canvas; it can be decoded for a preview.
        predicted: &'a TokenGrid,
        /// Masked tokens left in the whole batch.
        masked: usize,
        /// Fraction of the tokens that region hold kept at this step, 0..1.
        held: f32,
    },
    /// A decoded preview of the prediction after a step; only if the observer requests it by
    /// [`wants_preview`](EditObserver::wants_preview).
    Preview {
        /// Steps completed, 1..=`total`.
        completed: usize,
        /// Steps planned.
        total: usize,
        /// `[B, 3, H, W]` RGB in 0..1, at the model's size divided by
        /// [`preview_shrink`](EditObserver::preview_shrink).
        image: &'a Tensor<4>,
    },
    /// A stage is done.
    StageFinished(Stage),
}

/// Whether to continue an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Continue.
    Continue,
    /// Stop as soon as possible: the edit returns [`Error::Stopped`](crate::Error::Stopped).
    Stop,
}

/// Receives the events of an edit, and can stop it.
pub trait EditObserver {
    /// Called on the editing thread; the edit continues when it returns.
    fn event(&mut self, event: &EditEvent<'_>) -> Flow;

    /// Whether to decode a preview after `completed` of `total` steps. A preview costs one run of
    /// the codec's decoder. No cost unless requested.
    fn wants_preview(&mut self, completed: usize, total: usize) -> bool {
        let _ = (completed, total);
        false
    }

    /// Factor by which previews are smaller than the edit, along each side: see
    /// [`VqCodec::decode_small`](crate::VqCodec::decode_small). The default is 1.
    fn preview_shrink(&self) -> usize {
        1
    }
}

/// Requests previews for an observer, at an interval of steps and after the last step.
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
    /// Requests a preview after every `steps` steps and after the last; with 0, only after the
    /// last. `observer` receives all events.
    pub fn every(steps: usize, observer: O) -> Self {
        Self { steps, shrink: 1, observer }
    }

    /// Makes previews `times` smaller, along each side.
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
