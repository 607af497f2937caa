//! Products of large matrices, shared out over the threads.

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::buffers::{self, Buffer};
use crate::number::Number;
use crate::tile::{COLUMNS, Left, ROWS, Right, ZEROS, add_product, dispatch, pack, pack_turned};

/// Steps that a tile sums up before its sums go to memory: a panel of them fills the first cache.
const STEPS: usize = 512;
/// Rows that a thread works on at a time: the strips of so many steps lie in the second cache.
const BLOCK: usize = 24 * ROWS;
/// Columns that a thread works on at a time, where it takes all rows of some columns.
const GROUP: usize = 8 * COLUMNS;
/// Rows that are too few for tiles: what those would save is less than laying out the matrix costs.
const FEW: usize = 3;
/// Tiles' worth of columns that a thread works on at a time, with so few rows.
const LINE: usize = 32;

/// `left · right + bias`: rows `[rows, inputs]`, matrix `[inputs, outputs]`, bias `[outputs]`, to
/// `[rows, outputs]`. There is at least one input and one output.
///
/// Each number is summed up in the same order, however many rows, columns and threads there are, and
/// whatever the type of the matrix.
pub(crate) fn product<W: Number>(
    left: &[f32],
    right: &[W],
    [inputs, outputs]: [usize; 2],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let rows = left.len() / inputs;
    let mut out = buffers::take(rows * outputs);
    // The smaller operand is laid out at once, for all; the tasks share out the other, whose layout stays
    // in their caches.
    let by = match rows {
        0..=FEW => as_it_lies,
        _ if 2 * rows < outputs => by_columns,
        _ => by_rows,
    };
    by(left, right, [inputs, outputs], bias, &mut out);
    out
}

/// The matrix is read once, from front to back.
fn as_it_lies<W: Number>(
    left: &[f32],
    right: &[W],
    [inputs, outputs]: [usize; 2],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let columns = share(outputs, COLUMNS).min(LINE * COLUMNS);
    groups(out, outputs, columns).into_par_iter().enumerate().for_each(|(group, mut rows)| {
        let first = group * columns;
        dispatch(FewRows {
            left,
            inputs,
            right: &right[first..],
            stride: outputs,
            rows: &mut rows,
            bias: bias.map(|bias| &bias[first..]),
        });
    });
}

/// All panels are laid out once; each task lays out its rows.
fn by_rows<W: Number>(
    left: &[f32],
    right: &[W],
    [inputs, outputs]: [usize; 2],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let mut panels = Buffer::new(outputs.div_ceil(COLUMNS) * inputs * COLUMNS);
    let (panels, _) = panels.as_chunks_mut::<COLUMNS>();
    panels.par_chunks_exact_mut(inputs).enumerate().for_each(|(index, panel)| {
        pack(panel, right.chunks_exact(outputs).map(|row| &row[index * COLUMNS..]));
    });
    let block = share(out.len() / outputs, ROWS).min(BLOCK);
    let tasks = left.par_chunks(block * inputs).zip(out.par_chunks_mut(block * outputs));
    tasks.for_each_init(Vec::new, |strips, (left, out)| {
        let mut rows: Vec<&mut [f32]> = out.chunks_exact_mut(outputs).collect();
        for first in (0..inputs).step_by(STEPS) {
            let steps = STEPS.min(inputs - first);
            strips.resize(rows.len().div_ceil(ROWS) * steps, [0.0; ROWS]);
            for (strip, rows) in strips.chunks_exact_mut(steps).zip(left.chunks(ROWS * inputs)) {
                pack_turned(strip, rows.chunks_exact(inputs).map(|row| &row[first..]));
            }
            dispatch(Block {
                strips: strips.chunks_exact(steps),
                panels: panels.chunks_exact(inputs).map(|panel| &panel[first..][..steps]),
                rows: &mut rows,
                start: if first == 0 { Start::From(bias) } else { Start::Continue },
            });
        }
    });
}

/// What of `count` a task gets, in multiples of `unit`: four tasks for each thread, so that none waits
/// long for the last.
fn share(count: usize, unit: usize) -> usize {
    count.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(unit)
}

