//! Products whose operands are int8 and whose sums are i32.
//!
//! A number is `scale · q` with a `q` from -127 to 127: the scale of a left operand is that of its
//! row, that of a right one of its column, the largest magnitude there divided by 127. So sums are
//! exact, and a result is the sum times two scales:
//!
//! ```text
//! y[r, c] = bias[c] + scale[r] · scale[c] · Σ q[r, i] · q[i, c]
//! ```
//!
//! Four numbers along the summed dimension are a step of [`crate::blocks`]. Where the processor has
//! no instructions for int8, [`crate::product`] multiplies the integers in f32.
//!
//! One large number in a row makes the steps of all others coarse. Such rows ([`LEAST_MEAN`]) are
//! multiplied in bf16.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::blocks::{self, Block, Panels, Steps};
use crate::buffers::Buffer;
use crate::intrinsics::{COLUMNS, Int8Dot, Int8Tiles, RightStep, STEPS};
use crate::lanes::{dispatch, sum};
use crate::matrix::Matrix;
use crate::product::{self, Right};

/// Numbers of a step.
const DEPTH: usize = 4;
/// The largest `q`.
const LARGEST: f32 = 127.0;
/// Numbers whose maxima are independent.
const LANES: usize = 16;
/// The mean magnitude of a row's integers, at least. The mean magnitude of an error is 1/4: 5% of
/// the smallest mean, and 0.8% of that of 1,024 numbers of a normal distribution.
const LEAST_MEAN: f32 = 5.0;

/// The instructions for int8 of a processor.
type Kernel = blocks::Kernel<Int8Tiles, Int8Dot>;

/// What [`Int8Dot`] adds to the numbers of the left operand, which it takes for unsigned.
fn offset(kernel: Kernel) -> u8 {
    match kernel {
        Kernel::Tiles(_) => 0,
        Kernel::Dot(_) => 128,
    }
}

/// The scales of the rows of a left operand.
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    /// Those of `[rows, inputs]`.
    pub(crate) fn new(left: &[f32], inputs: usize) -> Self {
        Self(left.par_chunks_exact(inputs).map(|row| dispatch(ScaleOfRow(row))).collect())
    }

    /// Whether no row is multiplied in int8.
    pub(crate) fn are_peaked(&self) -> bool {
        self.0.iter().all(|row| row.is_peaked)
    }
}

/// `left · right + bias` of operands that are rounded to int8; `rows` are those of `left`.
/// `in_bf16` is the product of rows with a peak, `[rows, inputs]` to `[rows, outputs]`.
///
/// A row's result depends neither on the other rows nor on the number of columns and threads.
pub(crate) fn product<M: Matrix>(
    left: &[f32],
    Rows(rows): &Rows,
    right: &M,
    packed: Option<&PackedInt8>,
    bias: Option<&[f32]>,
    in_bf16: impl FnOnce(&[f32]) -> Vec<f32>,
) -> Vec<f32> {
    let [inputs, outputs] = right.sizes();
    let peaked: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].is_peaked).collect();
    let new;
    let packed = match packed {
        Some(packed) => packed,
        None => {
            new = PackedInt8::new(right);
            &new
        }
    };
    let mut out = packed.product(left, right, rows, bias);
    if !peaked.is_empty() {
        let left: Vec<f32> =
            peaked.iter().flat_map(|row| &left[row * inputs..][..inputs]).copied().collect();
        for (row, exact) in peaked.into_iter().zip(in_bf16(&left).chunks_exact(outputs)) {
            out[row * outputs..][..outputs].copy_from_slice(exact);
        }
    }
    out
}

/// The largest magnitude of some numbers; NaN or infinity if one of them is.
#[derive(Debug, Clone, Copy, Default)]
struct Largest(u32);

impl Largest {
    /// Without a sign, floats are ordered as their bits are, NaN last.
    #[inline(always)]
    fn with(self, x: f32) -> Self {
        Self(self.0.max(x.abs().to_bits()))
    }

