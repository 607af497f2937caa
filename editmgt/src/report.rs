//! Reports of edits.

use std::fmt;

use editmgt_core::{GridSize, ScoreMap, ScoreStats, Stage, StepPlan, StepWork, Truncation};
use editmgt_text::DEFAULT_NEGATIVE_PROMPT;
use serde::Serialize;

use crate::model::ModelSource;
use crate::photo::{ChangeThresholds, PhotoNote, PixelSize, ResizePlan};
use crate::request::{CompositePolicy, EditRequest, EditSettings};

/// Report of one edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EditReport {
    /// Version of this library.
    pub version: &'static str,
    /// Identity and precision of the model; `None` for custom parts.
    pub model: Option<ModelSource>,
    /// The device, in the backend's words.
    pub device: String,
    /// The request: only the explicitly set options.
    pub request: EditRequest,
    /// All effective options.
    pub settings: EditSettings,
    /// The stages that the program replaced by its own (`scheduler`, `consolidator`, `hold`,
    /// `noise`), in the editor or, with [`HoldPolicy::custom`](crate::HoldPolicy::custom), in the
    /// request: their options in `settings` did not count.
    pub custom_stages: Vec<&'static str>,
    /// Size of the photo and of the result, in pixels; with an outpainting, of the result.
    pub photo: PixelSize,
    /// Whether the photo is the first frame of an animation.
    pub animation: bool,
    /// Data that reading the photo dropped or changed; the CLI and batches add data that the
    /// output's format does not support ([`Photo::losses`](crate::Photo::losses)).
    pub notes: Vec<PhotoNote>,
    /// Remarks on how the mask was interpreted.
    pub mask_notes: Vec<PhotoNote>,
    /// Share of the changed pixels that is invisible because the photo is transparent there,
    /// weighted by opacity, 0..1.
    pub edit_transparent: f32,
    /// Truncated parts of prompts.
    pub text_left_out: Vec<TextLeftOut>,
    /// Size of the model's image in pixels.
    pub model_pixels: PixelSize,
    /// The photo's resize plan.
    pub plan: ResizePlan,
    /// The token grid.
    pub grid: GridSize,
    /// Side of the tiles in which the codec encoded and decoded, in pixels; `None` for the whole
    /// image at once.
    pub tile: Option<usize>,
    /// Blocks whose attention was consolidated; empty if none was needed.
    pub blocks: Vec<usize>,
    /// The score map of the last step; `None` if not computed.
    pub scores: Option<ScoreReport>,
    /// Share of held tokens, 0..1.
    pub tokens_held: f32,
    /// Share of the tokens that differ from the photo's, 0..1.
    pub tokens_changed: f32,
    /// The photo's own pixels by reason.
    pub composite: CompositeReport,
    /// Share of the result's pixels that are the photo's, byte for byte, 0..1.
    pub pixels_kept: f32,
    /// Tokens within 1e-4 of being decided otherwise, over all steps, and over all photos of the
    /// pass in [`Editor::edit_batch`](crate::Editor::edit_batch).
    pub ties: usize,
    /// What the steps computed, over all photos of the pass in
    /// [`Editor::edit_batch`](crate::Editor::edit_batch).
    pub steps: StepsReport,
    /// Steps done before the edit was resumed; 0 for an uninterrupted edit.
    pub resumed_after: usize,
    /// Seconds of each stage, in order. A stage whose result was known from an earlier edit of the
    /// photo did not run.
    pub seconds: Vec<(Stage, f64)>,
    /// Peak memory of the process so far in bytes (host memory, not the device's); `None` if the
    /// system does not report it.
    pub peak_memory_bytes: Option<u64>,
}

/// What the steps of an edit computed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepsReport {
    /// Steps that computed the whole picture.
    pub full: usize,
    /// Steps that computed a part of it, or nothing.
    pub partial: usize,
    /// Mean fraction of the picture that a step computed, 0..1.
    pub computed: f32,
    /// A remark for the user: a plan of cached steps that the model could not follow.
    pub note: Option<String>,
}

impl StepsReport {
    pub(crate) fn new(work: StepWork, plan: StepPlan, caches_steps: bool) -> Self {
        let StepWork { full, partial, cells } = work;
        let note = (plan != StepPlan::Exact && !caches_steps).then(|| {
            format!("the transformer cannot cache steps: {plan} was taken as {}", StepPlan::Exact)
        });
        Self { full, partial, computed: cells / (full + partial).max(1) as f32, note }
    }
}