/// Of each group of so many columns the piece of every row.
fn groups(out: &mut [f32], outputs: usize, columns: usize) -> Vec<Vec<&mut [f32]>> {
    let mut groups: Vec<Vec<&mut [f32]>> = Vec::new();
    groups.resize_with(outputs.div_ceil(columns), Vec::new);
    for row in out.chunks_exact_mut(outputs) {
        let pieces = row.chunks_mut(columns);
        groups.iter_mut().zip(pieces).for_each(|(group, piece)| group.push(piece));
    }
    groups
}

/// All rows are laid out once; each task lays out its columns.
fn by_columns<W: Number>(
    left: &[f32],
    right: &[W],
    [inputs, outputs]: [usize; 2],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let strips = Strips::new(left, inputs);
    let columns = share(outputs, COLUMNS).min(GROUP);
    let tasks = groups(out, outputs, columns).into_par_iter().enumerate();
    tasks.for_each_init(Vec::new, |panels, (group, mut rows)| {
        let first = group * columns;
        let start = Start::From(bias.map(|bias| &bias[first..]));
        strips.multiply(&right[first..], outputs, &mut rows, start, panels);
    });
}

/// A left matrix, laid out for any number of products.
#[derive(Debug)]
pub(crate) struct Strips {
    /// Strip by strip, [`Left`] by [`Left`].
    numbers: Buffer,
    inputs: usize,
}

impl Strips {
    /// Of `[rows, inputs]`.
    pub(crate) fn new(left: &[f32], inputs: usize) -> Self {
        let of_strip = ROWS * inputs;
        let mut numbers = Buffer::new(left.len().next_multiple_of(of_strip));
        let (steps, _) = numbers.as_chunks_mut::<ROWS>();
        steps.par_chunks_exact_mut(inputs).zip(left.par_chunks(of_strip)).for_each(
            |(strip, rows)| {
                pack_turned(strip, rows.chunks_exact(inputs));
            },
        );
        Self { numbers, inputs }
    }

    /// The product with columns of `right`, whose rows begin `stride` numbers apart, on this thread. The
    /// length of `rows` says how many columns; `panels` is room to lay them out.
    pub(crate) fn multiply<W: Number>(
        &self,
        right: &[W],
        stride: usize,
        rows: &mut [&mut [f32]],
        start: Start<'_>,
        panels: &mut Vec<Right>,
    ) {
        let columns = rows.first().map_or(0, |row| row.len());
        for first in (0..self.inputs).step_by(STEPS) {
            let steps = STEPS.min(self.inputs - first);
            panels.resize(columns.div_ceil(COLUMNS) * steps, [0.0; COLUMNS]);
            for (index, panel) in panels.chunks_exact_mut(steps).enumerate() {
                let place = index * COLUMNS..columns.min((index + 1) * COLUMNS);
                let right = right[first * stride..].chunks(stride);
                pack(panel, right.map(|row| &row[place.clone()]));
            }
            let (all, _) = self.numbers.as_chunks::<ROWS>();
            let blocks = all.chunks(BLOCK / ROWS * self.inputs);
            for (rows, strips) in rows.chunks_mut(BLOCK).zip(blocks) {
                dispatch(Block {
                    strips: strips.chunks_exact(self.inputs).map(|strip| &strip[first..][..steps]),
                    panels: panels.chunks_exact(steps),
                    rows,
                    start: if first == 0 { start } else { Start::Continue },
                });
            }
        }
    }
}

/// What the sums of some steps are added to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// A number for each column, or zero, whatever the rows hold.
    From(Option<&'a [f32]>),
    /// What the rows hold.
    Continue,
}

/// Some steps of some rows and columns: every strip times every panel.
struct Block<'a, 'b, S, P> {
    strips: S,
    panels: P,
    /// As many numbers of each row as there are columns.
    rows: &'a mut [&'b mut [f32]],
    start: Start<'a>,
}

