//! Products of small matrices, each on the thread that calls it.

use pulp::{Simd, WithSimd};

use super::transpose::transpose_strided;
use crate::buffers::Lines;
use crate::intrinsics::{self, Sums};
use crate::lanes::dispatch;
use crate::narrow::{Kernel, Pairs, pair, steps_of};
use crate::number::bf16_bits;
use crate::operands::Operands;
use crate::tile::{COLUMNS, LeftStep, ROWS, RightStep, ZEROS, add_product, pack, pack_transposed};

/// A matrix, or the transpose of one that is stored row by row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    /// Rows and columns as stored.
    sizes: [usize; 2],
    /// Values from a stored row to the next.
    stride: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    /// Rows of `columns` values that are `stride` apart.
    pub(crate) fn new(
        values: &'a [f32],
        sizes @ [rows, columns]: [usize; 2],
        stride: usize,
    ) -> Self {
        debug_assert!(rows == 0 || values.len() >= (rows - 1) * stride + columns);
        Self { values, sizes, stride, transposed: false }
    }

    /// All of a matrix whose rows are adjacent.
    pub(crate) fn dense(values: &'a [f32], sizes: [usize; 2]) -> Self {
        Self::new(values, sizes, sizes[1])
    }

    pub(crate) fn transpose(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns.
    #[inline(always)]
    fn dims(self) -> [usize; 2] {
        let [rows, columns] = self.sizes;
        if self.transposed { [columns, rows] } else { [rows, columns] }
    }

    /// Part of a stored row.
    #[inline(always)]
    fn stored(self, row: usize, first: usize, count: usize) -> &'a [f32] {
        &self.values[row * self.stride + first..][..count]
    }

    /// The matrix row by row: a copy in `to`, unless its rows are adjacent.
    fn rows_in(self, to: &'a mut Vec<f32>) -> &'a [f32] {
        let [rows, columns] = self.dims();
        if !self.transposed && self.stride == columns {
            return &self.values[..rows * columns];
        }
        to.clear();
        if self.transposed {
            to.resize(rows * columns, 0.0);
            dispatch(TransposeView { view: self, to });
        } else {
            (0..rows).for_each(|row| to.extend_from_slice(self.stored(row, 0, columns)));
        }
        to
    }
}

/// Copies a transposed view row by row.
struct TransposeView<'a, 'b> {
    view: View<'a>,
    to: &'b mut [f32],
}

impl WithSimd for TransposeView<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { view, to } = self;
        let [rows, columns] = view.dims();
        transpose_strided(view.values, view.stride, [columns, rows], to);
    }
}

/// The operands of the products of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Planes {
    Exact,
    Narrow(Kernel),
}

impl Planes {
    /// Those of this thread; in f32 also where the processor has no instructions for bf16.
    pub(crate) fn current() -> Self {
        match Operands::current() {
            Operands::Exact => Self::Exact,
            Operands::Bf16 | Operands::Int8 => Kernel::detect().map_or(Self::Exact, Self::Narrow),
        }
    }

    /// Writes `left · right` to `out`, row by row, or adds it to `out`.
    pub(crate) fn multiply(
        self,
        left: View<'_>,
        right: View<'_>,
        add: bool,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let ([rows, depth], [inner, columns]) = (left.dims(), right.dims());
        assert_eq!((depth, out.len()), (inner, rows * columns), "sizes of a product must fit");
        if out.is_empty() || depth == 0 {
            if !add {
                out.fill(0.0);
            }
            return;
        }
        match self {
            Self::Exact => dispatch(Exact { left, right, add, out, scratch }),
            Self::Narrow(kernel) => narrow(kernel, left, right, add, out, scratch),
        }
    }
}

/// Reused by the products of a thread.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    strips: Vec<LeftStep>,
    panels: Vec<RightStep>,
    left: Vec<f32>,
    right: Vec<f32>,
    narrow_strips: Lines<u32>,
    narrow_panel: Lines<u32>,
    sums: Lines<f32>,
}

struct Exact<'a> {
    left: View<'a>,
    right: View<'a>,
    add: bool,
    out: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl WithSimd for Exact<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, add, out, scratch: Scratch { strips, panels, .. } } = self;
        let ([rows, depth], [_, columns]) = (left.dims(), right.dims());
        strips.clear();
        strips.resize(rows.div_ceil(ROWS) * depth, [0.0; ROWS]);
        for (index, strip) in strips.chunks_exact_mut(depth).enumerate() {
            let first = index * ROWS;
            let count = ROWS.min(rows - first);
            if left.transposed {
                pack(strip, (0..depth).map(|step| left.stored(step, first, count)));
            } else {
                pack_transposed(strip, (0..count).map(|row| left.stored(first + row, 0, depth)));
            }
        }
        panels.clear();
        panels.resize(columns.div_ceil(COLUMNS) * depth, [0.0; COLUMNS]);
        for (index, panel) in panels.chunks_exact_mut(depth).enumerate() {
            let first = index * COLUMNS;
            let count = COLUMNS.min(columns - first);
            if right.transposed {
                pack_transposed(panel, (0..count).map(|row| right.stored(first + row, 0, depth)));
            } else {
                pack(panel, (0..depth).map(|step| right.stored(step, first, count)));
            }
        }
        for (index, panel) in panels.chunks_exact(depth).enumerate() {
            let first = index * COLUMNS;
            let count = COLUMNS.min(columns - first);
            let blocks = out.chunks_mut(ROWS * columns);
            for (strip, out) in strips.chunks_exact(depth).zip(blocks) {
                let mut sums = ZEROS;
                add_product(simd, strip, panel, &mut sums);
                for (row, sums) in out.chunks_exact_mut(columns).zip(&sums) {
                    write(&mut row[first..][..count], &sums[..count], add);
                }
            }
        }
    }
}