    /// `x / scale` is at most [`LARGEST`]. NaN if the magnitude isn't finite.
    #[inline(always)]
    fn scale(self) -> f32 {
        let largest = f32::from_bits(self.0);
        if largest.is_finite() { largest / LARGEST } else { f32::NAN }
    }
}

/// What a row is multiplied with to become integers: 0 for a row of zeros, or one that isn't
/// finite.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    // The quotient is infinite for a denormal scale.
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The nearest integer of a magnitude below 2^21, of two as near the even one, in the lowest bits.
#[inline(always)]
fn integer_bits(x: f32) -> u32 {
    /// Added to a small number, it leaves the nearest integer in the last bits.
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits()
}

/// The scale of a row of the left operand.
#[derive(Debug, Clone, Copy)]
struct Row {
    scale: f32,
    is_peaked: bool,
}

/// Computes [`Row`].
struct ScaleOfRow<'a>(&'a [f32]);

impl WithSimd for ScaleOfRow<'_> {
    type Output = Row;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Row {
        let mut lanes = [Largest::default(); LANES];
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        for block in blocks {
            lanes.iter_mut().zip(block).for_each(|(lane, &x)| *lane = lane.with(x));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane = lane.with(x));
        let bits = lanes.into_iter().map(|lane| lane.0).max();
        let scale = Largest(bits.unwrap_or_default()).scale();
        // A row of zeros, and one that isn't finite, has none.
        let inverse = inverse(scale);
        let mean = sum(self.0, |x| (x * inverse).abs()) / self.0.len() as f32;
        Row { scale, is_peaked: inverse > 0.0 && mean < LEAST_MEAN }
    }
}

/// Rounds rows to integers.
struct Quads<'a> {
    rows: &'a [Row],
    offset: u8,
}

impl Steps for Quads<'_> {
    const NUMBERS: usize = DEPTH;

    #[inline(always)]
    fn steps(&self, index: usize, row: &[f32], first: usize) -> [u32; STEPS] {
        let mut values = [0.0; DEPTH * STEPS];
        match row.get(first..).and_then(|row| row.first_chunk()) {
            Some(all) => values = *all,
            None => {
                let rest = &row[first.min(row.len())..];
                values[..rest.len()].copy_from_slice(rest);
            }
        }
        let inverse = inverse(self.rows[index].scale);
        let mut steps = [0; STEPS];
        for (step, values) in steps.iter_mut().zip(values.as_chunks::<DEPTH>().0) {
            let [a, b, c, d] = values.map(|x| integer_bits(x * inverse) & 0xff);
            *step = (a | b << 8 | c << 16 | d << 24) ^ (u32::from(self.offset) * 0x0101_0101);
        }
        steps
    }
}

/// A right matrix, rounded to int8 and packed for any number of products.
#[derive(Debug)]
pub(crate) struct PackedInt8 {
    form: Form,
    /// Of each column.
    scales: Vec<f32>,
}

#[derive(Debug)]
enum Form {
    /// For the processor's instructions, with the sum of each column.
    Quads(Kernel, Panels, Vec<i32>),
    /// For products in f32.
    Widened(product::PackedRight),
}

impl PackedInt8 {
    pub(crate) fn new<M: Matrix>(right: &M) -> Self {
        Self::with(Kernel::detect(), right)
    }

