//! Multi-threaded matrix products by GotoBLAS packing (Goto and van de Geijn, "Anatomy of
//! High-Performance Matrix Multiplication", ACM TOMS 34, 2008): both operands are cut into blocks
//! that fit in cache and packed in the order in which the [micro-kernel](crate::tile) reads them.

use std::ops::Range;

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::buffers::{self, Buffer};
use crate::lanes::dispatch;
use crate::matrix::Matrix;
use crate::tile::{COLUMNS, LeftStep, ROWS, RightStep, ZEROS, add_product, pack_transposed};

/// Steps along the summed dimension between two writes of a tile's sums to memory (GotoBLAS's
/// `k_c`): a panel of that depth fits in the L1 cache.
pub(crate) const DEPTH_BLOCK: usize = 512;
/// Rows of a block (`m_c`): its strips, [`DEPTH_BLOCK`] deep, fit in the L2 cache.
pub(crate) const ROW_BLOCK: usize = 24 * ROWS;
/// Columns of a block (`n_c`), where a task takes all rows of some columns.
const COLUMN_BLOCK: usize = 8 * COLUMNS;
/// Up to this number of rows the matrix isn't packed: packing would cost more than tiles save.
const MAX_GEMV_ROWS: usize = 3;
/// Columns of a [`gemv`] task, in tiles.
const GEMV_TILES: usize = 32;

/// `left · right + bias`: `left` `[rows, inputs]`, `right` `[inputs, outputs]`, `bias` `[outputs]`,
/// to `[rows, outputs]`. There is at least one input and one output.
///
/// The order of each sum depends neither on the number of rows, columns and threads nor on how
/// `right` is stored.
pub(crate) fn product<M: Matrix>(left: &[f32], right: &M, bias: Option<&[f32]>) -> Vec<f32> {
    product_of(left, Right { matrix: right, packed: None }, bias)
}

/// A right operand of [`product_of`].
pub(crate) struct Right<'a, M> {
    pub(crate) matrix: &'a M,
    /// The same matrix, if it was packed before.
    pub(crate) packed: Option<&'a PackedRight>,
}

impl<M> Clone for Right<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Right<'_, M> {}

/// [`product`], bit for bit the same whether `right` was packed before.
pub(crate) fn product_of<M: Matrix>(
    left: &[f32],
    right: Right<'_, M>,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let [inputs, outputs] = right.matrix.sizes();
    let rows = left.len() / inputs;
    let mut out = buffers::take(rows * outputs);
    // The smaller operand is packed once for all tasks. The tasks split the other one, and pack
    // their blocks into their own caches.
    match rows {
        _ if is_gemv(rows) => gemv(left, right.matrix, bias, &mut out),
        _ if 2 * rows < outputs => gemm_by_columns(left, right, bias, &mut out),
        _ => gemm_by_rows(left, right, bias, &mut out),
    }
    out
}

/// Whether a left operand of that many rows reads the matrix without packing it.
pub(crate) fn is_gemv(rows: usize) -> bool {
    rows <= MAX_GEMV_ROWS
}

/// A right matrix, packed for any number of products.
#[derive(Debug)]
pub(crate) struct PackedRight {
    /// Panel by panel, each of `inputs` times [`RightStep`].
    panels: Buffer,
    inputs: usize,
}

impl PackedRight {
    /// Packs all of it.
    pub(crate) fn new<M: Matrix>(right: &M) -> Self {
        let [inputs, outputs] = right.sizes();
        let mut panels = Buffer::new(outputs.div_ceil(COLUMNS) * inputs * COLUMNS);
        let (steps, _) = panels.as_chunks_mut::<COLUMNS>();
        steps.par_chunks_exact_mut(inputs).enumerate().for_each(|(index, panel)| {
            right.pack(0, index * COLUMNS, panel);
        });
        Self { panels, inputs }
    }

    /// Its panels from column `first` on, a multiple of [`COLUMNS`].
    fn panels(&self, first: usize) -> impl Iterator<Item = &[RightStep]> + Clone {
        let (steps, _) = self.panels.as_chunks::<COLUMNS>();
        steps.chunks_exact(self.inputs).skip(first / COLUMNS)
    }

    /// The size in memory of a matrix of these sizes once it is packed.
    pub(crate) fn bytes([inputs, outputs]: [usize; 2]) -> usize {
        outputs.div_ceil(COLUMNS) * inputs * size_of::<RightStep>()
    }
}

