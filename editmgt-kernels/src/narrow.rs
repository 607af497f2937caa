//! Products whose operands are bf16 and whose sums are f32.
//!
//! Two numbers along the summed dimension are a step of [`crate::blocks`]. Where the processor has
//! no instructions for bf16, the operands are rounded in the same way, and [`crate::product`]
//! multiplies them in f32; then only the order of the sums differs.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::blocks::{self, Block, Panels, ROW_BLOCK, Steps};
use crate::buffers::Buffer;
use crate::intrinsics::{Bf16Dot, Bf16Tiles, COLUMNS, Interleave, RightStep, STEPS};
use crate::lanes::dispatch;
use crate::matrix::Matrix;
use crate::number::bf16_bits;
use crate::product::{self, Right, Start};

/// Numbers of a step.
pub(crate) const PAIR: usize = 2;

/// The instructions for bf16 of a processor. With AMX, Intel's processors have `vdpbf16ps`, too,
/// but it is slower there than products in f32.
pub(crate) type Kernel = blocks::Kernel<Bf16Tiles, Bf16Dot>;

/// Rounds to bf16.
pub(crate) struct Pairs;

impl Steps for Pairs {
    const NUMBERS: usize = PAIR;

    #[inline(always)]
    fn steps(&self, _: usize, row: &[f32], first: usize) -> [u32; STEPS] {
        let mut values = [0.0; PAIR * STEPS];
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
    let packed = match (packed, Kernel::detect()) {
        (Some(packed), _) => packed,
        (None, Some(kernel)) if left.len() / right.sizes()[0] <= ROW_BLOCK => {
            return unpacked_product(kernel, left, right, bias);
        }
        (None, _) => {
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
    Pairs(Kernel, Panels),
    /// For products in f32.
    Widened(product::PackedRight),
}

impl PackedBf16 {
    pub(crate) fn new<M: Matrix>(right: &M) -> Self {
        match Kernel::detect() {
            Some(kernel) => Self::Pairs(kernel, packed_pairs(right)),
            None => Self::Widened(product::PackedRight::new(&Rounded(right))),
        }
    }

    /// The size in memory of a matrix of these sizes once it is packed.
    pub(crate) fn bytes(sizes: [usize; 2]) -> usize {
        match Kernel::detect() {
            Some(_) => Panels::bytes(sizes, PAIR),
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
    blocks::steps_of(inputs, PAIR)
}

/// Packs all of a right matrix, rounded to bf16.
fn packed_pairs<M: Matrix>(right: &M) -> Panels {
    let all = 0..steps_of(right.sizes()[0]);
    Panels::new(right.sizes(), PAIR, |column, panels| {
        let steps = all.clone();
        dispatch(PackPanels { right, column, steps, panels });
    })
}

/// Packs the steps `steps` of the panels of the columns from `column` on; missing columns and rows
/// are 0.
struct PackPanels<'a, M> {
    right: &'a M,
    column: usize,
    steps: Range<usize>,
    panels: &'a mut [RightStep],
}

impl<M: Matrix> WithSimd for PackPanels<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { right, column, steps, panels } = self;
        let [inputs, outputs] = right.sizes();
        let some = steps.start..steps.end.min(inputs.div_ceil(PAIR));
        let interleave = Interleave::detect();
        for step in some.clone() {
            let panels = panels.chunks_exact_mut(steps.len());
            for (panel, column) in panels.zip((column..outputs).step_by(COLUMNS)) {
                let columns = COLUMNS.min(outputs - column);
                let mut halves = [[0; COLUMNS]; PAIR];
                for (row, half) in (step * PAIR..inputs).zip(&mut halves) {
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
                let [low, high] = &halves;
                interleave.write(low, high, &mut panel[step - steps.start]);
            }
        }
        for panel in panels.chunks_exact_mut(steps.len()) {
            panel[some.len()..].fill([0; COLUMNS]);
        }
    }
}

fn packed_product(kernel: Kernel, left: &[f32], right: &Panels, bias: Option<&[f32]>) -> Vec<f32> {
    let right = blocks::Right::Packed(right);
    kernel.product(left, right, |_| Pairs, |block| dispatch(WriteSums { block, bias }))
}

/// [`packed_product`] of a matrix that is packed where it is multiplied.
fn unpacked_product<M: Matrix>(
    kernel: Kernel,
    left: &[f32],
    right: &M,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let pack = |column, steps, panels: &mut [RightStep]| {
        dispatch(PackPanels { right, column, steps, panels });
    };
    let right = blocks::Right::Unpacked { sizes: right.sizes(), pack: &pack };
    kernel.product(left, right, |_| Pairs, |block| dispatch(WriteSums { block, bias }))
}

/// Writes sums and a bias.
struct WriteSums<'a, 'b, 'c> {
    block: Block<'a, 'b, f32>,
    bias: Option<&'c [f32]>,
}

impl WithSimd for WriteSums<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let bias = self.bias.map(|bias| &bias[self.block.column..]);
        for (_, row, panels) in self.block.rows() {
            for ((panel, sums), to) in panels.enumerate().zip(row.chunks_mut(COLUMNS)) {
                let bias = bias.map(|bias| &bias[panel * COLUMNS..]);
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
