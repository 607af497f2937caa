//! Trials: edits of the world by an editor, judged against its ground truth.

use std::collections::BTreeMap;
use std::fmt;

use editmgt::{EditError, EditRequest, EditResult, Editor, Mask, Photo, ResizePlan};
use editmgt_core::GridSize;
use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

use crate::{Category, Example, Judgement, Split, World};

/// Outcome of one edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Index of the example in its split.
    pub index: u64,
    /// The category.
    pub category: Category,
    /// The instruction.
    pub instruction: String,
    /// Whether the edit is a strict success.
    pub judgement: Judgement,
    /// The share of tokens outside the true change that differ from the photo's, 0..=1; 0 if
    /// everything changes.
    pub tokens_changed_outside: f64,
    /// ROC AUC of the score map for the changed tokens: 0.5 is chance; `None` without scores, or if
    /// all tokens change or none.
    pub score_auc: Option<f64>,
    /// Peak signal-to-noise ratio of the edited image against the true one, decibels.
    pub psnr: f64,
}

/// Edits example `index` of a split and judges the image.
///
/// `request` has the options; its instruction is replaced by the example's.
///
/// # Errors
/// Those of the edit.
pub fn trial(
    editor: &Editor,
    world: &World,
    at: (Split, u64),
    request: &EditRequest,
) -> Result<(Trial, Example, EditResult), EditError> {
    trial_with(editor, world, at, |_| request.clone())
}

/// [`trial`] with a user's mask: of the tokens that truly change, those of a mask drawn by hand
/// that is exact to a token.
///
/// # Errors
/// Those of the edit.
pub fn trial_with_oracle_mask(
    editor: &Editor,
    world: &World,
    at: (Split, u64),
    request: &EditRequest,
) -> Result<(Trial, Example, EditResult), EditError> {
    let factor = editor.model().codec.spec().downsample_factor as u32;
    trial_with(editor, world, at, |example| {
        let request = request.clone();
        match &example.pair.changed {
            Some(changed) => request.mask(Mask::from_luma(of_tokens(changed, factor))),
            None => request,
        }
    })
}

/// A mask in whole tokens of `factor` pixels a side: white where one has a marked pixel.
fn of_tokens(mask: &GrayImage, factor: u32) -> GrayImage {
    let (width, height) = mask.dimensions();
    let grid = GridSize::new((height / factor) as usize, (width / factor) as usize);
    let touched = touched(mask, grid);
    GrayImage::from_fn(width, height, |x, y| {
        let (row, column) =
            (y as usize * grid.height / height as usize, x as usize * grid.width / width as usize);
        image::Luma([if touched[row * grid.width + column] { 255 } else { 0 }])
    })
}

fn trial_with(
    editor: &Editor,
    world: &World,
    (split, index): (Split, u64),
    request: impl FnOnce(&Example) -> EditRequest,
) -> Result<(Trial, Example, EditResult), EditError> {
    let example = world.pair(split, index);
    let instruction = example.pair.instruction.clone();
    let request = request(&example).instruction(instruction.clone());
    let photo = Photo::from_rgb(example.pair.before.clone())?;
    let edited = editor.edit(&photo, &request)?;
    let changed = match &example.pair.changed {
        Some(mask) => touched(mask, edited.tokens.size()),
        None => vec![false; edited.tokens.size().len()],
    };
    let differs = edited.tokens.ids().iter().zip(edited.reference.ids()).map(|(a, b)| a != b);
    let outside = changed.iter().filter(|&&changed| !changed).count();
    let altered = differs.zip(&changed).filter(|(differs, changed)| *differs && !**changed).count();
    let trial = Trial {
        index,
        category: example.category,
        instruction,
        judgement: world.judge(&example, edited.image.rgb())?,
        tokens_changed_outside: altered as f64 / outside.max(1) as f64,
        score_auc: edited.scores.as_ref().and_then(|scores| auc(scores.image(0), &changed)),
        psnr: psnr(edited.image.rgb(), &example.pair.after),
    };
    Ok((trial, example, edited))
}

