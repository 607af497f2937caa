//! Transposed matrices.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers::Buffer;
use crate::lanes::dispatch;
use crate::matrix::Matrix;
use crate::tile::{COLUMNS, RightStep, pack_transposed};

/// Rows and columns of a tile: its columns are cache lines.
const TILE: usize = 16;

/// `[rows, columns]` to `[columns, rows]`.
pub(crate) fn transposed(from: &[f32], columns: usize) -> Buffer {
    let rows = from.len() / columns;
    let mut out = Buffer::new(from.len());
    out.par_chunks_mut((TILE * rows).max(1)).enumerate().for_each(|(index, to)| {
        dispatch(Columns { from, columns, first: index * TILE, to, rows });
    });
    out
}

/// Copies some columns of a matrix from `first` on to rows of `to`, each of `rows` values.
struct Columns<'a> {
    from: &'a [f32],
    columns: usize,
    first: usize,
    to: &'a mut [f32],
    rows: usize,
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { from, columns, first, to, rows } = self;
        transpose_block(from, columns, first..columns.min(first + TILE), to, rows);
    }
}

/// Up to [`TILE`] columns of rows that are `stride` values apart.
#[inline(always)]
fn transpose_block(
    from: &[f32],
    stride: usize,
    columns: Range<usize>,
    to: &mut [f32],
    rows: usize,
) {
    let (first, count) = (columns.start, columns.len());
    for start in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - start);
        let mut tile = [[0.0; TILE]; TILE];
        for (row, line) in tile[..height].iter_mut().enumerate() {
            let from = &from[(start + row) * stride + first..][..count];
            match from.first_chunk::<TILE>() {
                Some(from) => *line = *from,
                None => line[..count].copy_from_slice(from),
            }
        }
        for (column, to) in to.chunks_exact_mut(rows).enumerate() {
            let mut line = [0.0; TILE];
            for (to, row) in line.iter_mut().zip(&tile) {
                *to = row[column];
            }
            match to[start..].first_chunk_mut::<TILE>() {
                // A length that is known is one register's width.
                Some(to) if height == TILE => *to = line,
                _ => to[start..][..height].copy_from_slice(&line[..height]),
            }
        }
    }
}

/// `[rows, columns]`, whose rows are `stride` values apart, to `[columns, rows]`.
#[inline(always)]
pub(crate) fn transpose_strided(
    from: &[f32],
    stride: usize,
    [rows, columns]: [usize; 2],
    to: &mut [f32],
) {
    for (index, to) in to.chunks_mut((TILE * rows).max(1)).enumerate() {
        transpose_block(from, stride, index * TILE..columns.min((index + 1) * TILE), to, rows);
    }
}

/// The transpose of a matrix `[outputs, inputs]` that is stored row by row, as a right operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transposed<'a> {
    values: &'a [f32],
    sizes: [usize; 2],
}

impl<'a> Transposed<'a> {
    /// `values` are `[outputs, inputs]`; `sizes` are `[inputs, outputs]`.
    pub(crate) fn new(values: &'a [f32], sizes: [usize; 2]) -> Self {
        debug_assert_eq!(values.len(), sizes.iter().product::<usize>());
        Self { values, sizes }
    }
}

impl Matrix for Transposed<'_> {
    #[inline(always)]
    fn sizes(&self) -> [usize; 2] {
        self.sizes
    }

    #[inline(always)]
    fn read(&self, step: usize, first: usize, to: &mut [f32]) {
        let [inputs, _] = self.sizes;
        let from = self.values[first * inputs..].chunks_exact(inputs);
        to.iter_mut().zip(from).for_each(|(to, row)| *to = row[step]);
    }

    #[inline(always)]
    fn pack(&self, first: usize, column: usize, panel: &mut [RightStep]) {
        let [inputs, outputs] = self.sizes;
        let columns = COLUMNS.min(outputs - column);
        let rows = self.values[column * inputs..].chunks_exact(inputs).take(columns);
        let steps = panel.len();
        pack_transposed(panel, rows.map(|row| &row[first..][..steps]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_swaps_rows_and_columns() {
        for (rows, columns) in [(1, 1), (3, 40), (40, 3), (16, 16), (33, 50)] {
            let from: Vec<f32> = (0..rows * columns).map(|x| x as f32).collect();
            let got = transposed(&from, columns);
            for (index, &x) in got.iter().enumerate() {
                assert_eq!(x, from[index % rows * columns + index / rows], "{rows}, {columns}");
            }
        }
    }
}
