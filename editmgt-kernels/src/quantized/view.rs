//! Quantised matrices as right operands of products.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::PANEL;
use crate::block::{BLOCK, WeightBits};
use crate::lanes::dispatch;
use crate::matrix::Matrix;
use crate::tile::RightStep;

/// A quantised right operand: its columns are the rows of the matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuantizedView<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes of a panel.
    pub(super) panel: usize,
    pub(super) bits: WeightBits,
    /// The first input.
    pub(super) first: usize,
    pub(super) rows: usize,
    pub(super) inputs: usize,
}

impl QuantizedView<'_> {
    /// All values, row by row of the matrix.
    pub(super) fn values(&self) -> Vec<f32> {
        let Self { rows, inputs, .. } = *self;
        let mut values = vec![0.0; rows * inputs];
        if inputs > 0 {
            values.par_chunks_mut(PANEL * inputs).enumerate().for_each_init(
                || vec![[0.0; PANEL]; inputs],
                |steps, (index, rows)| {
                    self.expand(index, 0, steps);
                    for (column, row) in rows.chunks_exact_mut(inputs).enumerate() {
                        row.iter_mut().zip(&*steps).for_each(|(to, step)| *to = step[column]);
                    }
                },
            );
        }
        values
    }

    /// Expands the steps from `first` on of the panel `index`, as many as `to` has.
    pub(crate) fn expand(&self, index: usize, first: usize, to: &mut [RightStep]) {
        let panel = &self.bytes[index * self.panel..][..self.panel];
        dispatch(Expand { panel, bits: self.bits, first: self.first + first, to });
    }

    /// The same in the instructions of the caller.
    #[inline(always)]
    fn expand_into(&self, index: usize, first: usize, to: &mut [RightStep]) {
        let panel = &self.bytes[index * self.panel..][..self.panel];
        Expand { panel, bits: self.bits, first: self.first + first, to }.run();
    }
}

impl Matrix for QuantizedView<'_> {
    #[inline(always)]
    fn sizes(&self) -> [usize; 2] {
        [self.inputs, self.rows]
    }

    #[inline(always)]
    fn read(&self, step: usize, first: usize, to: &mut [f32]) {
        let mut column = first;
        let mut rest = to;
        while !rest.is_empty() {
            let (panel, skipped) = (column / PANEL, column % PANEL);
            let count = (PANEL - skipped).min(rest.len());
            let mut line = [[0.0; PANEL]];
            self.expand_into(panel, step, &mut line);
            let (part, others) = rest.split_at_mut(count);
            part.copy_from_slice(&line[0][skipped..][..count]);
            column += count;
            rest = others;
        }
    }

    #[inline(always)]
    fn pack(&self, first: usize, column: usize, panel: &mut [RightStep]) {
        debug_assert_eq!(column % PANEL, 0);
        self.expand(column / PANEL, first, panel);
    }
}

/// The steps from `first` on of a panel.
struct Expand<'a, 'b> {
    panel: &'a [u8],
    bits: WeightBits,
    first: usize,
    to: &'b mut [RightStep],
}

impl WithSimd for Expand<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.run();
    }
}

impl Expand<'_, '_> {
    #[inline(always)]
    fn run(self) {
        let Self { panel, bits, first, mut to } = self;
        let blocks = panel.chunks_exact(bits.panel_block()).skip(first / BLOCK);
        let mut skipped = first % BLOCK;
        for block in blocks {
            if to.is_empty() {
                break;
            }
            let steps = (BLOCK - skipped).min(to.len());
            let (part, rest) = std::mem::take(&mut to).split_at_mut(steps);
            let (scales, values) = block.split_at(2 * PANEL);
            let scales = scales_of(scales);
            let (lines, _) = values.as_chunks::<PANEL>();
            for (to, step) in part.iter_mut().zip(skipped..) {
                match bits {
                    WeightBits::Eight => expand_eight(&lines[step], &scales, to),
                    WeightBits::Four if step < BLOCK / 2 => {
                        expand_four(&lines[step], 0, &scales, to);
                    }
                    WeightBits::Four => expand_four(&lines[step - BLOCK / 2], 4, &scales, to),
                }
            }
            to = rest;
            skipped = 0;
        }
    }
}

#[inline(always)]
fn scales_of(bytes: &[u8]) -> RightStep {
    let (bytes, _) = bytes.as_chunks::<2>();
    let mut scales = [0.0; PANEL];
    for (scale, bytes) in scales.iter_mut().zip(bytes) {
        *scale = widened(u16::from_le_bytes(*bytes));
    }
    scales
}

/// The finite f16 of these bits. In integer operations that vectorise: `half` converts single
/// values by a call that checks the processor.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    // The exponent moves from a bias of 15 to one of 127 by a product, which is exact for subnormal
    // numbers, too.
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | sign)
}

#[inline(always)]
fn expand_eight(values: &[u8; PANEL], scales: &RightStep, to: &mut RightStep) {
    for ((to, &value), &scale) in to.iter_mut().zip(values).zip(scales) {
        *to = scale * f32::from(value.cast_signed());
    }
}

#[inline(always)]
fn expand_four(values: &[u8; PANEL], shift: u32, scales: &RightStep, to: &mut RightStep) {
    for ((to, &value), &scale) in to.iter_mut().zip(values).zip(scales) {
        *to = scale * ((i32::from(value) >> shift & 15) - 8) as f32;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::f16;

    use super::*;

    #[test]
    fn f16_scales_are_widened_exactly() {
        for bits in (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()) {
            assert_eq!(widened(bits).to_bits(), f16::from_bits(bits).to_f32().to_bits());
        }
    }
}
