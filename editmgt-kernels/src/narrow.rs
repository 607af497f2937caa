//! Products whose operands are bf16 and whose sums are f32.
//!
//! Blocked and packed as in [`crate::product`]. Two numbers along the summed dimension are a step of 32
//! bits: the instructions for bf16 ([`crate::intrinsics`]) multiply and add both at once, AMX for whole
//! tiles, AVX-512 for a register. Where the processor has neither, the operands are rounded in the same way, and
//! [`crate::product`] multiplies them in f32; then only the order of the sums differs.

use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::buffers::{self, Buffer, Lines};
use crate::intrinsics::{Bf16Dot, Bf16Tiles, COLUMNS, RightStep, STEPS, Sums};
use crate::lanes::dispatch;
use crate::matrix::Matrix;
use crate::number::bf16_bits;
use crate::product::{self, Right, Start, split_columns, task_size};

/// Numbers of a step.
const DEPTH: usize = 2;
/// Rows of a block. Its strips, [`Kernel::depth_block`] deep, and its sums fit in the L2 cache. A multiple
/// of the rows of every tile.
const ROW_BLOCK: usize = 24 * Bf16Dot::ROWS;
/// Panels that are packed together: their part of a row lies side by side in memory, 512 bytes of it in bf16.
const PACKED_TOGETHER: usize = 8;
/// Columns of a task, at most.
const COLUMN_BLOCK: usize = 8 * COLUMNS;

/// The instructions for bf16 of a processor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kernel {
    Tiles(Bf16Tiles),
    Dot(Bf16Dot),
}

impl Kernel {
    /// The fastest of this processor. With AMX, Intel's processors have `vdpbf16ps`, too, but it is
    /// slower there than products in f32.
    pub(crate) fn detect() -> Option<Self> {
        let dot = || Bf16Dot::detect().map(Self::Dot);
        Bf16Tiles::detect().map(Self::Tiles).or_else(dot)
    }

    /// Rows of a strip.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Tiles(_) => Bf16Tiles::ROWS,
            Self::Dot(_) => Bf16Dot::ROWS,
        }
    }

    /// Packs the rows of a strip, up to [`rows`](Self::rows); missing ones are 0. `strip` has a number
    /// for each row and step, in blocks of [`STEPS`] steps.
    pub(crate) fn pack(self, rows: &[f32], inputs: usize, strip: &mut [u32]) {
        dispatch(PackStrip { kernel: self, rows, inputs, strip });
    }

    /// Steps between two writes of a tile's sums to memory: a panel of that depth is 64 KiB for AMX, whose
    /// tiles are read from the L2 cache, and 32 KiB otherwise.
    fn depth_block(self) -> usize {
        match self {
            Self::Tiles(_) => 32 * STEPS,
            Self::Dot(_) => 16 * STEPS,
        }
    }

    /// Writes the products of strips and a panel of the same number of steps to `sums`: a row for each row
    /// of the strips.
    pub(crate) fn products(self, strips: &[&[u32]], panel: &[RightStep], sums: &mut [Sums]) {
        self.products_before(&[], strips, panel, false, sums);
    }

    /// [`products`](Self::products), written or added to `sums`, while the cache reads the panel `next`.
    fn products_before(
        self,
        next: &[RightStep],
        strips: &[&[u32]],
        panel: &[RightStep],
        add: bool,
        sums: &mut [Sums],
    ) {
        match self {
            Self::Tiles(tiles) => {
                let strips: Vec<_> = strips
                    .iter()
                    .map(|strip| strip.as_chunks::<STEPS>().0.as_chunks::<{ Bf16Tiles::ROWS }>().0)
                    .collect();
                tiles.products(&strips, panel, next, add, sums.as_chunks_mut().0);
            }
            Self::Dot(dot) => {
                for (strip, sums) in strips.iter().zip(sums.chunks_exact_mut(Bf16Dot::ROWS)) {
                    let product = dot.product(strip.as_chunks().0, panel);
                    if add {
                        sums.as_flattened_mut()
                            .iter_mut()
                            .zip(product.as_flattened())
                            .for_each(|(to, x)| *to += x);
                    } else {
                        sums.copy_from_slice(&product);
                    }
                }
            }
        }
    }

    /// Where the pair of a row and a step is among strips of `steps` steps.
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
}

