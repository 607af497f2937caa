use std::fmt;

use image::{ImageBuffer, Pixel};
use serde::{Deserialize, Serialize};

/// Height and width of an image in pixels.
///
/// Printed width first (`4000x3000`), as usual in photography.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PixelSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl PixelSize {
    /// An image of `height` rows and `width` columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    pub(super) fn of<P: Pixel>(image: &ImageBuffer<P, Vec<P::Subpixel>>) -> Self {
        Self::new(image.height() as usize, image.width() as usize)
    }

    /// The largest size within this one with the aspect ratio of `other`, rounded to pixels; at
    /// least one per side. Neither may be empty.
    pub(super) fn largest_like(self, other: Self) -> Self {
        let scaled = |side: usize, to: usize, of: usize, max: usize| {
            ((2 * side * to + of) / (2 * of)).clamp(1, max)
        };
        if self.width * other.height > self.height * other.width {
            let width = scaled(other.width, self.height, other.height, self.width);
            Self::new(self.height, width)
        } else {
            let height = scaled(other.height, self.width, other.width, self.height);
            Self::new(height, self.width)
        }
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

/// A rectangle of pixels in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelArea {
    /// Its first row.
    pub top: usize,
    /// Its first column.
    pub left: usize,
    /// Its height and width.
    pub size: PixelSize,
}

impl PixelArea {
    /// The whole image.
    pub(super) fn whole(size: PixelSize) -> Self {
        Self { top: 0, left: 0, size }
    }

    /// Centred in an image of size `within`.
    pub(super) fn centred(size: PixelSize, within: PixelSize) -> Self {
        let top = (within.height - size.height) / 2;
        let left = (within.width - size.width) / 2;
        Self { top, left, size }
    }

    /// An area of `size` in an image of size `within`, its centre as close to this one's as the
    /// borders let it. `size` fits in `within`.
    pub(super) fn recentred(self, size: PixelSize, within: PixelSize) -> Self {
        let start = |start: usize, length: usize, new: usize, all: usize| {
            (2 * start + length).saturating_sub(new).div_ceil(2).min(all - new)
        };
        let top = start(self.top, self.size.height, size.height, within.height);
        let left = start(self.left, self.size.width, size.width, within.width);
        Self { top, left, size }
    }
}