    fn with<M: Matrix>(kernel: Option<Kernel>, right: &M) -> Self {
        let [_, outputs] = right.sizes();
        let mut scales = vec![0.0; outputs];
        scales.par_chunks_mut(COLUMNS).enumerate().for_each(|(index, scales)| {
            dispatch(ScalesOfColumns { right, column: index * COLUMNS, scales });
        });
        let form = match kernel {
            Some(kernel) => {
                let panels = Panels::new(right.sizes(), DEPTH, |column, panels| {
                    dispatch(PackPanels { right, column, scales: &scales[column..], panels });
                });
                let mut sums = vec![0; outputs];
                sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(index, sums)| {
                    dispatch(SumColumns { panel: panels.panel(index), sums });
                });
                Form::Quads(kernel, panels, sums)
            }
            None => Form::Widened(product::PackedRight::new(&Integers { right, scales: &scales })),
        };
        Self { form, scales }
    }

    /// The size in memory of a matrix of these sizes once it is packed.
    pub(crate) fn bytes(sizes @ [_, outputs]: [usize; 2]) -> usize {
        let of_columns = outputs * size_of::<f32>();
        match Kernel::detect() {
            Some(_) => Panels::bytes(sizes, DEPTH) + 2 * of_columns,
            None => product::PackedRight::bytes(sizes) + of_columns,
        }
    }

    fn product<M: Matrix>(
        &self,
        left: &[f32],
        right: &M,
        rows: &[Row],
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let scales = &self.scales;
        match &self.form {
            Form::Quads(kernel, panels, sums) => {
                let offset = offset(*kernel);
                let numbers = |first: usize| Quads { rows: &rows[first..], offset };
                kernel.product(left, blocks::Right::Packed(panels), numbers, |block| {
                    dispatch(WriteSums { block, rows, scales, sums, offset, bias });
                })
            }
            Form::Widened(packed) => {
                let inputs = right.sizes()[0];
                let mut integers = Buffer::new(left.len());
                integers
                    .par_chunks_exact_mut(inputs)
                    .zip(left.par_chunks_exact(inputs))
                    .zip(rows)
                    .for_each(|((to, from), row)| dispatch(Round { from, scale: row.scale, to }));
                let right = Right {
                    matrix: &Integers { right, scales: &self.scales },
                    packed: Some(packed),
                };
                let mut out = product::product_of(&integers, right, None);
                out.par_chunks_exact_mut(scales.len())
                    .zip(rows)
                    .for_each(|(out, row)| dispatch(Scale { out, scale: row.scale, scales, bias }));
                out
            }
        }
    }
}

/// Computes the scales of up to [`COLUMNS`] columns.
struct ScalesOfColumns<'a, M> {
    right: &'a M,
    column: usize,
    scales: &'a mut [f32],
}

impl<M: Matrix> WithSimd for ScalesOfColumns<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { right, column, scales } = self;
        let [inputs, _] = right.sizes();
        let mut largest = [Largest::default(); COLUMNS];
        let mut values = [0.0; COLUMNS];
        for row in 0..inputs {
            if scales.len() == COLUMNS {
                // A length that is known is two registers' width.
                right.read(row, column, &mut values);
            } else {
                right.read(row, column, &mut values[..scales.len()]);
            }
            largest.iter_mut().zip(values).for_each(|(largest, x)| *largest = largest.with(x));
        }
        for (scale, largest) in scales.iter_mut().zip(largest) {
            *scale = largest.scale();
        }
    }
}

/// Packs panels of the columns from `column` on, whose scales are the first ones; missing columns
/// and rows are 0.
struct PackPanels<'a, M> {
    right: &'a M,
    column: usize,
    scales: &'a [f32],
    panels: &'a mut [RightStep],
}

impl<M: Matrix> WithSimd for PackPanels<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { right, column, scales, panels } = self;
        let [inputs, outputs] = right.sizes();
        let steps = blocks::steps_of(inputs, DEPTH);
        let columns = (column..outputs).step_by(COLUMNS).zip(scales.chunks(COLUMNS));
        for (panel, (column, scales)) in panels.chunks_exact_mut(steps).zip(columns) {
            let mut inverses = [0.0; COLUMNS];
            inverses.iter_mut().zip(scales).for_each(|(to, &scale)| *to = inverse(scale));
            let mut values = [0.0; COLUMNS];
            for (step, to) in panel.iter_mut().enumerate() {
                *to = [0; COLUMNS];
                for (place, row) in (step * DEPTH..inputs).take(DEPTH).enumerate() {
                    if scales.len() == COLUMNS {
                        right.read(row, column, &mut values);
                    } else {
                        right.read(row, column, &mut values[..scales.len()]);
                    }
                    for ((to, x), inverse) in to.iter_mut().zip(values).zip(inverses) {
                        *to |= (integer_bits(x * inverse) & 0xff) << (8 * place);
                    }
                }
            }
        }
    }
}