/// See [`Kernel::pack`].
struct PackStrip<'a> {
    kernel: Kernel,
    rows: &'a [f32],
    inputs: usize,
    strip: &'a mut [u32],
}

impl WithSimd for PackStrip<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let blocks = self.strip.chunks_exact_mut(self.kernel.rows() * STEPS).enumerate();
        for (block, to) in blocks {
            let first = block * STEPS * DEPTH;
            match self.kernel {
                Kernel::Tiles(_) => {
                    let (to, _) = to.as_chunks_mut::<STEPS>();
                    let mut rows = self.rows.chunks_exact(self.inputs);
                    for to in to {
                        *to = rows.next().map_or([0; STEPS], |row| pairs(row, first));
                    }
                }
                Kernel::Dot(_) => {
                    let (to, _) = to.as_chunks_mut::<{ Bf16Dot::ROWS }>();
                    to.fill([0; Bf16Dot::ROWS]);
                    for (index, row) in self.rows.chunks_exact(self.inputs).enumerate() {
                        for (step, pair) in to.iter_mut().zip(pairs(row, first)) {
                            step[index] = pair;
                        }
                    }
                }
            }
        }
    }
}

/// The pairs of some steps of a row; missing numbers are 0.
#[inline(always)]
fn pairs(row: &[f32], first: usize) -> [u32; STEPS] {
    let mut values = [0.0; DEPTH * STEPS];
    match row[first..].first_chunk() {
        Some(all) => values = *all,
        None => values[..row.len() - first].copy_from_slice(&row[first..]),
    }
    let mut steps = [0; STEPS];
    for (step, [low, high]) in steps.iter_mut().zip(values.as_chunks().0) {
        *step = pair(bf16_bits(*low), bf16_bits(*high));
    }
    steps
}

/// Two numbers of a step.
#[inline(always)]
pub(crate) fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

/// `left · right + bias` of operands that are rounded to bf16, as [`product::product`] otherwise.
///
/// The order of each sum depends neither on the number of rows, columns and threads nor on how
/// `right` is stored and whether it was packed before.
pub(crate) fn product<M: Matrix>(
    left: &[f32],
    right: &M,
    packed: Option<&PackedBf16>,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let new;
    let packed = match packed {
        Some(packed) => packed,
        None => {
            new = PackedBf16::new(right);
            &new
        }
    };
    match packed {
        PackedBf16::Pairs(kernel, panels) => packed_product(*kernel, left, panels, bias),
        PackedBf16::Widened(packed) => widened_product(left, right, packed, bias),
    }
}

/// A right matrix, rounded to bf16 and packed for any number of products.
#[derive(Debug)]
pub(crate) enum PackedBf16 {
    /// For the processor's instructions.
    Pairs(Kernel, PackedPairs),
    /// For products in f32.
    Widened(product::PackedRight),
}

impl PackedBf16 {
    pub(crate) fn new<M: Matrix>(right: &M) -> Self {
        match Kernel::detect() {
            Some(kernel) => Self::Pairs(kernel, PackedPairs::new(right)),
            None => Self::Widened(product::PackedRight::new(&Rounded(right))),
        }
    }

    /// The size in memory of a matrix of these sizes once it is packed.
    pub(crate) fn bytes(sizes @ [inputs, outputs]: [usize; 2]) -> usize {
        match Kernel::detect() {
            Some(_) => outputs.div_ceil(COLUMNS) * steps_of(inputs) * size_of::<RightStep>(),
            None => product::PackedRight::bytes(sizes),
        }
    }
}

/// A product without instructions for bf16.
fn widened_product<M: Matrix>(
    left: &[f32],
    right: &M,
    packed: &product::PackedRight,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let mut rounded = Buffer::new(left.len());
    let (to, from) = (rounded.par_chunks_mut(1 << 15), left.par_chunks(1 << 15));
    to.zip(from).for_each(|(to, from)| {
        dispatch(Round { from, to });
    });
    let right = Right { matrix: &Rounded(right), packed: Some(packed) };
    product::product_of(&rounded, right, bias)
}

