//! Size limits of photos.

use std::error::Error;

use clap::Args;
use editmgt::{PhotoError, PhotoLimits};

/// Pixels in a megapixel.
const MEGA: u64 = 1_000_000;

#[derive(Args)]
pub(crate) struct LimitArgs {
    /// Limit of photos and masks in megapixels
    #[arg(long, value_name = "MP", default_value_t = PhotoLimits::default().max_pixels / MEGA)]
    max_megapixels: u64,
}

impl LimitArgs {
    /// Only the number of pixels is limited, which determines memory.
    pub(crate) fn limits(&self) -> PhotoLimits {
        let max_pixels = self.max_megapixels.saturating_mul(MEGA);
        PhotoLimits::default().with_max_pixels(max_pixels).with_max_side(u64::MAX)
    }
}

/// Names the program's option instead of the library's.
pub(crate) fn in_megapixels(error: PhotoError) -> Box<dyn Error> {
    match error {
        PhotoError::TooLarge { origin, size, limit, .. } => format!(
            "{origin}: {size} pixels are more than {} megapixels; make it smaller or raise \
             --max-megapixels",
            limit / MEGA
        )
        .into(),
        error => error.into(),
    }
}
