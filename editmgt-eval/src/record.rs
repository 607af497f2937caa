use editmgt_world::Category;
use editmgt_world::Metrics;
use serde::{Deserialize, Serialize};

/// One edit and what was measured: a line of a run's `trials.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which edit of the suite.
    pub index: u64,
    /// What the data calls it, where it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What kind of edit, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// What the data calls the kind of edit, where its kinds are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What was asked for.
    pub instruction: String,
    /// What was measured; empty for an edit that was left out. `docs/evaluation.md` lists the
    /// names.
    pub metrics: Metrics,
    /// Why the edit was left out, if it was: its pictures can't be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

impl Record {
    /// What kind of edit it is, in the data's words or ours.
    pub fn group(&self) -> Option<&str> {
        self.kind.as_deref().or_else(|| Some(self.category?.name()))
    }

    /// Whether the true change is a part of the picture: neither background nor style.
    pub fn is_local(&self) -> bool {
        !matches!(self.category, Some(Category::Background | Category::Style))
    }
}

/// Whether more of a number is better, worse, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Successes, similarities.
    More,
    /// Errors, changes where nothing should change.
    Less,
    /// A description, such as how much was held.
    Neither,
}

impl Better {
    /// What is true of the metric of this name.
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