/// Rounds numbers to bf16.
struct Round<'a> {
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (to, &x) in self.to.iter_mut().zip(self.from) {
            *to = rounded_to_bf16(x);
        }
    }
}

/// A matrix with every value rounded to bf16.
struct Rounded<'a, M>(&'a M);

impl<M: Matrix> Matrix for Rounded<'_, M> {
    #[inline(always)]
    fn sizes(&self) -> [usize; 2] {
        self.0.sizes()
    }

    #[inline(always)]
    fn read(&self, step: usize, first: usize, to: &mut [f32]) {
        self.0.read(step, first, to);
        to.iter_mut().for_each(|x| *x = rounded_to_bf16(*x));
    }
}

/// The steps of that many numbers.
pub(crate) fn steps_of(inputs: usize) -> usize {
    inputs.div_ceil(DEPTH).next_multiple_of(STEPS)
}

/// A right matrix, packed in pairs of bf16.
#[derive(Debug)]
pub(crate) struct PackedPairs {
    /// Panel by panel, each of `steps` times [`RightStep`].
    panels: Buffer,
    sizes: [usize; 2],
}

impl PackedPairs {
    /// Packs all of it, rounded to bf16.
    fn new<M: Matrix>(right: &M) -> Self {
        let sizes @ [inputs, outputs] = right.sizes();
        let steps = steps_of(inputs);
        let mut panels = Buffer::new(outputs.div_ceil(COLUMNS) * steps * COLUMNS);
        let (all, _) = bytemuck::cast_slice_mut::<f32, u32>(&mut panels).as_chunks_mut::<COLUMNS>();
        all.par_chunks_mut(PACKED_TOGETHER * steps).enumerate().for_each(|(index, panels)| {
            dispatch(PackPanels {
                right,
                column: index * PACKED_TOGETHER * COLUMNS,
                steps,
                panels,
            });
        });
        Self { panels, sizes }
    }

    /// The panels from column `first` on, a multiple of [`COLUMNS`].
    fn panels(&self, first: usize) -> impl Iterator<Item = &[RightStep]> {
        let steps = steps_of(self.sizes[0]);
        let (all, _) = bytemuck::cast_slice::<f32, u32>(&self.panels).as_chunks::<COLUMNS>();
        all.chunks_exact(steps).skip(first / COLUMNS)
    }
}

/// Packs panels of `steps` steps, of the columns from `column` on; missing columns and rows are 0.
struct PackPanels<'a, M> {
    right: &'a M,
    column: usize,
    steps: usize,
    panels: &'a mut [RightStep],
}

impl<M: Matrix> WithSimd for PackPanels<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { right, column, steps, panels } = self;
        let [inputs, outputs] = right.sizes();
        for step in 0..inputs.div_ceil(DEPTH) {
            let panels = panels.chunks_exact_mut(steps);
            for (panel, column) in panels.zip((column..outputs).step_by(COLUMNS)) {
                let columns = COLUMNS.min(outputs - column);
                let mut halves = [[0; COLUMNS]; DEPTH];
                for (row, half) in (step * DEPTH..inputs).zip(&mut halves) {
                    if columns == COLUMNS {
                        right.read_bf16(row, column, half);
                    } else {
                        let mut values = [0.0; COLUMNS];
                        right.read(row, column, &mut values[..columns]);
                        for (to, x) in half.iter_mut().zip(values) {
                            *to = bf16_bits(x);
                        }
                    }
                }
                for ((to, &low), &high) in panel[step].iter_mut().zip(&halves[0]).zip(&halves[1]) {
                    *to = pair(low, high);
                }
            }
        }
        for panel in panels.chunks_exact_mut(steps) {
            panel[inputs.div_ceil(DEPTH)..].fill([0; COLUMNS]);
        }
    }
}

