//! Blocks of products whose operands are narrow numbers, packed in steps of 32 bits.
//!
//! Blocked and packed as in [`crate::product`]. Two bf16 or four int8 along the summed dimension are a
//! step: the instructions of [`crate::intrinsics`] multiply and add all of them at once, AMX for whole
//! tiles, AVX-512 for a register. One packed form serves both.

use std::ops::AddAssign;

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::buffers::{self, Buffer, Lines};
use crate::intrinsics::{COLUMNS, DOT_ROWS, Dot, RightStep, STEPS, Sums, TILE_ROWS, Tiles};
use crate::lanes::dispatch;
use crate::product::{split_columns, task_size};

/// Rows of a block. Its strips, [`Kernel::depth_block`] deep, and its sums fit in the L2 cache. A multiple
/// of the rows of every strip.
pub(crate) const ROW_BLOCK: usize = 24 * DOT_ROWS;
/// Panels that are packed together: their part of a row lies side by side in memory, 512 bytes of it in bf16.
const PACKED_TOGETHER: usize = 8;
/// Columns of a task, at most.
pub(crate) const COLUMN_BLOCK: usize = 8 * COLUMNS;

/// The steps of that many numbers, `of_step` each.
pub(crate) fn steps_of(inputs: usize, of_step: usize) -> usize {
    inputs.div_ceil(of_step).next_multiple_of(STEPS)
}

/// How the numbers of a left operand become steps.
pub(crate) trait Steps: Sync {
    /// Numbers of a step.
    const NUMBERS: usize;

    /// [`STEPS`] steps of a row, of the numbers from `first` on; missing numbers are 0. `index` is the
    /// place of the row among those that are packed together. `#[inline(always)]`, so that it is
    /// vectorised.
    fn steps(&self, index: usize, row: &[f32], first: usize) -> [u32; STEPS];
}

/// The instructions of a processor for one type of numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kernel<T, D> {
    Tiles(T),
    Dot(D),
}

impl<T, D> Kernel<T, D> {
    /// Rows of a strip.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Tiles(_) => TILE_ROWS,
            Self::Dot(_) => DOT_ROWS,
        }
    }
}

