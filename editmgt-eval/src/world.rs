use editmgt::{EditRequest, EditResult, Editor};
use editmgt_world::Metrics;
use editmgt_world::{Example, Split, World};
use editmgt_world::{Trial, round_trip, touched, trial, trial_with_oracle_mask};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use crate::metrics::{Differences, Visibility, above, auc, iou};
use crate::suite::{edits_identity, seconds};
use crate::{EvalError, Measured, Panels, Record, Suite};

/// Scenes of the training world, with known true edits.
pub struct WorldSuite<'a> {
    /// The editor.
    pub editor: &'a Editor,
    /// The request; the instruction is each example's own. `None` makes no edits but measures the
    /// true images after the codec's round trip: an upper bound for every edit.
    pub request: Option<EditRequest>,
    /// The world.
    pub world: &'a World,
    /// The split: [`Split::Test`] for numbers to report.
    pub split: Split,
    /// Number of scenes, 1 or more; a run can be resumed with more.
    pub n: u64,
    /// Whether each edit gets a user's mask of the tokens that truly change.
    pub oracle_mask: bool,
}

/// The score from which a token counts as edited: the middle of a rescaled map.
const MIDDLE: f32 = 0.5;

impl Suite for WorldSuite<'_> {
    fn identity(&self) -> Result<Value, EvalError> {
        let edits = match &self.request {
            Some(request) => edits_identity(self.editor, request)?,
            None => json!({"codec_only": true, "model": self.editor.model().source}),
        };
        let world = self.world.config();
        let mut identity =
            json!({"suite": "world", "world": world, "split": self.split, "edits": edits});
        if self.oracle_mask {
            identity["oracle_mask"] = true.into();
        }
        Ok(identity)
    }

    fn len(&self) -> u64 {
        self.n
    }

    fn measure(&self, index: u64) -> Result<Measured, EvalError> {
        let at = (self.split, index);
        let error = EvalError::edit(index);
        let Some(request) = &self.request else {
            let (trial, example, picture) =
                round_trip(self.editor, self.world, at).map_err(error)?;
            return measured(trial, example, picture, None);
        };
        let edit = if self.oracle_mask { trial_with_oracle_mask } else { trial };
        let (trial, example, edited) = edit(self.editor, self.world, at, request).map_err(error)?;
        measured(trial, example, edited.image.rgb().clone(), Some(&edited))
    }
}

fn measured(
    trial: Trial,
    example: Example,
    picture: RgbImage,
    edited: Option<&EditResult>,
) -> Result<Measured, EvalError> {
    let pair = example.pair;
    let mask = pair.changed.as_ref();
    let flag = |is: bool| f64::from(u8::from(is));
    let mut metrics = Differences::between(&picture, &pair.after, mask)?
        .named()
        .and(&Visibility::between(&picture, &pair.after, mask)?.named())
        .with("success", flag(trial.judgement.success))
        .with("right", flag(trial.judgement.right));
    if let Some(outside) = Differences::between(&picture, &pair.before, mask)?.outside {
        metrics = metrics.with("pixels_changed_outside", outside.changed);
    }
    if let Some(edited) = edited {
        let truth = mask.map(|mask| touched(mask, edited.tokens.size()));
        metrics = metrics.and(&localised(edited, truth.as_deref())?);
    }
    let record = Record {
        index: trial.index,
        name: None,
        category: Some(trial.category),
        kind: None,
        instruction: trial.instruction,
        metrics,
        skipped: None,
    };
    let (map, held) = edited.map_or((None, None), maps);
    let panels = Panels { before: pair.before, truth: Some(pair.after), map, held, after: picture };
    Ok(Measured { record, panels: Some(panels), seconds: edited.map(seconds) })
}

/// The share of held tokens, and, if the true edit's tokens are known, how well held tokens and
/// scores match them, and the share of other tokens that changed.
pub(crate) fn localised(edited: &EditResult, truth: Option<&[bool]>) -> Result<Metrics, EvalError> {
    let report = &edited.report;
    let metrics = Metrics::default()
        .with("tokens_held", f64::from(report.tokens_held))
        .with("cells_computed", f64::from(report.steps.computed));
    let Some(truth) = truth else { return Ok(metrics) };
    let free: Vec<bool> = edited.held.held().iter().map(|held| !held).collect();
    let scores = edited.scores.as_ref().map(|scores| scores.image(0));
    let found = scores.map(|scores| iou(&above(scores, MIDDLE), truth)).transpose()?;
    let numbers = [
        ("tokens_changed_outside", changed_outside(edited, truth)),
        ("free_iou", iou(&free, truth)?),
        ("score_auc", scores.and_then(|scores| auc(scores, truth))),
        ("score_iou", found.flatten()),
    ];
    let known = numbers.into_iter().filter_map(|(name, value)| Some((name, value?)));
    Ok(known.fold(metrics, |metrics, (name, value)| metrics.with(name, value)))
}

/// The share of the tokens outside the true edit that differ from the photo's; `None` if there are
/// none.
fn changed_outside(edited: &EditResult, truth: &[bool]) -> Option<f64> {
    let tokens = edited.tokens.ids().iter().zip(edited.reference.ids()).zip(truth);
    let outside: Vec<bool> =
        tokens.filter(|(_, inside)| !**inside).map(|((a, b), _)| a != b).collect();
    let changed = outside.iter().filter(|&&changed| changed).count();
    (!outside.is_empty()).then(|| changed as f64 / outside.len() as f64)
}

/// The score map and the held tokens as images.
pub(crate) fn maps(edited: &EditResult) -> (Option<RgbImage>, Option<RgbImage>) {
    let grid = edited.tokens.size();
    let picture = |grey: &dyn Fn(usize) -> u8| {
        RgbImage::from_fn(grid.width as u32, grid.height as u32, |x, y| {
            Rgb([grey(y as usize * grid.width + x as usize); 3])
        })
    };
    let map = edited.scores.as_ref().map(|scores| {
        let scores = scores.image(0);
        picture(&|i| (scores[i].clamp(0.0, 1.0) * 255.0) as u8)
    });
    let held = edited.held.held();
    (map, Some(picture(&|i| if held[i] { 40 } else { 230 })))
}