/// The codec's upper bound: the true image of example `index`, encoded and decoded, judged like an
/// edit's result; and that image.
///
/// # Errors
/// Those of the codec.
pub fn round_trip(
    editor: &Editor,
    world: &World,
    (split, index): (Split, u64),
) -> Result<(Trial, Example, RgbImage), EditError> {
    let example = world.pair(split, index);
    let model = editor.model();
    let photo = Photo::from_rgb(example.pair.after.clone())?;
    let plan = ResizePlan::exact(photo.size(), photo.size(), model.codec.spec().downsample_factor)?;
    let tokens = model.codec.encode(plan.apply(&photo, &model.device)?)?;
    let picture = plan.invert(model.codec.decode(&tokens)?, &photo)?;
    let trial = Trial {
        index,
        category: example.category,
        instruction: example.pair.instruction.clone(),
        judgement: world.judge(&example, &picture)?,
        tokens_changed_outside: 0.0,
        score_auc: None,
        psnr: psnr(&picture, &example.pair.after),
    };
    Ok((trial, example, picture))
}

/// Means over some trials.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialMeans {
    /// Number of trials.
    pub trials: usize,
    /// The share of strict successes.
    pub success: f64,
    /// The share of images closest to the true scene.
    pub right: f64,
    /// Mean share of tokens changed outside the true change.
    pub tokens_changed_outside: f64,
    /// Mean ROC AUC of the score maps, over the trials that have one.
    pub score_auc: Option<f64>,
    /// Mean PSNR, decibels.
    pub psnr: f64,
}

impl TrialMeans {
    /// The means of these trials.
    pub fn of<'a>(trials: impl IntoIterator<Item = &'a Trial>) -> Self {
        let trials: Vec<&Trial> = trials.into_iter().collect();
        let mean = |value: &dyn Fn(&Trial) -> f64| {
            trials.iter().map(|trial| value(trial)).sum::<f64>() / trials.len().max(1) as f64
        };
        let aucs: Vec<f64> = trials.iter().filter_map(|trial| trial.score_auc).collect();
        Self {
            trials: trials.len(),
            success: mean(&|t| f64::from(u8::from(t.judgement.success))),
            right: mean(&|t| f64::from(u8::from(t.judgement.right))),
            tokens_changed_outside: mean(&|t| t.tokens_changed_outside),
            score_auc: (!aucs.is_empty()).then(|| aucs.iter().sum::<f64>() / aucs.len() as f64),
            psnr: mean(&|t| t.psnr),
        }
    }
}

/// Trials by category. Its `Display` is a table in Markdown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialSummary {
    /// Each category with a trial.
    pub by_category: BTreeMap<Category, TrialMeans>,
    /// All but background and style, whose true change is most of the image.
    pub local: TrialMeans,
    /// All trials.
    pub all: TrialMeans,
}

impl TrialSummary {
    /// The summary of these trials.
    pub fn of(trials: &[Trial]) -> Self {
        let by = |keep: &dyn Fn(Category) -> bool| {
            TrialMeans::of(trials.iter().filter(|trial| keep(trial.category)))
        };
        let rows = Category::ALL.map(|category| (category, by(&|c| c == category)));
        Self {
            by_category: rows.into_iter().filter(|(_, means)| means.trials > 0).collect(),
            local: by(&|c| !matches!(c, Category::Background | Category::Style)),
            all: by(&|_| true),
        }
    }
}

impl fmt::Display for TrialSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| edits | n | success | right scene | tokens changed outside | AUC of the scores | PSNR |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let categories = self.by_category.iter().map(|(category, means)| (category.name(), means));
        for (name, means) in categories.chain([("local edits", &self.local), ("all", &self.all)]) {
            let auc = means.score_auc.map_or("-".to_owned(), |auc| format!("{auc:.3}"));
            writeln!(
                f,
                "| {name} | {} | {:.1}% | {:.1}% | {:.2}% | {auc} | {:.1} dB |",
                means.trials,
                100.0 * means.success,
                100.0 * means.right,
                100.0 * means.tokens_changed_outside,
                means.psnr,
            )?;
        }
        Ok(())
    }
}

/// Whether each token's patch overlaps a marked pixel, row-major; a pixel on the border of two
/// patches is in both. The mask covers the tokens' image, in any size.
pub fn touched(mask: &GrayImage, grid: GridSize) -> Vec<bool> {
    let cells = |at: u32, side: u32, cells: usize| {
        let (at, side) = (at as usize, side as usize);
        at * cells / side..((at + 1) * cells).div_ceil(side)
    };
    let mut touched = vec![false; grid.len()];
    for (x, y, pixel) in mask.enumerate_pixels() {
        if pixel.0[0] > 0 {
            let columns = cells(x, mask.width(), grid.width);
            for row in cells(y, mask.height(), grid.height) {
                touched[row * grid.width..][columns.clone()].fill(true);
            }
        }
    }
    touched
}

