use std::fmt;

use image::{ImageBuffer, Pixel};
use serde::{Deserialize, Serialize};

/// Height and width of a picture, in pixels.
///
/// Printed width first (`4000x3000`), as photographers say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PixelSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl PixelSize {
    /// A picture of `height` rows and `width` columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    pub(super) fn of<P: Pixel>(image: &ImageBuffer<P, Vec<P::Subpixel>>) -> Self {
        Self::new(image.height() as usize, image.width() as usize)
    }

    pub(super) fn shorter(self) -> usize {
        self.height.min(self.width)
    }

    pub(super) fn longer(self) -> usize {
        self.height.max(self.width)
    }
}

impl fmt::Display for PixelSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}
