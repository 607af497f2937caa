//! Size limits of photos.

use std::error::Error;

use clap::Args;
use editmgt::{PhotoError, PhotoLimits};

use crate::number::above_zero;

/// Pixels in a megapixel.
const MEGA: f64 = 1e6;

#[derive(Args)]
pub(crate) struct LimitArgs {
    /// Limit of photos and masks in megapixels
    #[arg(long, value_name = "MP", default_value_t = PhotoLimits::default().max_pixels as f64 / MEGA)]
    #[arg(value_parser = above_zero("megapixels above 0, 0.5 for instance"))]
    #[arg(allow_negative_numbers = true)]
    max_megapixels: f64,
}

impl LimitArgs {
    /// Only the number of pixels is limited, which determines memory.
    pub(crate) fn limits(&self) -> PhotoLimits {
        // Saturates.
        let max_pixels = (self.max_megapixels * MEGA).round().max(1.0) as u64;
        PhotoLimits::default().with_max_pixels(max_pixels).with_max_side(u64::MAX)
    }
}

/// Names the program's option instead of the library's.
pub(crate) fn in_megapixels(error: PhotoError) -> Box<dyn Error> {
    match error {
        PhotoError::TooLarge { origin, size, limit, .. } => format!(
            "{origin}: {size} pixels are more than {} megapixels; make it smaller or raise \
             --max-megapixels",
            limit as f64 / MEGA
        )
        .into(),
        error => error.into(),
    }
}