/// Matrix-vector products: the matrix is read once, sequentially, without packing.
fn gemv<M: Matrix>(left: &[f32], right: &M, bias: Option<&[f32]>, out: &mut [f32]) {
    let [_, outputs] = right.sizes();
    let columns = task_size(outputs, COLUMNS).min(GEMV_TILES * COLUMNS);
    split_columns(out, outputs, columns).into_par_iter().enumerate().for_each(
        |(group, mut rows)| {
            let first = group * columns;
            dispatch(Gemv {
                left,
                right,
                first,
                rows: &mut rows,
                bias: bias.map(|bias| &bias[first..]),
            });
        },
    );
}

/// Packs all panels once; each task packs its rows.
fn gemm_by_rows<M: Matrix>(
    left: &[f32],
    right: Right<'_, M>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let [inputs, outputs] = right.matrix.sizes();
    let new;
    let panels = match right.packed {
        Some(packed) => packed,
        None => {
            new = PackedRight::new(right.matrix);
            &new
        }
    };
    let block = task_size(out.len() / outputs, ROWS).min(ROW_BLOCK);
    let tasks = left.par_chunks(block * inputs).zip(out.par_chunks_mut(block * outputs));
    tasks.for_each_init(Vec::new, |strips, (left, out)| {
        let mut rows: Vec<&mut [f32]> = out.chunks_exact_mut(outputs).collect();
        for first in (0..inputs).step_by(DEPTH_BLOCK) {
            let steps = DEPTH_BLOCK.min(inputs - first);
            strips.resize(rows.len().div_ceil(ROWS) * steps, [0.0; ROWS]);
            for (strip, rows) in strips.chunks_exact_mut(steps).zip(left.chunks(ROWS * inputs)) {
                pack_transposed(strip, rows.chunks_exact(inputs).map(|row| &row[first..]));
            }
            dispatch(MacroKernel {
                strips: strips.chunks_exact(steps),
                panels: panels.panels(0).map(|panel| &panel[first..][..steps]),
                rows: &mut rows,
                start: if first == 0 { Start::Bias(bias) } else { Start::Accumulate },
            });
        }
    });
}

/// Length of a task of `count` rows or columns, a multiple of `unit`: four tasks for each thread,
/// so that the last one doesn't keep the others waiting.
pub(crate) fn task_size(count: usize, unit: usize) -> usize {
    count.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(unit)
}

/// Splits `out` into groups of `columns` columns; each holds its slice of every row.
pub(crate) fn split_columns(
    out: &mut [f32],
    outputs: usize,
    columns: usize,
) -> Vec<Vec<&mut [f32]>> {
    let mut groups: Vec<Vec<&mut [f32]>> = Vec::new();
    groups.resize_with(outputs.div_ceil(columns), Vec::new);
    for row in out.chunks_exact_mut(outputs) {
        let pieces = row.chunks_mut(columns);
        groups.iter_mut().zip(pieces).for_each(|(group, piece)| group.push(piece));
    }
    groups
}

/// Packs all rows once; each task packs its columns.
fn gemm_by_columns<M: Matrix>(
    left: &[f32],
    right: Right<'_, M>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let [inputs, outputs] = right.matrix.sizes();
    let strips = PackedLeft::new(left, inputs);
    let columns = task_size(outputs, COLUMNS).min(COLUMN_BLOCK);
    let tasks = split_columns(out, outputs, columns).into_par_iter().enumerate();
    tasks.for_each_init(Vec::new, |panels, (group, mut rows)| {
        let first = group * columns;
        let start = Start::Bias(bias.map(|bias| &bias[first..]));
        match right.packed {
            None => strips.multiply(right.matrix, first, &mut rows, start, panels),
            Some(packed) => strips.multiply_packed(packed, first, &mut rows, start),
        }
    });
}

/// A left matrix, packed for any number of products.
#[derive(Debug)]
pub(crate) struct PackedLeft {
    /// Strip by strip, each of `inputs` times [`LeftStep`].
    strips: Buffer,
    inputs: usize,
}

impl PackedLeft {
    /// Packs `[rows, inputs]`.
    pub(crate) fn new(left: &[f32], inputs: usize) -> Self {
        let of_strip = ROWS * inputs;
        let mut strips = Buffer::new(left.len().next_multiple_of(of_strip));
        let (steps, _) = strips.as_chunks_mut::<ROWS>();
        steps.par_chunks_exact_mut(inputs).zip(left.par_chunks(of_strip)).for_each(
            |(strip, rows)| {
                pack_transposed(strip, rows.chunks_exact(inputs));
            },
        );
        Self { strips, inputs }
    }

