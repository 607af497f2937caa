//! What was done, for the record.

use std::fmt;

use editmgt_core::{GridSize, ScoreMap, ScoreStats, Stage, Truncation};
use serde::Serialize;

use crate::model::ModelSource;
use crate::photo::{ChangeThresholds, PhotoNote, PixelSize, ResizePlan};
use crate::request::{CompositePolicy, EditRequest, EditSettings};

/// A record of one edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EditReport {
    /// Version of this library.
    pub version: &'static str,
    /// Which model it was, in which precision; `None` for parts of your own.
    pub model: Option<ModelSource>,
    /// Where it was computed, in the backend's words.
    pub device: String,
    /// What the user said.
    pub request: EditRequest,
    /// Every option in force.
    pub settings: EditSettings,
    /// The stages that the program replaced by its own (`scheduler`, `consolidator`, `hold`, `noise`),
    /// in the editor or, with [`HoldPolicy::custom`](crate::HoldPolicy::custom), in the request: their
    /// options in `settings` did not count.
    pub custom_stages: Vec<&'static str>,
    /// Size of the photo, and so of the result, in pixels.
    pub photo: PixelSize,
    /// Whether that was the first frame of an animation, whose others were not edited.
    pub animation: bool,
    /// What reading the photo left out or changed; the CLI and batches add what the output's format
    /// has no place for ([`Photo::losses`](crate::Photo::losses)).
    pub notes: Vec<PhotoNote>,
    /// How the mask was read, where that is not plain.
    pub mask_notes: Vec<PhotoNote>,
    /// Share of the changed pixels that does not show since the photo is transparent there,
    /// weighted by opacity, 0..1.
    pub edit_transparent: f32,
    /// What the text encoders left out of prompts that are too long.
    pub text_left_out: Vec<TextLeftOut>,
    /// Size that the model worked on, in pixels.
    pub model_pixels: PixelSize,
    /// How the photo was mapped onto those, and back.
    pub plan: ResizePlan,
    /// The token grid.
    pub grid: GridSize,
    /// Blocks whose attention was consolidated; empty when none was needed.
    pub blocks: Vec<usize>,
    /// The score map of the last step; `None` when nothing needed one.
    pub scores: Option<ScoreReport>,
    /// Share of the tokens that are the photo's own because they were held, 0..1.
    pub tokens_held: f32,
    /// Share of the tokens that differ from the photo's, 0..1.
    pub tokens_changed: f32,
    /// Which pixels are the photo's own, and why.
    pub composite: CompositeReport,
    /// Share of the result's pixels that are the photo's, byte for byte, 0..1.
    pub pixels_kept: f32,
    /// Tokens within 1e-4 of being decided otherwise, over all steps, and over all photos of the pass in
    /// [`Editor::edit_batch`](crate::Editor::edit_batch).
    pub ties: usize,
    /// Steps that were done before the edit was stopped and went on; 0 for one that never was.
    pub resumed_after: usize,
    /// Seconds that each stage took, in order. A stage whose outcome was known from an earlier
    /// edit of the photo did not run.
    pub seconds: Vec<(Stage, f64)>,
    /// The most memory that the process had until now, bytes (not the device's, where that has
    /// its own); `None` where the system does not say.
    pub peak_memory_bytes: Option<u64>,
}

/// How the photo's own pixels were put back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CompositeReport {
    /// The policy in force.
    pub policy: CompositePolicy,
    /// What was put back.
    pub put_back: PutBack,
    /// Median difference between the photo and the photo after the codec, levels of 255, where it
    /// was measured.
    pub codec_noise: Option<f32>,
    /// Which change counted as visible, where that was looked at.
    pub thresholds: Option<ChangeThresholds>,
    /// What a user may want to know, a sentence; `None` for nothing.
    pub note: Option<String>,
}

/// Shares of the photo's pixels, 0..1, that are the photo's own, each pixel by the first reason of
/// these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PutBack {
    /// The model did not see them (a crop).
    pub unseen: f32,
    /// Their token was held.
    pub held: f32,
    /// The user's mask is black there.
    pub mask: f32,
    /// Their token came out as the photo's own.
    pub unchanged: f32,
    /// Their token is another, but the change cannot be seen above the codec's noise.
    pub invisible: f32,
}

impl PutBack {
    /// For an edit that changed this share of the tokens.
    pub(crate) fn note(&self, tokens_changed: f32) -> Option<String> {
        /// More than this is an edit of the whole image.
        const MOST: f32 = 0.5;
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

/// A part of a prompt that a text encoder left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextLeftOut {
    /// `instruction` or `negative_prompt`.
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
pub struct ScoreReport {
    /// Least, largest and mean score.
    #[serde(flatten)]
    pub stats: ScoreStats,
    /// The score below which tokens (with `auto`, cells of the attention) were held at that step;
    /// `None` when the policy found none.
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
    fn notes_a_faint_edit_of_the_whole_image() {
        let back = PutBack { invisible: 0.6, ..PutBack::default() };
        assert!(back.note(0.9).unwrap().contains("--composite all"));
        assert_eq!(back.note(0.2), None, "a local edit");
        assert_eq!(PutBack { unchanged: 0.9, ..PutBack::default() }.note(0.9), None);
    }
}