impl EditReport {
    /// What encoders left out of the prompts that the request gave. (The default negative prompt,
    /// given or not, can be longer than CLIP's sequence, as in the official code.)
    pub fn prompts_cut(&self) -> impl Iterator<Item = &TextLeftOut> {
        let given = self.request.negative_prompt.as_deref();
        let has_negative = given.is_some_and(|given| given != DEFAULT_NEGATIVE_PROMPT);
        self.text_left_out.iter().filter(move |part| has_negative || part.prompt == "instruction")
    }
}

/// How the photo's own pixels were restored.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CompositeReport {
    /// The policy in force.
    pub policy: CompositePolicy,
    /// Shares of restored pixels.
    pub put_back: PutBack,
    /// Median difference between the photo and its codec round trip, levels of 255, if measured.
    pub codec_noise: Option<f32>,
    /// Thresholds of visible change, if used.
    pub thresholds: Option<ChangeThresholds>,
    /// A remark for the user, if any.
    pub note: Option<String>,
}

/// Shares of the photo's pixels, 0..1, that are the photo's own, each pixel counted by the first
/// applicable reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PutBack {
    /// Outside the model's image (a crop).
    pub unseen: f32,
    /// Their token was held.
    pub held: f32,
    /// The user's mask is black there.
    pub mask: f32,
    /// Their token equals the photo's own.
    pub unchanged: f32,
    /// Their token differs, but the change is not visible above the codec's noise.
    pub invisible: f32,
}

impl PutBack {
    /// The remark for an edit that changed this share of the tokens.
    pub(crate) fn note(&self, tokens_changed: f32) -> Option<String> {
        /// More than this is an edit of the whole image. Where a codec with global norms gives
        /// near-synonyms for half of the tokens, a local edit changes 0.6 of them (measured in
        /// `docs/notes/visible-composite.md`).
        const MOST: f32 = 0.75;
        /// As much put back of it is worth a note.
        const MUCH: f32 = 0.25;
        (tokens_changed > MOST && self.invisible > MUCH).then(|| {
            format!(
                "the edit changed {:.0}% of the tokens, but {:.0}% of the pixels so little that \
                 the photo's own were put back; --composite all keeps them as they were edited",
                100.0 * tokens_changed,
                100.0 * self.invisible
            )
        })
    }
}

/// A truncated part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TextLeftOut {
    /// `instruction`, `prompt` (of generated images) or `negative_prompt`.
    pub prompt: &'static str,
    /// The encoder and the part.
    #[serde(flatten)]
    pub part: Truncation,
}

impl fmt::Display for TextLeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} is too long: {}", self.prompt.replace('_', " "), self.part)
    }
}

/// The score map of the last step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScoreReport {
    /// Minimum, maximum and mean score.
    #[serde(flatten)]
    pub stats: ScoreStats,
    /// The score below which tokens (with `auto`, cells of the attention) were held at that step;
    /// `None` if the policy found no threshold.
    pub threshold: Option<f32>,
}

impl ScoreReport {
    pub(crate) fn new(scores: &ScoreMap, threshold: Option<f32>) -> Self {
        Self { stats: scores.stats(0), threshold }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_a_plan_that_the_model_could_not_follow() {
        let work = StepWork { full: 2, partial: 6, cells: 4.0 };
        let report = StepsReport::new(work, StepPlan::cached(8), true);
        assert_eq!((report.full, report.partial, report.computed), (2, 6, 0.5));
        assert_eq!(report.note, None);
        assert_eq!(StepsReport::new(work, StepPlan::Exact, false).note, None);
        let note = StepsReport::new(work, StepPlan::cached(8), false).note.unwrap();
        assert!(note.contains("cached:8 was taken as exact"), "{note}");
    }

    #[test]
    fn notes_a_faint_edit_of_the_whole_image() {
        let back = PutBack { invisible: 0.6, ..PutBack::default() };
        assert!(back.note(0.9).unwrap().contains("--composite all"));
        assert_eq!(back.note(0.2), None, "a local edit");
        assert_eq!(back.note(0.6), None, "a local edit and a codec with global norms");
        assert_eq!(PutBack { unchanged: 0.9, ..PutBack::default() }.note(0.9), None);
    }
}
