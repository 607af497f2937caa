//! Blocks of products whose operands are narrow numbers, packed in steps of 32 bits.
//!
//! Blocked and packed as in [`crate::product`]. Two bf16 or four int8 along the summed dimension
//! are a step: the instructions of [`crate::intrinsics`] multiply and add all of them at once, AMX
//! for whole tiles, AVX-512 for a register. One packed form serves both.

use std::ops::{AddAssign, Range};

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::buffers::{self, Buffer, Lines};
use crate::intrinsics::{COLUMNS, DOT_ROWS, Dot, RightStep, STEPS, Sums, TILE_ROWS, Tiles};
use crate::lanes::dispatch;
use crate::product::{split_columns, task_size};

/// Rows of a block. Its strips, [`Kernel::depth_block`] deep, and its sums fit in the L2 cache. A
/// multiple of the rows of every strip.
pub(crate) const ROW_BLOCK: usize = 24 * DOT_ROWS;
/// Panels that are packed together before a product: their part of a row lies side by side in
/// memory, 512 bytes of it in bf16.
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

    /// [`STEPS`] steps of a row, of the numbers from `first` on; missing numbers are 0. `index` is
    /// the place of the row among those that are packed together. `#[inline(always)]`, so that it
    /// is vectorised.
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

    /// Packs the rows of a strip, up to [`rows`](Self::rows) of `inputs` numbers; missing ones are
    /// 0. `strip` has a number for each row and step, in blocks of [`STEPS`] steps.
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

    /// Steps between two writes of a tile's sums to memory: a panel of that depth is 64 KiB for
    /// AMX, whose tiles are read from the L2 cache, and 32 KiB otherwise.
    pub(crate) fn depth_block(self) -> usize {
        match self {
            Self::Tiles(_) => 32 * STEPS,
            Self::Dot(_) => 16 * STEPS,
        }
    }

    /// Writes the products of strips and a panel of the same number of steps to `sums`: a row for
    /// each row of the strips.
    pub(crate) fn products(self, strips: &[&[u32]], panel: &[RightStep], sums: &mut [Sums<S>]) {
        self.products_before(&[], strips, panel, false, sums);
    }

    /// [`products`](Self::products), written or added to `sums`, while the cache reads the panel
    /// `next`.
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
                    let strip = strip.as_chunks::<STEPS>().0.as_chunks::<DOT_ROWS>().0;
                    let product = dot.product(strip, panel.as_chunks().0);
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
        strip + (step / STEPS * of_strip + row) * STEPS + step % STEPS
    }

    /// The product of the rows of `left` and of `right`. `numbers` packs the rows from one on;
    /// `write` turns sums into results.
    ///
    /// The order of each sum depends neither on the number of rows, columns and threads nor on how
    /// `right` was stored and when it is packed.
    pub(crate) fn product<P: Steps>(
        self,
        left: &[f32],
        right: Right<'_>,
        numbers: impl Fn(usize) -> P + Sync,
        write: impl Fn(Block<'_, '_, S>) + Sync,
    ) -> Vec<f32> {
        let [inputs, outputs] = right.sizes();
        let steps = steps_of(inputs, P::NUMBERS);
        let rows = left.len() / inputs;
        let mut out = buffers::take(rows * outputs);
        let strips = self.pack_all(left, inputs, numbers);
        let strips = bytemuck::cast_slice::<f32, u32>(&strips);

        let columns = match rows {
            // Blocks of rows are tasks enough.
            _ if rows > 4 * ROW_BLOCK => COLUMN_BLOCK,
            // What lies side by side in memory is read together.
            _ if outputs >= 2 * rayon::current_num_threads() * COLUMN_BLOCK => COLUMN_BLOCK,
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
        tasks.into_par_iter().for_each_init(Scratch::default, |scratch, task| {
            task.run(self, right, steps, scratch, &write);
        });
        out
    }

    /// The sums of strips and panels, all of the same number of steps: panel by panel, each with a
    /// row for each row of the strips.
    pub(crate) fn sums<'s>(
        self,
        strips: &[u32],
        panels: &[&[RightStep]],
        sums: &'s mut Lines<S>,
    ) -> &'s [Sums<S>] {
        let steps = panels.first().map_or(0, |panel| panel.len());
        let sums = self.take_sums(strips, steps, panels.len(), sums);
        for depth in self.depths(steps) {
            let panels: Vec<_> = panels.iter().map(|panel| &panel[depth.clone()]).collect();
            self.add_depth(strips, steps, depth, &panels, sums);
        }
        sums
    }

    /// Sums for `panels` panels and all rows of strips of `steps` steps, with unspecified contents.
    fn take_sums<'s>(
        self,
        strips: &[u32],
        steps: usize,
        panels: usize,
        sums: &'s mut Lines<S>,
    ) -> &'s mut [Sums<S>] {
        sums.take(panels * strips.len() / steps.max(1) * COLUMNS).as_chunks_mut().0
    }

    /// All steps, [`depth_block`](Self::depth_block) after [`depth_block`](Self::depth_block).
    fn depths(self, steps: usize) -> impl Iterator<Item = Range<usize>> {
        let block = self.depth_block();
        (0..steps).step_by(block).map(move |first| first..steps.min(first + block))
    }

    /// The part of [`sums`](Self::sums) of some steps; `panels` have those steps only. The first
    /// steps overwrite the sums.
    fn add_depth(
        self,
        strips: &[u32],
        steps: usize,
        depth: Range<usize>,
        panels: &[&[RightStep]],
        sums: &mut [Sums<S>],
    ) {
        let of_strip = self.rows();
        let strips: Vec<_> = strips
            .chunks_exact(of_strip * steps)
            .map(|strip| &strip[of_strip * depth.start..of_strip * depth.end])
            .collect();
        let rows = strips.len() * of_strip;
        for (index, sums) in sums.chunks_exact_mut(rows).enumerate() {
            let next = panels.get(index + 1).copied().unwrap_or_default();
            self.products_before(next, &strips, panels[index], depth.start > 0, sums);
        }
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
            let (to, _) = to.as_chunks_mut::<STEPS>();
            for to in to {
                let next = rows.next();
                *to = next.map_or([0; STEPS], |(row, x)| numbers.steps(row, x, first));
            }
        }
    }
}

