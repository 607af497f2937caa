//! Metrics of two images, or of a score map and the true region.
//!
//! Each is tested against an independent implementation's values, written by
//! `scripts/make_metric_references.py`.

mod difference;
mod localisation;
mod sizes;
mod ssim;
#[cfg(test)]
mod tests;
mod visibility;

pub use difference::{Difference, Differences};
/// Area under the ROC curve of scores against the true region.
pub use editmgt_world::auc;
pub use localisation::{above, iou};
pub use ssim::{SSIM_WINDOW, ssim_map};
pub use visibility::Visibility;
