//! The end of an edit: its image and its report.

use editmgt_core::{
    CellScores, Error, HoldMask, HoldRequest, LoopProgress, RegionHold, TextEncoder, TokenGrid,
    UserMask,
};

use super::composite::{Composited, Edited};
use super::stages::Stages;
use super::{PhotoRun, Prepared};
use crate::editor::EditResult;
use crate::error::EditError;
use crate::photo::{PhotoNote, keep_hidden};
use crate::report::{EditReport, ScoreReport, StepsReport, TextLeftOut};
use crate::request::EditSettings;

impl PhotoRun<'_> {
    /// Decodes, composites and reports.
    pub(super) fn finish(
        &self,
        prepared: Prepared,
        progress: LoopProgress,
        resumed_after: usize,
        stages: &mut Stages<'_>,
    ) -> Result<EditResult, EditError> {
        let Prepared { settings, plan, reference, user_mask, input, hold } = prepared;
        let model = self.editor.model();
        let held = kept(&progress, &reference, user_mask.as_ref())?;
        let edited = Edited { tokens: &progress.tokens, reference: &reference, held: &held, plan };
        let Composited { mut image, change, report: composite } =
            self.composite(&edited, &settings, stages)?;
        let edit_transparent = keep_hidden(self.photo, &mut image);
        let mut notes = self.photo.notes().to_vec();
        let percent = (100.0 * edit_transparent).round() as u8;
        if percent > 0 {
            notes.push(PhotoNote::EditTransparent { percent });
        }
        let scores = progress.scores.as_ref().map(|scores| {
            let (mask, step) = (user_mask.as_ref(), progress.completed.saturating_sub(1));
            let first = progress.first_scores.as_ref().unwrap_or(scores);
            let cells = progress.cells.as_ref().map(|scores| CellScores {
                scores,
                first: progress.first_cells.as_ref().unwrap_or(scores),
            });
            let request = HoldRequest { scores, first, mask, step, cells };
            ScoreReport::new(scores, hold.threshold(&request, 0))
        });
        let text_left_out = self.text_left_out(&settings)?;
        let settings_plan = settings.steps_plan;
        let report = EditReport {
            version: env!("CARGO_PKG_VERSION"),
            model: model.source.clone(),
            device: format!("{:?}", model.device),
            request: self.request.clone(),
            tile: model.codec.tile_side(reference.size(), settings.tile),
            custom_stages: self.editor.custom().names(&settings),
            settings,
            photo: self.photo.size(),
            animation: self.photo.is_animation(),
            notes,
            mask_notes: self.mask().map_or_else(Vec::new, |mask| mask.notes().to_vec()),
            edit_transparent,
            text_left_out,
            model_pixels: plan.model(),
            plan,
            grid: reference.size(),
            blocks: input.localisation.blocks,
            scores,
            tokens_held: held.share(),
            tokens_changed: share(
                progress.tokens.ids().iter().zip(reference.ids()).map(|(a, b)| a != b),
            ),
            pixels_kept: share(image.pixels().zip(self.photo.rgb().pixels()).map(|(a, b)| a == b)),
            ties: progress.ties,
            steps: StepsReport::new(progress.work, settings_plan, model.transformer.caches_steps()),
            composite,
            resumed_after,
            seconds: std::mem::take(&mut stages.seconds),
            peak_memory_bytes: editmgt_backends::peak_memory(),
        };
        let LoopProgress { tokens, scores, .. } = progress;
        let image = self.photo.edited(image)?;
        Ok(EditResult { image, report, tokens, reference, scores, held, change })
    }

    /// What the encoders leave out of the prompts that they are given.
    fn text_left_out(&self, settings: &EditSettings) -> Result<Vec<TextLeftOut>, Error> {
        left_out(&*self.editor.model().text, ("instruction", &settings.instruction), {
            (settings.guidance_scale > 1.0).then_some(&settings.negative_prompt)
        })
    }
}

/// What the encoder leaves out of a prompt and a negative prompt.
pub(super) fn left_out(
    encoder: &dyn TextEncoder,
    (name, prompt): (&'static str, &String),
    negative: Option<&String>,
) -> Result<Vec<TextLeftOut>, Error> {
    let negative = negative.map(|text| ("negative_prompt", text));
    let mut found = Vec::new();
    for (prompt, text) in [(name, prompt)].into_iter().chain(negative) {
        let parts = encoder.truncation(text)?;
        found.extend(parts.into_iter().map(|part| TextLeftOut { prompt, part }));
    }
    Ok(found)
}

/// The tokens that are the photo's because they were held, or because the user's mask is black
/// there. (In parity mode a token can be held at one step and not at the next; only those that
/// ended as the photo's count.)
fn kept(
    progress: &LoopProgress,
    reference: &TokenGrid,
    mask: Option<&UserMask>,
) -> Result<HoldMask, Error> {
    let ever_held = progress.ever_held.held();
    let kept = progress.tokens.ids().iter().zip(reference.ids()).enumerate().map(|(i, (a, b))| {
        a == b && (ever_held[i] || mask.is_some_and(|mask| !mask.may_change(i)))
    });
    HoldMask::new(1, reference.size(), kept.collect())
}

/// Fraction of `true`, 0..1; 0 for an empty slice.
pub(super) fn share(all: impl ExactSizeIterator<Item = bool>) -> f32 {
    let count = all.len();
    all.filter(|&so| so).count() as f32 / count.max(1) as f32
}
