use editmgt_world::Category;
use editmgt_world::Metrics;
use serde::{Deserialize, Serialize};

/// One edit and its metrics: a line of a run's `trials.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The edit's index in the suite.
    pub index: u64,
    /// Its name in the data, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of edit, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// The data's own category, if it differs from ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The instruction.
    pub instruction: String,
    /// The metrics; empty for a skipped edit. `docs/evaluation.md` lists the names.
    pub metrics: Metrics,
    /// Why the edit was skipped, if it was: its images are unusable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

impl Record {
    /// The category, by the data's name or ours.
    pub fn group(&self) -> Option<&str> {
        self.kind.as_deref().or_else(|| Some(self.category?.name()))
    }

    /// Whether the true change is local: neither background nor style.
    pub fn is_local(&self) -> bool {
        !matches!(self.category, Some(Category::Background | Category::Style))
    }
}

/// Whether a higher metric is better, worse, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Higher: successes, similarities.
    More,
    /// Lower: errors, changes outside the edit.
    Less,
    /// Neither: a description, such as the share of held tokens.
    Neither,
}

impl Better {
    /// The direction of the metric of this name.
    pub fn of(metric: &str) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| metric.starts_with(name));
        if has(&["l1_from_photo", "clip_i_from_photo", "dino_i_from_photo"]) {
            Self::Neither
        } else if has(&[
            "success", "right", "psnr", "ssim", "clip_", "dino_", "score_", "free_iou", "rated_",
        ]) {
            Self::More
        } else if has(&[
            "l1",
            "l2",
            "butteraugli",
            "tokens_changed_outside",
            "pixels_changed_outside",
        ]) {
            Self::Less
        } else {
            Self::Neither
        }
    }
}