impl<S, T, D> Kernel<T, D>
where
    S: Copy + Default + AddAssign + Send + Sync,
    T: Tiles<Sum = S>,
    D: Dot<Sum = S>,
{
    /// The fastest of this processor.
    pub(crate) fn detect() -> Option<Self> {
        T::detect().map(Self::Tiles).or_else(|| D::detect().map(Self::Dot))
    }

    /// Packs the rows of a strip, up to [`rows`](Self::rows) of `inputs` numbers; missing ones are 0.
    /// `strip` has a number for each row and step, in blocks of [`STEPS`] steps.
    pub(crate) fn pack<P: Steps>(self, numbers: P, rows: &[f32], inputs: usize, strip: &mut [u32]) {
        dispatch(PackStrip { kernel: self, numbers, rows, inputs, strip });
    }

    /// Packs all rows of `left`; `numbers` is that of the strip that starts at a row.
    pub(crate) fn pack_all<P: Steps>(
        self,
        left: &[f32],
        inputs: usize,
        numbers: impl Fn(usize) -> P + Sync,
    ) -> Buffer {
        let strip_len = self.rows() * steps_of(inputs, P::NUMBERS);
        let mut strips = Buffer::new((left.len() / inputs).div_ceil(self.rows()) * strip_len);
        bytemuck::cast_slice_mut::<f32, u32>(&mut strips)
            .par_chunks_exact_mut(strip_len)
            .zip(left.par_chunks(self.rows() * inputs))
            .enumerate()
            .for_each(|(index, (strip, rows))| {
                self.pack(numbers(index * self.rows()), rows, inputs, strip);
            });
        strips
    }

    /// Steps between two writes of a tile's sums to memory: a panel of that depth is 64 KiB for AMX, whose
    /// tiles are read from the L2 cache, and 32 KiB otherwise.
    pub(crate) fn depth_block(self) -> usize {
        match self {
            Self::Tiles(_) => 32 * STEPS,
            Self::Dot(_) => 16 * STEPS,
        }
    }

    /// Writes the products of strips and a panel of the same number of steps to `sums`: a row for each row
    /// of the strips.
    pub(crate) fn products(self, strips: &[&[u32]], panel: &[RightStep], sums: &mut [Sums<S>]) {
        self.products_before(&[], strips, panel, false, sums);
    }

    /// [`products`](Self::products), written or added to `sums`, while the cache reads the panel `next`.
    fn products_before(
        self,
        next: &[RightStep],
        strips: &[&[u32]],
        panel: &[RightStep],
        add: bool,
        sums: &mut [Sums<S>],
    ) {
        match self {
            Self::Tiles(tiles) => {
                let strips: Vec<_> = strips
                    .iter()
                    .map(|strip| strip.as_chunks::<STEPS>().0.as_chunks::<TILE_ROWS>().0)
                    .collect();
                tiles.products(&strips, panel, next, add, sums.as_chunks_mut().0);
            }
            Self::Dot(dot) => {
                for (strip, sums) in strips.iter().zip(sums.chunks_exact_mut(DOT_ROWS)) {
                    let product = dot.product(strip.as_chunks().0, panel);
                    if add {
                        sums.as_flattened_mut()
                            .iter_mut()
                            .zip(product.as_flattened())
                            .for_each(|(to, x)| *to += *x);
                    } else {
                        sums.copy_from_slice(&product);
                    }
                }
            }
        }
    }

    /// Where a row and a step are among strips of `steps` steps.
    pub(crate) fn place(self, row: usize, step: usize, steps: usize) -> usize {
        let of_strip = self.rows();
        let strip = row / of_strip * of_strip * steps;
        let row = row % of_strip;
        strip
            + match self {
                Self::Tiles(_) => (step / STEPS * of_strip + row) * STEPS + step % STEPS,
                Self::Dot(_) => step * of_strip + row,
            }
    }

    /// The product of the rows of `left` and of `right`. `numbers` packs the rows from one on;
    /// `write` turns sums into results.
    ///
    /// The order of each sum depends neither on the number of rows, columns and threads nor on how
    /// `right` was stored.
    pub(crate) fn product<P: Steps>(
        self,
        left: &[f32],
        right: &Panels,
        numbers: impl Fn(usize) -> P + Sync,
        write: impl Fn(Block<'_, '_, S>) + Sync,
    ) -> Vec<f32> {
        let Panels { steps, inputs, outputs, .. } = *right;
        let rows = left.len() / inputs;
        let mut out = buffers::take(rows * outputs);
        let strips = self.pack_all(left, inputs, numbers);
        let strips = bytemuck::cast_slice::<f32, u32>(&strips);

        let columns = match rows {
            // Blocks of rows are tasks enough.
            _ if rows > 4 * ROW_BLOCK => COLUMN_BLOCK,
            _ => task_size(outputs, COLUMNS).min(COLUMN_BLOCK),
        };
        let blocks = out.chunks_mut(ROW_BLOCK * outputs);
        let blocks = blocks.zip(strips.chunks(ROW_BLOCK * steps));
        let tasks: Vec<_> = blocks
            .enumerate()
            .flat_map(|(block, (out, strips))| {
                let groups = split_columns(out, outputs, columns).into_iter().enumerate();
                groups.map(move |(group, rows)| Task {
                    strips,
                    row: block * ROW_BLOCK,
                    column: group * columns,
                    rows,
                })
            })
            .collect();
        tasks.into_par_iter().for_each_init(Lines::default, |sums, task| {
            task.run(self, right, sums, &write);
        });
        out
    }

    /// The sums of strips and panels, all of the same number of steps: panel by panel, each with a row for each row of
    /// the strips.
    pub(crate) fn sums<'s>(
        self,
        strips: &[u32],
        panels: &[&[RightStep]],
        sums: &'s mut Lines<S>,
    ) -> &'s [Sums<S>] {
        let (of_strip, steps) = (self.rows(), panels.first().map_or(0, |panel| panel.len()));
        let strips = strips.chunks_exact(of_strip * steps);
        let rows = strips.len() * of_strip;
        let (sums, _) = sums.take(panels.len() * rows * COLUMNS).as_chunks_mut();
        for first in (0..steps).step_by(self.depth_block()) {
            let depth = first..steps.min(first + self.depth_block());
            let strips: Vec<_> = (strips.clone())
                .map(|strip| &strip[of_strip * depth.start..of_strip * depth.end])
                .collect();
            for (index, sums) in sums.chunks_exact_mut(rows).enumerate() {
                let next = panels.get(index + 1).map_or(&[][..], |panel| &panel[depth.clone()]);
                let panel = &panels[index][depth.clone()];
                self.products_before(next, &strips, panel, first > 0, sums);
            }
        }
        sums
    }
}

/// See [`Kernel::pack`].
struct PackStrip<'a, T, D, P> {
    kernel: Kernel<T, D>,
    numbers: P,
    rows: &'a [f32],
    inputs: usize,
    strip: &'a mut [u32],
}