#[inline(always)]
fn write(row: &mut [f32], sums: &[f32], add: bool) {
    if add {
        row.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
    } else {
        row.copy_from_slice(sums);
    }
}

fn narrow(
    kernel: Kernel,
    left: View<'_>,
    right: View<'_>,
    add: bool,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let Scratch { left: left_rows, right: right_rows, narrow_strips, narrow_panel, sums, .. } =
        scratch;
    let ([rows, depth], [_, columns]) = (left.dims(), right.dims());
    let (of_strip, steps) = (kernel.rows(), steps_of(depth));
    let left_rows = left.rows_in(left_rows);
    let right_rows = right.rows_in(right_rows);
    let strip_len = of_strip * steps;
    let narrow_strips = narrow_strips.take(rows.div_ceil(of_strip) * strip_len);
    for (index, strip) in narrow_strips.chunks_exact_mut(strip_len).enumerate() {
        let first = index * of_strip;
        let count = of_strip.min(rows - first);
        kernel.pack(Pairs, &left_rows[first * depth..][..count * depth], depth, strip);
    }
    let strips: Vec<&[u32]> = narrow_strips.chunks_exact(strip_len).collect();
    let (narrow_panel, _) = narrow_panel.take(steps * intrinsics::COLUMNS).as_chunks_mut();
    let (sums, _) = sums.take(strips.len() * of_strip * intrinsics::COLUMNS).as_chunks_mut();
    for first in (0..columns).step_by(intrinsics::COLUMNS) {
        dispatch(PackPanel { rows: right_rows, columns, first, panel: narrow_panel });
        kernel.products(&strips, narrow_panel, sums);
        dispatch(WriteSums { sums, add, columns, first, out });
    }
}

/// Packs up to [`intrinsics::COLUMNS`] columns from `first` on; missing columns and rows are 0.
struct PackPanel<'a> {
    rows: &'a [f32],
    columns: usize,
    first: usize,
    panel: &'a mut [intrinsics::RightStep],
}

impl WithSimd for PackPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut rows = self.rows.chunks_exact(self.columns);
        for step in self.panel {
            let mut halves = [[0.0; intrinsics::COLUMNS]; 2];
            for (half, row) in halves.iter_mut().zip(rows.by_ref()) {
                match row[self.first..].first_chunk() {
                    Some(row) => *half = *row,
                    None => {
                        let count = row.len() - self.first;
                        half[..count].copy_from_slice(&row[self.first..]);
                    }
                }
            }
            for ((to, &low), &high) in step.iter_mut().zip(&halves[0]).zip(&halves[1]) {
                *to = pair(bf16_bits(low), bf16_bits(high));
            }
        }
    }
}

/// Writes the sums of a panel to the columns from `first` on.
struct WriteSums<'a> {
    sums: &'a [Sums<f32>],
    add: bool,
    columns: usize,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for WriteSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (row, sums) in self.out.chunks_exact_mut(self.columns).zip(self.sums) {
            let row = &mut row[self.first..];
            match row.first_chunk_mut::<{ intrinsics::COLUMNS }>() {
                // A length that is known is two registers' width.
                Some(row) => write(row, sums, self.add),
                None => {
                    let count = row.len();
                    write(row, &sums[..count], self.add);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, whose sums are exact in f32 and bf16.
    #[test]
    fn products_are_exact_for_small_integers() {
        let values = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7 + i / 5 + seed) % 9) as f32 - 4.0).collect()
        };
        let all = [Planes::Exact, Operands::Bf16.install(Planes::current)];
        let mut scratch = Scratch::default();
        for [rows, depth, columns] in
            [[1, 1, 1], [5, 33, 17], [6, 32, 16], [40, 7, 33], [33, 70, 65], [3, 0, 4], [0, 3, 4]]
        {
            // Rows of both are three values longer than the matrix.
            let (left, right) = (values(rows * (depth + 3), 1), values(depth * (columns + 3), 2));
            let l = View::new(&left, [rows, depth], depth + 3);
            let r = View::new(&right, [depth, columns], columns + 3);
            let expected: Vec<f32> = (0..rows * columns)
                .map(|index| {
                    let (row, column) = (index / columns, index % columns);
                    let terms = (0..depth)
                        .map(|k| left[row * (depth + 3) + k] * right[k * (columns + 3) + column]);
                    terms.sum()
                })
                .collect();
            let [mut turned_left, mut turned_right] = [Vec::new(), Vec::new()];
            if depth > 0 {
                l.transpose().rows_in(&mut turned_left);
                r.transpose().rows_in(&mut turned_right);
            }
            let lt = View::dense(&turned_left, [depth, rows]).transpose();
            let rt = View::dense(&turned_right, [columns, depth]).transpose();
            for planes in all {
                for left in [l, lt] {
                    for right in [r, rt] {
                        let mut out = vec![f32::NAN; rows * columns];
                        planes.multiply(left, right, false, &mut out, &mut scratch);
                        assert_eq!(out, expected, "{planes:?} {rows} {depth} {columns}");
                        planes.multiply(left, right, true, &mut out, &mut scratch);
                        let twice: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
                        assert_eq!(out, twice, "{planes:?} {rows} {depth} {columns}");
                    }
                }
            }
        }
    }
}
