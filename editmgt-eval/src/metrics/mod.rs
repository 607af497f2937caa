//! Numbers about two pictures, or about a score map and the truth.
//!
//! Each is tested against values of an independent implementation, which
//! `scripts/make_metric_references.py` writes.

mod difference;
mod localisation;
mod sizes;
mod ssim;
#[cfg(test)]
mod tests;
mod visibility;

pub use difference::{Difference, Differences};
/// Area under the curve of scores against the truth.
pub use editmgt_world::auc;
pub use localisation::{above, iou};
pub use ssim::{SSIM_WINDOW, ssim_map};
pub use visibility::Visibility;
