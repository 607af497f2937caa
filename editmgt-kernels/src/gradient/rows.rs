//! Sums over rows, in an order that doesn't depend on the number of threads.

use rayon::prelude::*;

use crate::lanes::vectorised;

/// Rows of a partial sum.
const BLOCK: usize = 64;

/// Calls `add(row, sums)` for each of `count` rows, which adds what the row contributes to `width` sums:
/// row after row within blocks, then block after block.
pub(crate) fn sum_rows(
    count: usize,
    width: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut blocks = vec![0.0; count.div_ceil(BLOCK).max(1) * width];
    blocks.par_chunks_mut(width.max(1)).enumerate().for_each(|(block, sums)| {
        let rows = block * BLOCK..count.min((block + 1) * BLOCK);
        vectorised(|| rows.for_each(|row| add(row, sums)));
    });
    let mut total = blocks[..width].to_vec();
    for sums in blocks[width..].chunks_exact(width.max(1)) {
        total.iter_mut().zip(sums).for_each(|(total, x)| *total += x);
    }
    total
}

/// The sums of the columns of `[rows, columns]`.
pub(crate) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    sum_rows(values.len() / columns, columns, |row, sums| {
        let row = &values[row * columns..][..columns];
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    })
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
