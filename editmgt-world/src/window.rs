use std::ops::Range;

use image::{GrayImage, Luma, RgbImage};

/// A rectangle of pixels of the canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Window {
    /// The smallest window that contains both.
    pub(crate) fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }

    /// Columns of the intersection.
    pub(crate) fn columns_in(self, other: Self) -> Range<u32> {
        self.x.max(other.x)..(self.x + self.width).min(other.x + other.width)
    }

    /// Rows of the intersection.
    pub(crate) fn rows_in(self, other: Self) -> Range<u32> {
        self.y.max(other.y)..(self.y + self.height).min(other.y + other.height)
    }

    /// Its pixels, row by row.
    pub(crate) fn points(self) -> impl Iterator<Item = (u32, u32)> {
        let columns = self.x..self.x + self.width;
        (self.y..self.y + self.height).flat_map(move |y| columns.clone().map(move |x| (x, y)))
    }
}

/// 255 where two images of one size differ, 0 elsewhere.
pub(crate) fn difference(a: &RgbImage, b: &RgbImage) -> GrayImage {
    let mut mask = GrayImage::new(a.width(), a.height());
    for ((Luma(changed), a), b) in mask.pixels_mut().zip(a.pixels()).zip(b.pixels()) {
        *changed = [if a == b { 0 } else { 255 }];
    }
    mask
}