fn packed_product(
    kernel: Kernel,
    left: &[f32],
    right: &PackedPairs,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let [inputs, outputs] = right.sizes;
    let (rows, of_strip) = (left.len() / inputs, kernel.rows());
    let strip_len = of_strip * steps_of(inputs);
    let mut out = buffers::take(rows * outputs);
    let mut strips = Buffer::new(rows.div_ceil(of_strip) * strip_len);
    let strips = bytemuck::cast_slice_mut::<f32, u32>(&mut strips);
    let packing = strips.par_chunks_exact_mut(strip_len).zip(left.par_chunks(of_strip * inputs));
    packing.for_each(|(strip, rows)| kernel.pack(rows, inputs, strip));

    let columns = match rows {
        // Blocks of rows are tasks enough.
        _ if rows > 4 * ROW_BLOCK => COLUMN_BLOCK,
        _ => task_size(outputs, COLUMNS).min(COLUMN_BLOCK),
    };
    let blocks = out.chunks_mut(ROW_BLOCK * outputs);
    let blocks = blocks.zip(strips.chunks(ROW_BLOCK / of_strip * strip_len));
    let tasks: Vec<_> = blocks
        .flat_map(|(out, strips)| {
            let groups = split_columns(out, outputs, columns).into_iter().enumerate();
            groups.map(move |(group, rows)| Task { strips, rows, column: group * columns })
        })
        .collect();
    tasks.into_par_iter().for_each_init(Lines::default, |sums, task| {
        task.run(kernel, right, bias, sums);
    });
    out
}

/// Some rows and columns of a product.
struct Task<'a> {
    strips: &'a [u32],
    /// Each slice has one value for each column.
    rows: Vec<&'a mut [f32]>,
    /// The first column.
    column: usize,
}

impl Task<'_> {
    /// `sums` is reused by the tasks of a thread.
    fn run(
        mut self,
        kernel: Kernel,
        right: &PackedPairs,
        bias: Option<&[f32]>,
        sums: &mut Lines<f32>,
    ) {
        let (of_strip, steps) = (kernel.rows(), steps_of(right.sizes[0]));
        let columns = self.rows.first().map_or(0, |row| row.len());
        let panels: Vec<_> = right.panels(self.column).take(columns.div_ceil(COLUMNS)).collect();
        let strips = self.strips.chunks_exact(of_strip * steps);
        let rows = strips.len() * of_strip;
        let (sums, _) = sums.take(panels.len() * rows * COLUMNS).as_chunks_mut();
        for first in (0..steps).step_by(kernel.depth_block()) {
            let depth = first..steps.min(first + kernel.depth_block());
            let strips: Vec<_> = (strips.clone())
                .map(|strip| &strip[of_strip * depth.start..of_strip * depth.end])
                .collect();
            for (index, sums) in sums.chunks_exact_mut(rows).enumerate() {
                let next = panels.get(index + 1).map_or(&[][..], |panel| &panel[depth.clone()]);
                let panel = &panels[index][depth.clone()];
                kernel.products_before(next, &strips, panel, first > 0, sums);
            }
        }
        let bias = bias.map(|bias| &bias[self.column..]);
        dispatch(WriteSums { sums, stride: rows, bias, rows: &mut self.rows });
    }
}

/// Writes the sums of panels, with `stride` rows each, and a bias to rows.
struct WriteSums<'a, 'b> {
    sums: &'a [Sums],
    stride: usize,
    bias: Option<&'a [f32]>,
    rows: &'a mut [&'b mut [f32]],
}

impl WithSimd for WriteSums<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, row) in self.rows.iter_mut().enumerate() {
            let panels = self.sums[index..].iter().step_by(self.stride).enumerate();
            for ((panel, sums), to) in panels.zip(row.chunks_mut(COLUMNS)) {
                let bias = self.bias.map(|bias| &bias[panel * COLUMNS..]);
                match to.as_chunks_mut::<COLUMNS>().0 {
                    // A length that is known is two registers' width.
                    [to] => Start::Bias(bias).add(sums, to),
                    _ => Start::Bias(bias).add(&sums[..to.len()], to),
                }
            }
        }
    }
}

/// The nearest bf16, as f32.
#[inline(always)]
pub(crate) fn rounded_to_bf16(x: f32) -> f32 {
    f32::from_bits(u32::from(bf16_bits(x)) << 16)
}

#[cfg(test)]
mod tests;