impl<T, D, P: Steps> WithSimd for PackStrip<'_, T, D, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { kernel, numbers, rows, inputs, strip } = self;
        for (block, to) in strip.chunks_exact_mut(kernel.rows() * STEPS).enumerate() {
            let first = block * STEPS * P::NUMBERS;
            let mut rows = rows.chunks_exact(inputs).enumerate();
            match kernel {
                Kernel::Tiles(_) => {
                    let (to, _) = to.as_chunks_mut::<STEPS>();
                    for to in to {
                        let next = rows.next();
                        *to = next.map_or([0; STEPS], |(row, x)| numbers.steps(row, x, first));
                    }
                }
                Kernel::Dot(_) => {
                    let (to, _) = to.as_chunks_mut::<DOT_ROWS>();
                    to.fill([0; DOT_ROWS]);
                    for (row, x) in rows {
                        for (step, numbers) in to.iter_mut().zip(numbers.steps(row, x, first)) {
                            step[row] = numbers;
                        }
                    }
                }
            }
        }
    }
}

/// A right matrix, packed in steps.
#[derive(Debug)]
pub(crate) struct Panels {
    /// Panel by panel, each of `steps` times [`RightStep`].
    panels: Buffer,
    steps: usize,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Packs a matrix of `sizes` `[inputs, outputs]`, `of_step` numbers in a step: `pack` gets the first
    /// column of up to [`PACKED_TOGETHER`] panels, and the steps of one after the other, with unspecified
    /// contents.
    pub(crate) fn new(
        sizes @ [inputs, outputs]: [usize; 2],
        of_step: usize,
        pack: impl Fn(usize, &mut [RightStep]) + Sync,
    ) -> Self {
        let steps = steps_of(inputs, of_step);
        let mut panels = Buffer::new(Self::bytes(sizes, of_step) / size_of::<f32>());
        let (all, _) = bytemuck::cast_slice_mut::<f32, u32>(&mut panels).as_chunks_mut::<COLUMNS>();
        all.par_chunks_mut(PACKED_TOGETHER * steps).enumerate().for_each(|(index, panels)| {
            pack(index * PACKED_TOGETHER * COLUMNS, panels);
        });
        Self { panels, steps, inputs, outputs }
    }

    /// The size in memory of a matrix of these sizes.
    pub(crate) fn bytes([inputs, outputs]: [usize; 2], of_step: usize) -> usize {
        outputs.div_ceil(COLUMNS) * steps_of(inputs, of_step) * size_of::<RightStep>()
    }

    /// The steps of a panel: [`COLUMNS`] columns from `index` times as many on.
    pub(crate) fn panel(&self, index: usize) -> &[RightStep] {
        let (all, _) = bytemuck::cast_slice::<f32, u32>(&self.panels).as_chunks::<COLUMNS>();
        &all[index * self.steps..][..self.steps]
    }
}

/// Some rows and columns of a product.
struct Task<'a> {
    strips: &'a [u32],
    row: usize,
    column: usize,
    /// Each slice has one value for each column.
    rows: Vec<&'a mut [f32]>,
}

impl Task<'_> {
    /// `sums` is reused by the tasks of a thread.
    fn run<S, T, D>(
        mut self,
        kernel: Kernel<T, D>,
        right: &Panels,
        sums: &mut Lines<S>,
        write: impl Fn(Block<'_, '_, S>),
    ) where
        S: Copy + Default + AddAssign + Send + Sync,
        T: Tiles<Sum = S>,
        D: Dot<Sum = S>,
    {
        let columns = self.rows.first().map_or(0, |row| row.len());
        let (first, count) = (self.column / COLUMNS, columns.div_ceil(COLUMNS));
        let panels: Vec<_> = (first..first + count).map(|index| right.panel(index)).collect();
        let sums = kernel.sums(self.strips, &panels, sums);
        let (row, column) = (self.row, self.column);
        write(Block { sums, stride: sums.len() / count, row, column, rows: &mut self.rows });
    }
}

/// The sums of a task, and where its results go.
pub(crate) struct Block<'a, 'b, S> {
    /// Panel by panel, `stride` rows each.
    sums: &'a [Sums<S>],
    stride: usize,
    /// The first row and column in the product.
    pub(crate) row: usize,
    pub(crate) column: usize,
    /// Each slice has one value for each column.
    rows: &'a mut [&'b mut [f32]],
}

impl<'b, S> Block<'_, 'b, S> {
    /// For each row its index in the product, its results, and the sums of its panels.
    #[inline(always)]
    pub(crate) fn rows(
        &mut self,
    ) -> impl Iterator<Item = (usize, &mut &'b mut [f32], impl Iterator<Item = &Sums<S>>)> {
        let (first, sums, stride) = (self.row, self.sums, self.stride);
        self.rows
            .iter_mut()
            .enumerate()
            .map(move |(index, row)| (first + index, row, sums[index..].iter().step_by(stride)))
    }
}
