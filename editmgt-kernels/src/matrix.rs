//! Right operands of products, in whatever form they are stored.

use crate::intrinsics::prefetch;
use crate::number::{Widen, bf16_bits};
use crate::tile::{COLUMNS, RightStep};

/// The right operand of a product. Products read it through these methods only, so a form of
/// storage is one implementation.
pub(crate) trait Matrix: Sync {
    /// `[inputs, outputs]`: rows, which are summed over, and columns.
    fn sizes(&self) -> [usize; 2];

    /// Writes the values of row `step` from column `first` on, as many as `to` has. The row has
    /// that many. Implementations are `#[inline(always)]`, so that they are vectorised.
    fn read(&self, step: usize, first: usize, to: &mut [f32]);

    /// As [`read`](Self::read), the bits of the nearest bf16 of each value.
    #[inline(always)]
    fn read_bf16<const N: usize>(&self, step: usize, first: usize, to: &mut [u16; N]) {
        let mut values = [0.0; N];
        self.read(step, first, &mut values);
        for (to, x) in to.iter_mut().zip(values) {
            *to = bf16_bits(x);
        }
    }

    /// Packs a panel: up to [`COLUMNS`] columns from `column` on, of the rows from `first` on, one
    /// for each step of `panel`. Where the matrix has fewer columns, the panel keeps its values.
    ///
    /// The default reads row after row. Override it where several rows are decoded at once.
    #[inline(always)]
    fn pack(&self, first: usize, column: usize, panel: &mut [RightStep]) {
        let [_, outputs] = self.sizes();
        let columns = COLUMNS.min(outputs - column);
        for (step, to) in panel.iter_mut().enumerate() {
            if columns == COLUMNS {
                // A length that is known is one register's width.
                self.read(first + step, column, to);
            } else {
                self.read(first + step, column, &mut to[..columns]);
            }
        }
    }
}

/// Rows that are read ahead.
const AHEAD: usize = 16;

/// A matrix of numbers, row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dense<'a, W> {
    values: &'a [W],
    sizes: [usize; 2],
}

impl<'a, W> Dense<'a, W> {
    /// `values` are `[inputs, outputs]`.
    pub(crate) fn new(values: &'a [W], sizes: [usize; 2]) -> Self {
        debug_assert_eq!(values.len(), sizes.iter().product::<usize>());
        Self { values, sizes }
    }
}

impl<W: Widen> Matrix for Dense<'_, W> {
    #[inline(always)]
    fn sizes(&self) -> [usize; 2] {
        self.sizes
    }

    #[inline(always)]
    fn read(&self, step: usize, first: usize, to: &mut [f32]) {
        W::widen(&self.values[step * self.sizes[1] + first..][..to.len()], to);
    }

    #[inline(always)]
    fn read_bf16<const N: usize>(&self, step: usize, first: usize, to: &mut [u16; N]) {
        let from = &self.values[step * self.sizes[1] + first..];
        // A row is too short for the processor to foresee the next one.
        if let Some(later) = from.get(AHEAD * self.sizes[1]..) {
            prefetch(later);
        }
        W::narrow(from.first_chunk().expect("the row has N values from there on"), to);
    }
}