/// ROC AUC: the probability that a marked position scores higher than an unmarked one; ties count
/// half. `None` if either set is empty.
pub fn auc(scores: &[f32], marked: &[bool]) -> Option<f64> {
    let split = |inside: bool| {
        let chosen = scores.iter().zip(marked).filter(move |(_, marked)| **marked == inside);
        chosen.map(|(score, _)| *score)
    };
    let pairs = split(true).count() * split(false).count();
    let win = |a: f32, b: f32| match a.partial_cmp(&b) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    let wins: f64 = split(true).flat_map(|a| split(false).map(move |b| win(a, b))).sum();
    (pairs > 0).then(|| wins / pairs as f64)
}

fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares =
        a.as_raw().iter().zip(b.as_raw()).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
    decibels(squares.sum::<f64>() / a.as_raw().len() as f64)
}

/// Peak signal-to-noise ratio in decibels, for a mean squared error in levels of 255. Equal images
/// have an infinite one; it is capped at 88.1 dB, as if each value were off by a hundredth of a
/// level.
pub fn decibels(mean_square: f64) -> f64 {
    20.0 * 255f64.log10() - 10.0 * mean_square.max(1e-4).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_under_the_curve() {
        let no = [false; 4];
        for (scores, marked, expected) in [
            ([0.1, 0.2, 0.3, 0.4], [false, false, true, true], Some(1.0)),
            ([0.4, 0.3, 0.2, 0.1], [false, false, true, true], Some(0.0)),
            ([0.1, 0.1, 0.1, 0.1], [false, true, false, true], Some(0.5)),
            ([0.1, 0.3, 0.2, 0.4], [false, false, true, true], Some(0.75)),
            ([0.1, 0.3, 0.2, 0.4], no, None),
            ([0.1, 0.3, 0.2, 0.4], [true; 4], None),
        ] {
            assert_eq!(auc(&scores, &marked), expected);
        }
    }

    #[test]
    fn tokens_that_hold_a_marked_pixel() {
        let marked = |width, height, grid: (usize, usize), at| {
            let mut mask = GrayImage::new(width, height);
            mask.put_pixel(at, 0, image::Luma([255]));
            touched(&mask, GridSize::new(grid.0, grid.1))
        };
        assert_eq!(marked(8, 4, (2, 2), 3), [true, false, false, false]);
        assert_eq!(marked(8, 4, (2, 2), 4), [false, true, false, false]);
        // Pixel 2 of 5 overlaps both halves; one pixel of 2 covers two tokens of 4 each way.
        assert_eq!(marked(5, 1, (1, 2), 2), [true, true]);
        assert_eq!(marked(5, 1, (1, 2), 3), [false, true]);
        assert_eq!(marked(2, 1, (1, 4), 1), [false, false, true, true]);
    }

    #[test]
    fn a_summary_counts_each_category_once() {
        let world = World::new(crate::WorldConfig::default()).unwrap();
        let trials: Vec<Trial> = (0..14)
            .map(|index| {
                let example = world.pair(Split::Validation, index);
                // Every second image is right.
                let image = match index % 2 {
                    0 => &example.pair.after,
                    _ => &example.pair.before,
                };
                Trial {
                    index,
                    category: example.category,
                    instruction: example.pair.instruction.clone(),
                    judgement: world.judge(&example, image).unwrap(),
                    tokens_changed_outside: 0.0,
                    score_auc: (index == 3).then_some(0.9),
                    psnr: psnr(image, &example.pair.after),
                }
            })
            .collect();
        let summary = TrialSummary::of(&trials);
        assert_eq!(summary.all.trials, 14);
        assert_eq!(summary.local.trials, 10);
        assert_eq!(summary.all.success, 0.5);
        assert_eq!(summary.all.score_auc, Some(0.9));
        assert_eq!(summary.by_category.len(), 7);
        assert!(summary.by_category.values().all(|means| means.success == 0.5));
        let table = summary.to_string();
        assert_eq!(table.lines().count(), 2 + 7 + 2, "{table}");
        assert!(table.contains("| remove | 2 | 50.0% |"), "{table}");
    }
}