impl<'c, S, P> WithSimd for Block<'_, '_, S, P>
where
    S: Iterator<Item = &'c [Left]> + Clone,
    P: Iterator<Item = &'c [Right]>,
{
    type Output = ();

    #[inline(always)]
    fn with_simd<I: Simd>(self, simd: I) {
        for (index, panel) in self.panels.enumerate() {
            let place = index * COLUMNS;
            for (rows, strip) in self.rows.chunks_mut(ROWS).zip(self.strips.clone()) {
                let mut sums = ZEROS;
                add_product(simd, strip, panel, &mut sums);
                for (row, sums) in rows.iter_mut().zip(&sums) {
                    let row = &mut row[place..];
                    let columns = row.len().min(COLUMNS);
                    self.start.at(place).add(&sums[..columns], &mut row[..columns]);
                }
            }
        }
    }
}

impl Start<'_> {
    /// That of the columns from `place` on.
    #[inline(always)]
    fn at(self, place: usize) -> Self {
        match self {
            Self::From(bias) => Self::From(bias.map(|bias| &bias[place..])),
            Self::Continue => Self::Continue,
        }
    }

    #[inline(always)]
    fn add(self, sums: &[f32], row: &mut [f32]) {
        match self {
            Self::From(None) => row.copy_from_slice(sums),
            Self::From(Some(bias)) => {
                let both = sums.iter().zip(bias);
                row.iter_mut().zip(both).for_each(|(to, (sum, bias))| *to = sum + bias);
            }
            Self::Continue => row.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum),
        }
    }
}

/// Up to [`FEW`] rows times up to [`LINE`] tiles' worth of columns.
struct FewRows<'a, 'b, W> {
    left: &'a [f32],
    inputs: usize,
    /// Its rows begin `stride` numbers apart.
    right: &'a [W],
    stride: usize,
    /// As many numbers of each row as there are columns.
    rows: &'a mut [&'b mut [f32]],
    bias: Option<&'a [f32]>,
}

impl<W: Number> WithSimd for FewRows<'_, '_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, inputs, right, stride, rows, bias } = self;
        let columns = rows.first().map_or(0, |row| row.len());
        let tiles = columns.div_ceil(COLUMNS);
        let mut line = [[0.0; COLUMNS]; LINE];
        for first in (0..inputs).step_by(STEPS) {
            let mut sums = [[[0.0; COLUMNS]; LINE]; FEW];
            for (step, numbers) in right.chunks(stride).enumerate().skip(first).take(STEPS) {
                W::widen(&numbers[..columns], &mut line.as_flattened_mut()[..columns]);
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
            let start = if first == 0 { Start::From(bias) } else { Start::Continue };
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
    use crate::testing::random;

    /// Small integers, whose sums are exact, around the edges of tiles, steps, blocks and groups.
    #[test]
    fn every_number_is_its_sum() {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7 + i / 11 + seed) % 9) as f32 - 4.0).collect()
        };
        for rows in [0, 1, FEW, FEW + 1, 7, BLOCK, BLOCK + 1, 3 * BLOCK - 5] {
            for (inputs, outputs) in [(1, 1), (3, 16), (STEPS, GROUP), (STEPS + 1, GROUP + 17)] {
                let (left, right) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
                let bias = numbers(outputs, 3);
                for bias in [None, Some(&bias[..])] {
                    let got = product(&left, &right, [inputs, outputs], bias);
                    assert_eq!(got.len(), rows * outputs);
                    let halves: Vec<f16> = right.iter().map(|&x| f16::from_f32(x)).collect();
                    assert!(got == product(&left, &halves, [inputs, outputs], bias));
                    let halves: Vec<bf16> = right.iter().map(|&x| bf16::from_f32(x)).collect();
                    assert!(got == product(&left, &halves, [inputs, outputs], bias));
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
    fn other_rows_and_threads_change_nothing() {
        let (inputs, outputs) = (STEPS + 70, 3 * GROUP + 5);
        let numbers = |count, seed| random([count], seed).try_into_vec_as::<f32>().unwrap();
        let (left, right) = (numbers(400 * inputs, 1), numbers(inputs * outputs, 2));
        let of = |rows: usize, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| product(&left[..rows * inputs], &right, [inputs, outputs], None))
        };
        let all = of(400, 1);
        for (rows, threads) in [(400, 3), (BLOCK, 1), (20, 3), (FEW, 3), (1, 1)] {
            assert!(of(rows, threads) == all[..rows * outputs], "{rows} rows, {threads} threads");
        }
    }
}
