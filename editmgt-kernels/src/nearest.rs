//! Nearest rows of a table.

use burn::tensor::{Int, Tensor, TensorData};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::host::{HostTensor, on_host};
use crate::lanes::{dispatch, sum};
use crate::tile::{COLUMNS, LeftStep, ROWS, RightStep, Tile, add_product, pack_transposed};

/// Rows of a task.
const BLOCK: usize = 16 * ROWS;

/// The row of `table` with the least `|row|² - 2 x · row`, and so the least Euclidean distance, for
/// each row of `x`; the first of equals. Without a matrix of all distances. `None` where no kernel
/// runs: on another backend, in half precision, and with autodiff, which has no gradient for it.
///
/// # Shapes
/// `x`: `[N, D]`, `table`: `[rows, D]`; result: `[N]`
///
/// # Panics
/// If D differs.
pub fn nearest_rows(x: &Tensor<2>, table: &Tensor<2>) -> Option<Tensor<1, Int>> {
    let ([count, depth], [rows, channels]) = (x.dims(), table.dims());
    assert_eq!(depth, channels, "both must have the same number of channels");
    if !(on_host(x) && on_host(table)) || depth == 0 || rows == 0 {
        return None;
    }
    let device = x.device();
    let (x, table) = (HostTensor::take(x.clone()), HostTensor::take(table.clone()));
    let table = Table::new(table.values(), depth);
    let mut nearest = vec![0i32; count];
    let tasks = nearest.par_chunks_mut(BLOCK).zip(x.values().par_chunks(BLOCK * depth));
    tasks.for_each(|(nearest, x)| dispatch(Search { table: &table, x, nearest }));
    Some(Tensor::from_data(TensorData::new(nearest, [count]), &device))
}

/// The rows of a table times -2, packed as a right operand, and their squares.
struct Table {
    depth: usize,
    /// Panel by panel, each of `depth` steps.
    panels: Vec<RightStep>,
    /// `|row|²` of the rows of each panel; infinite for missing ones.
    squares: Vec<RightStep>,
}

impl Table {
    fn new(values: &[f32], depth: usize) -> Self {
        let count = (values.len() / depth).div_ceil(COLUMNS);
        let mut panels = vec![[0.0; COLUMNS]; count * depth];
        let mut squares = vec![[f32::INFINITY; COLUMNS]; count];
        let blocks = values.chunks(COLUMNS * depth);
        for ((panel, squares), rows) in panels.chunks_exact_mut(depth).zip(&mut squares).zip(blocks)
        {
            pack_transposed(panel, rows.chunks_exact(depth));
            panel.as_flattened_mut().iter_mut().for_each(|x| *x *= -2.0);
            for (square, row) in squares.iter_mut().zip(rows.chunks_exact(depth)) {
                *square = sum(row, |x| x * x);
            }
        }
        Self { depth, panels, squares }
    }
}

/// The nearest rows of up to [`BLOCK`] rows.
struct Search<'a> {
    table: &'a Table,
    x: &'a [f32],
    nearest: &'a mut [i32],
}

impl WithSimd for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { table: Table { depth, panels, squares }, x, nearest } = self;
        let depth = *depth;
        let mut strip: Vec<LeftStep> = vec![[0.0; ROWS]; depth];
        for (x, nearest) in x.chunks(ROWS * depth).zip(nearest.chunks_mut(ROWS)) {
            pack_transposed(&mut strip, x.chunks_exact(depth));
            // Of each lane, which has every sixteenth row of the table.
            let mut least: Tile = [[f32::INFINITY; COLUMNS]; ROWS];
            let mut at = [[0i32; COLUMNS]; ROWS];
            for (index, (panel, squares)) in panels.chunks_exact(depth).zip(squares).enumerate() {
                let mut sums: Tile = [*squares; ROWS];
                add_product(simd, &strip, panel, &mut sums);
                for ((sums, least), at) in sums.iter().zip(&mut least).zip(&mut at) {
                    for ((sum, least), at) in sums.iter().zip(least).zip(at) {
                        let is_less = *sum < *least;
                        *least = if is_less { *sum } else { *least };
                        *at = if is_less { index as i32 } else { *at };
                    }
                }
            }
            for ((to, least), at) in nearest.iter_mut().zip(&least).zip(&at) {
                let lanes = least.iter().zip(at).enumerate();
                let rows =
                    lanes.map(|(lane, (&sum, &at))| (sum, at * COLUMNS as i32 + lane as i32));
                let first = |a: (f32, i32), b: (f32, i32)| {
                    if b.0 < a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a }
                };
                *to = rows.fold((f32::INFINITY, i32::MAX), first).1;
                // Only if no sum is less than infinity.
                if *to == i32::MAX {
                    *to = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{plain, random};

    #[test]
    fn nearest_rows_have_the_least_distance() {
        for (count, rows, depth) in [(1, 1, 1), (7, 5, 3), (200, 700, 16), (97, 33, 64)] {
            let (x, table) = (random([count, depth], 1), random([rows, depth], 2));
            let got = nearest_rows(&x, &table).unwrap().try_into_vec_as::<i32>().unwrap();
            let [x, table] = [x, table].map(|x| x.try_into_vec_as::<f32>().unwrap());
            for (x, &nearest) in x.chunks(depth).zip(&got) {
                let distance = |row: &[f32]| -> f64 {
                    row.iter().zip(x).map(|(a, b)| f64::from(a - b).powi(2)).sum()
                };
                let distances: Vec<f64> = table.chunks(depth).map(distance).collect();
                let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
                // Squares of up to 64 values of 2, in f32.
                assert!(distances[nearest as usize] <= least + 1e-4, "{count} {rows} {depth}");
            }
        }
    }

    #[test]
    fn the_first_of_equal_rows_is_taken() {
        // All rows of the table are one of two.
        let table: Vec<f32> = (0..90).map(|row| if row < 3 { 5.0 } else { 1.0 }).collect();
        let device = Device::flex();
        let table = Tensor::<1>::from_floats(&table[..], &device).reshape([90, 1]);
        let x = Tensor::<1>::from_floats([0.0, 9.0, 1.0], &device).reshape([3, 1]);
        let got = nearest_rows(&x, &table).unwrap();
        assert_eq!(got.try_into_vec_as::<i32>().unwrap(), [3, 0, 3]);
        assert!(nearest_rows(&plain(x), &plain(table)).is_none());
    }
}