/// Packs the panels of the columns from one on, as many as there are, of some steps: panel after
/// panel, with unspecified contents before.
pub(crate) type PackSteps<'a> = &'a (dyn Fn(usize, Range<usize>, &mut [RightStep]) + Sync);

/// A right operand of [`Kernel::product`].
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Packed before.
    Packed(&'a Panels),
    /// Packed by the tasks that multiply it, into their caches: each task packs its own columns, so
    /// for up to [`ROW_BLOCK`] rows none is packed twice, and none is written to memory.
    Unpacked {
        /// `[inputs, outputs]`.
        sizes: [usize; 2],
        pack: PackSteps<'a>,
    },
}

impl Right<'_> {
    fn sizes(&self) -> [usize; 2] {
        match self {
            Self::Packed(panels) => [panels.inputs, panels.outputs],
            Self::Unpacked { sizes, .. } => *sizes,
        }
    }
}

/// What the tasks of a thread reuse.
struct Scratch<S> {
    sums: Lines<S>,
    panels: Lines<u32>,
}

impl<S: Copy + Default> Default for Scratch<S> {
    fn default() -> Self {
        Self { sums: Lines::default(), panels: Lines::default() }
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
    /// Packs a matrix of `sizes` `[inputs, outputs]`, `of_step` numbers in a step: `pack` gets the
    /// first column of up to [`PACKED_TOGETHER`] panels, and all steps.
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
    /// The panels have `steps` steps.
    fn run<S, T, D>(
        mut self,
        kernel: Kernel<T, D>,
        right: Right<'_>,
        steps: usize,
        scratch: &mut Scratch<S>,
        write: impl Fn(Block<'_, '_, S>),
    ) where
        S: Copy + Default + AddAssign + Send + Sync,
        T: Tiles<Sum = S>,
        D: Dot<Sum = S>,
    {
        let columns = self.rows.first().map_or(0, |row| row.len());
        let (first, count) = (self.column / COLUMNS, columns.div_ceil(COLUMNS));
        let sums = match right {
            Right::Packed(right) => {
                let panels: Vec<_> =
                    (first..first + count).map(|index| right.panel(index)).collect();
                kernel.sums(self.strips, &panels, &mut scratch.sums)
            }
            Right::Unpacked { pack, .. } => {
                let sums = kernel.take_sums(self.strips, steps, count, &mut scratch.sums);
                for depth in kernel.depths(steps) {
                    let panels = scratch.panels.take(count * depth.len() * COLUMNS);
                    let (panels, _) = panels.as_chunks_mut();
                    pack(self.column, depth.clone(), panels);
                    let panels: Vec<_> = panels.chunks_exact(depth.len()).collect();
                    kernel.add_depth(self.strips, steps, depth, &panels, sums);
                }
                sums
            }
        };
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