    /// The product with the columns of `right` from `column` on, on this thread. Each slice of
    /// `rows` has one value for each column; `panels` is scratch space for packing.
    pub(crate) fn multiply<M: Matrix>(
        &self,
        right: &M,
        column: usize,
        rows: &mut [&mut [f32]],
        start: Start<'_>,
        panels: &mut Vec<RightStep>,
    ) {
        let columns = rows.first().map_or(0, |row| row.len());
        for first in (0..self.inputs).step_by(DEPTH_BLOCK) {
            let steps = DEPTH_BLOCK.min(self.inputs - first);
            panels.resize(columns.div_ceil(COLUMNS) * steps, [0.0; COLUMNS]);
            for (index, panel) in panels.chunks_exact_mut(steps).enumerate() {
                right.pack(first, column + index * COLUMNS, panel);
            }
            self.multiply_block(first..first + steps, panels.chunks_exact(steps), rows, start);
        }
    }

    /// [`multiply`](Self::multiply) with a packed matrix.
    fn multiply_packed(
        &self,
        right: &PackedRight,
        column: usize,
        rows: &mut [&mut [f32]],
        start: Start<'_>,
    ) {
        let columns = rows.first().map_or(0, |row| row.len());
        for first in (0..self.inputs).step_by(DEPTH_BLOCK) {
            let depth = first..self.inputs.min(first + DEPTH_BLOCK);
            let panels = right.panels(column).take(columns.div_ceil(COLUMNS));
            let panels = panels.map(|panel| &panel[depth.clone()]);
            self.multiply_block(depth.clone(), panels, rows, start);
        }
    }

    /// The part of a product that some steps add; `panels` have those steps only.
    fn multiply_block<'c>(
        &self,
        depth: Range<usize>,
        panels: impl Iterator<Item = &'c [RightStep]> + Clone,
        rows: &mut [&mut [f32]],
        start: Start<'_>,
    ) {
        let (all, _) = self.strips.as_chunks::<ROWS>();
        let blocks = all.chunks(ROW_BLOCK / ROWS * self.inputs);
        for (rows, strips) in rows.chunks_mut(ROW_BLOCK).zip(blocks) {
            dispatch(MacroKernel {
                strips: strips.chunks_exact(self.inputs).map(|strip| &strip[depth.clone()]),
                panels: panels.clone(),
                rows,
                start: if depth.start == 0 { start } else { Start::Accumulate },
            });
        }
    }
}

/// Initial values of the sums of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// A bias for each column, or zero: the contents of the rows are overwritten.
    Bias(Option<&'a [f32]>),
    /// The contents of the rows.
    Accumulate,
}

/// The macro-kernel: every strip of a block times every panel.
struct MacroKernel<'a, 'b, S, P> {
    strips: S,
    panels: P,
    /// Each slice has one value for each column.
    rows: &'a mut [&'b mut [f32]],
    start: Start<'a>,
}

impl<'c, 'd, S, P> WithSimd for MacroKernel<'_, '_, S, P>
where
    S: Iterator<Item = &'c [LeftStep]> + Clone,
    P: Iterator<Item = &'d [RightStep]>,
{
    type Output = ();

    #[inline(always)]
    fn with_simd<I: Simd>(self, simd: I) {
        for (index, panel) in self.panels.enumerate() {
            let column = index * COLUMNS;
            for (rows, strip) in self.rows.chunks_mut(ROWS).zip(self.strips.clone()) {
                let mut sums = ZEROS;
                add_product(simd, strip, panel, &mut sums);
                for (row, sums) in rows.iter_mut().zip(&sums) {
                    let row = &mut row[column..];
                    let columns = row.len().min(COLUMNS);
                    self.start.at(column).add(&sums[..columns], &mut row[..columns]);
                }
            }
        }
    }
}

impl Start<'_> {
    /// The initial values of the columns from `first` on.
    #[inline(always)]
    fn at(self, first: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(bias.map(|bias| &bias[first..])),
            Self::Accumulate => Self::Accumulate,
        }
    }

    /// Writes `row` from sums of the same number of columns.
    #[inline(always)]
    pub(crate) fn add(self, sums: &[f32], row: &mut [f32]) {
        match self {
            Self::Bias(None) => row.copy_from_slice(sums),
            Self::Bias(Some(bias)) => {
                let both = sums.iter().zip(bias);
                row.iter_mut().zip(both).for_each(|(to, (sum, bias))| *to = sum + bias);
            }
            Self::Accumulate => row.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum),
        }
    }
}

/// Up to [`MAX_GEMV_ROWS`] rows times up to [`GEMV_TILES`] tiles of columns.
struct Gemv<'a, 'b, M> {
    left: &'a [f32],
    right: &'a M,
    /// The first column.
    first: usize,
    /// Each slice has one value for each column.
    rows: &'a mut [&'b mut [f32]],
    bias: Option<&'a [f32]>,
}

