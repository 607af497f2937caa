use std::ops::Range;

use burn::tensor::{Slice, Tensor};

/// A rectangle of an activation: rows and columns, in the pixels of its resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
}

impl Area {
    pub(crate) fn whole([height, width]: [usize; 2]) -> Self {
        Self { rows: 0..height, columns: 0..width }
    }

    /// Changes both ranges.
    pub(crate) fn map(&self, change: impl Fn(&Range<usize>) -> Range<usize>) -> Self {
        Self { rows: change(&self.rows), columns: change(&self.columns) }
    }

    /// The part of it in an activation of this size.
    pub(crate) fn within(&self, [height, width]: [usize; 2]) -> Self {
        let clip = |range: &Range<usize>, size: usize| range.start.min(size)..range.end.min(size);
        Self { rows: clip(&self.rows, height), columns: clip(&self.columns, width) }
    }

    /// The tiles of an activation of this size, at most `side` high and wide, row by row.
    pub(crate) fn tiles([height, width]: [usize; 2], side: usize) -> Vec<Self> {
        let ranges =
            |size: usize| (0..size).step_by(side).map(move |start| start..(start + side).min(size));
        ranges(height)
            .flat_map(|rows| ranges(width).map(move |columns| Self { rows: rows.clone(), columns }))
            .collect()
    }

    /// The area with `margin` more on each side, in an activation of this size.
    pub(crate) fn with_margin(&self, margin: usize, size: [usize; 2]) -> Self {
        self.map(|range| range.start.saturating_sub(margin)..range.end + margin).within(size)
    }

    /// The same area at a resolution `factor` times finer.
    pub(crate) fn finer(&self, factor: usize) -> Self {
        self.map(|range| range.start * factor..range.end * factor)
    }

    /// Crops `x`, which covers `from`, to this area, a part of `from`.
    ///
    /// # Shapes
    /// `[B, C, H, W]`, the size of `from`, to the size of this area.
    pub(crate) fn crop(&self, x: Tensor<4>, from: &Self) -> Tensor<4> {
        if self == from {
            return x;
        }
        let (top, left) =
            (self.rows.start - from.rows.start, self.columns.start - from.columns.start);
        x.narrow(2, top, self.rows.len()).narrow(3, left, self.columns.len())
    }
}

/// An activation that is put together from tiles.
pub(crate) struct Assembled {
    size: [usize; 2],
    whole: Option<Tensor<4>>,
}

impl Assembled {
    /// An activation of this height and width.
    pub(crate) fn new(size: [usize; 2]) -> Self {
        Self { size, whole: None }
    }

    /// Puts a tile where it belongs.
    ///
    /// # Shapes
    /// `part`: `[B, C, H, W]`, the size of `area`; batch and channels are those of the first tile.
    pub(crate) fn put(&mut self, area: Area, part: Tensor<4>) {
        let [batch, channels, ..] = part.dims();
        let [height, width] = self.size;
        let whole = self.whole.take().unwrap_or_else(|| {
            Tensor::zeros([batch, channels, height, width], (&part.device(), part.dtype()))
        });
        let slices: [Slice; 4] =
            [Slice::from(..), Slice::from(..), Slice::from(area.rows), Slice::from(area.columns)];
        self.whole = Some(whole.slice_assign(slices, part));
    }

    /// The activation; at least one tile was put.
    pub(crate) fn finish(self) -> Tensor<4> {
        self.whole.expect("an activation has at least one tile")
    }
}
