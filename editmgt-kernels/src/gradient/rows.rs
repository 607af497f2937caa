//! Sums over rows, in an order that doesn't depend on the number of threads.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::lanes::dispatch;

/// Rows of a partial sum.
const BLOCK: usize = 64;

/// What a row contributes to some sums, compiled for each instruction set: see [`dispatch`].
pub(crate) trait RowSum: Sync {
    /// Adds row `row`. Implementations are `#[inline(always)]`.
    fn add(&self, row: usize, sums: &mut [f32]);
}

/// Adds `count` rows to `width` sums: row after row within blocks, then block after block.
pub(crate) fn sum_rows(count: usize, width: usize, row: impl RowSum) -> Vec<f32> {
    let mut blocks = vec![0.0; count.div_ceil(BLOCK).max(1) * width];
    blocks.par_chunks_mut(width.max(1)).enumerate().for_each(|(block, sums)| {
        let rows = block * BLOCK..count.min((block + 1) * BLOCK);
        dispatch(Rows { rows, sums, row: &row });
    });
    let mut total = blocks[..width].to_vec();
    for sums in blocks[width..].chunks_exact(width.max(1)) {
        total.iter_mut().zip(sums).for_each(|(total, x)| *total += x);
    }
    total
}

/// Adds the rows of each of `items` items, `rows` each, to `width` sums of the item.
pub(crate) fn sum_items([items, rows, width]: [usize; 3], row: impl RowSum) -> Vec<f32> {
    let mut all = vec![0.0; items * width];
    all.par_chunks_mut(width.max(1)).enumerate().for_each(|(item, sums)| {
        dispatch(Rows { rows: item * rows..(item + 1) * rows, sums, row: &row });
    });
    all
}

struct Rows<'a, R> {
    rows: Range<usize>,
    sums: &'a mut [f32],
    row: &'a R,
}

impl<R: RowSum> WithSimd for Rows<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.rows {
            self.row.add(row, self.sums);
        }
    }
}

/// The sums of the columns of `[rows, columns]`.
pub(crate) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    sum_rows(values.len() / columns, columns, Columns(values))
}

struct Columns<'a>(&'a [f32]);

impl RowSum for Columns<'_> {
    #[inline(always)]
    fn add(&self, row: usize, sums: &mut [f32]) {
        let row = &self.0[row * sums.len()..][..sums.len()];
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_columns() {
        for rows in [0, 1, BLOCK, 3 * BLOCK + 5] {
            let values: Vec<f32> = (0..rows * 3).map(|x| (x % 7) as f32).collect();
            let expected = (0..3).map(|column| values.iter().skip(column).step_by(3).sum::<f32>());
            assert_eq!(column_sums(&values, 3), expected.collect::<Vec<_>>(), "{rows}");
        }
    }
}