impl<M: Matrix> WithSimd for Gemv<'_, '_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, first: column, rows, bias } = self;
        let [inputs, _] = right.sizes();
        let columns = rows.first().map_or(0, |row| row.len());
        let tiles = columns.div_ceil(COLUMNS);
        let mut line = [[0.0; COLUMNS]; GEMV_TILES];
        for first in (0..inputs).step_by(DEPTH_BLOCK) {
            let mut sums = [[[0.0; COLUMNS]; GEMV_TILES]; MAX_GEMV_ROWS];
            for step in first..inputs.min(first + DEPTH_BLOCK) {
                right.read(step, column, &mut line.as_flattened_mut()[..columns]);
                let line: &[S::f32s] = bytemuck::cast_slice(line[..tiles].as_flattened());
                for (row, sums) in sums[..rows.len()].iter_mut().enumerate() {
                    let left = simd.splat_f32s(left[row * inputs + step]);
                    let sums: &mut [S::f32s] =
                        bytemuck::cast_slice_mut(sums[..tiles].as_flattened_mut());
                    for (sum, &right) in sums.iter_mut().zip(line) {
                        *sum = simd.mul_add_e_f32s(left, right, *sum);
                    }
                }
            }
            let start = if first == 0 { Start::Bias(bias) } else { Start::Accumulate };
            for (row, sums) in rows.iter_mut().zip(&sums) {
                start.add(&sums.as_flattened()[..columns], row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{bf16, f16};

    use super::*;
    use crate::matrix::Dense;
    use crate::testing::random;

    /// Small integers, whose sums are exact, in sizes around the edges of tiles and blocks.
    #[test]
    fn product_is_exact_for_small_integers() {
        let values = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7 + i / 11 + seed) % 9) as f32 - 4.0).collect()
        };
        for rows in
            [0, 1, MAX_GEMV_ROWS, MAX_GEMV_ROWS + 1, 7, ROW_BLOCK, ROW_BLOCK + 1, 3 * ROW_BLOCK - 5]
        {
            for (inputs, outputs) in
                [(1, 1), (3, 16), (DEPTH_BLOCK, COLUMN_BLOCK), (DEPTH_BLOCK + 1, COLUMN_BLOCK + 17)]
            {
                let (left, right) = (values(rows * inputs, 1), values(inputs * outputs, 2));
                let bias = values(outputs, 3);
                for bias in [None, Some(&bias[..])] {
                    let sizes = [inputs, outputs];
                    let got = product(&left, &Dense::new(&right, sizes), bias);
                    assert_eq!(got.len(), rows * outputs);
                    let narrow: Vec<f16> = right.iter().map(|&x| f16::from_f32(x)).collect();
                    assert!(got == product(&left, &Dense::new(&narrow, sizes), bias));
                    let narrow: Vec<bf16> = right.iter().map(|&x| bf16::from_f32(x)).collect();
                    assert!(got == product(&left, &Dense::new(&narrow, sizes), bias));
                    for (row, got) in got.chunks_exact(outputs).enumerate() {
                        let mut expected = bias.map_or(vec![0.0; outputs], <[f32]>::to_vec);
                        for (k, right) in right.chunks_exact(outputs).enumerate() {
                            let left = left[row * inputs + k];
                            expected.iter_mut().zip(right).for_each(|(sum, x)| *sum += left * x);
                        }
                        assert_eq!(got, expected, "row {row} of {rows}, {inputs} to {outputs}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_do_not_depend_on_rows_and_threads() {
        let (inputs, outputs) = (DEPTH_BLOCK + 70, 3 * COLUMN_BLOCK + 5);
        let values = |count, seed| random([count], seed).try_into_vec_as::<f32>().unwrap();
        let (left, right) = (values(400 * inputs, 1), values(inputs * outputs, 2));
        let of = |rows: usize, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let right = Dense::new(&right, [inputs, outputs]);
            pool.install(|| product(&left[..rows * inputs], &right, None))
        };
        let all = of(400, 1);
        for (rows, threads) in [(400, 3), (ROW_BLOCK, 1), (20, 3), (MAX_GEMV_ROWS, 3), (1, 1)] {
            assert!(of(rows, threads) == all[..rows * outputs], "{rows} rows, {threads} threads");
        }
        let matrix = &Dense::new(&right, [inputs, outputs]);
        let packed = PackedRight::new(matrix);
        for rows in [400, ROW_BLOCK, 20, 1] {
            let right = Right { matrix, packed: Some(&packed) };
            let got = product_of(&left[..rows * inputs], right, None);
            assert!(got == all[..rows * outputs], "{rows} rows, packed before");
        }
    }
}