/// Sums the integers of the columns of a panel.
struct SumColumns<'a> {
    panel: &'a [RightStep],
    sums: &'a mut [i32],
}

impl WithSimd for SumColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut sums = [0; COLUMNS];
        for step in self.panel {
            for (sum, quad) in sums.iter_mut().zip(step) {
                *sum += quad
                    .to_le_bytes()
                    .map(|byte| i32::from(byte.cast_signed()))
                    .iter()
                    .sum::<i32>();
            }
        }
        self.sums.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum);
    }
}

/// Writes sums, scaled, and a bias.
struct WriteSums<'a, 'b, 'c> {
    block: Block<'a, 'b, i32>,
    rows: &'c [Row],
    /// Of all columns: their scales, and the sums of their integers.
    scales: &'c [f32],
    sums: &'c [i32],
    offset: u8,
    bias: Option<&'c [f32]>,
}

impl WithSimd for WriteSums<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let first = self.block.column;
        let (scales, column_sums) = (&self.scales[first..], &self.sums[first..]);
        let bias = self.bias.map(|bias| &bias[first..]);
        for (index, row, panels) in self.block.rows() {
            let scale = self.rows[index].scale;
            for ((panel, sums), to) in panels.enumerate().zip(row.chunks_mut(COLUMNS)) {
                let column = panel * COLUMNS;
                let of_columns = scales[column..].iter().zip(&column_sums[column..]);
                for ((to, sum), (of_column, column_sum)) in to.iter_mut().zip(sums).zip(of_columns)
                {
                    let sum = sum.wrapping_sub(i32::from(self.offset).wrapping_mul(*column_sum));
                    *to = sum as f32 * (scale * of_column);
                }
                if let Some(bias) = bias {
                    to.iter_mut().zip(&bias[column..]).for_each(|(to, bias)| *to += bias);
                }
            }
        }
    }
}

/// Rounds a row to integers, in f32.
struct Round<'a> {
    from: &'a [f32],
    scale: f32,
    to: &'a mut [f32],
}

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let inverse = inverse(self.scale);
        for (to, &x) in self.to.iter_mut().zip(self.from) {
            *to = integer(x * inverse);
        }
    }
}

/// The nearest integer, as f32: what [`integer_bits`] has in its lowest byte.
#[inline(always)]
fn integer(x: f32) -> f32 {
    f32::from((integer_bits(x) & 0xff).to_le_bytes()[0].cast_signed())
}

/// Scales a row of sums, and adds a bias.
struct Scale<'a> {
    out: &'a mut [f32],
    scale: f32,
    scales: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl WithSimd for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, of_column) in self.out.iter_mut().zip(self.scales) {
            *out *= self.scale * of_column;
        }
        if let Some(bias) = self.bias {
            self.out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// A matrix with every value divided by the scale of its column and rounded.
struct Integers<'a, M> {
    right: &'a M,
    scales: &'a [f32],
}

impl<M: Matrix> Matrix for Integers<'_, M> {
    #[inline(always)]
    fn sizes(&self) -> [usize; 2] {
        self.right.sizes()
    }

    #[inline(always)]
    fn read(&self, step: usize, first: usize, to: &mut [f32]) {
        self.right.read(step, first, to);
        for (x, &scale) in to.iter_mut().zip(&self.scales[first..]) {
            *x = integer(*x * inverse(scale));
        }
    }
}

#[cfg(test)]
mod tests;
