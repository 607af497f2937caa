//! Matrices of 8 or 4 bits a value, in blocks that share a scale.
//!
//! burn's own quantised tensors take a byte a value on the flex backend and f32 scales, whatever
//! their scheme, and are expanded whole for a product. Here values are packed, scales are f16, and
//! products expand a panel at a time.
//!
//! In memory a matrix is cut into *panels* of 16 rows, and each panel into blocks of 32 inputs: 16
//! scales, then the values, input by input. It is carried by a tensor of the matrix's shape whose
//! dtype is the scheme ([`DType::QFloat`]). burn's own operations refuse such a tensor; [`linear`],
//! [`embed`], [`narrow_inputs`] and [`dequantize`] read it.
//!
//! [`linear`]: crate::linear

use burn::nn::Embedding;
use burn::tensor::quantization::{BlockSize, QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::block::{BLOCK, Block, WeightBits};
use crate::host::{Packed, on_flex};
use crate::lanes::dispatch;
use crate::matrix::Matrix;
use crate::tile::{COLUMNS, RightStep};

/// Rows of a panel.
const PANEL: usize = COLUMNS;

impl WeightBits {
    /// Bytes of a matrix of `rows` rows of `inputs` values in memory.
    pub fn bytes(self, rows: usize, inputs: usize) -> usize {
        rows.div_ceil(PANEL) * inputs.div_ceil(BLOCK) * self.panel_block()
    }

    /// Bytes of a block of a panel: scales and values.
    fn panel_block(self) -> usize {
        PANEL * (2 + BLOCK * usize::from(self.count()) / 8)
    }

    fn scheme(self, block: [u8; 2]) -> QuantScheme {
        let value = match self {
            Self::Eight => QuantValue::Q8S,
            Self::Four => QuantValue::Q4S,
        };
        QuantScheme::default()
            .with_value(value)
            .with_store(QuantStore::Native)
            .per_block(block, ScaleDtype::F16)
    }
}

/// A quantised matrix that is being filled, row by row.
#[derive(Debug)]
pub struct QuantizedMatrix {
    bits: WeightBits,
    rows: usize,
    inputs: usize,
    bytes: Vec<u8>,
}

/// Up to 16 consecutive rows of a [`QuantizedMatrix`]; several can be filled in parallel.
#[derive(Debug)]
pub struct RowGroup<'a> {
    bits: WeightBits,
    bytes: &'a mut [u8],
    /// Index of its first row.
    pub first: usize,
    /// Number of its rows.
    pub rows: usize,
}

impl QuantizedMatrix {
    /// A matrix of zeros with `rows` rows of `inputs` values.
    pub fn zeros(bits: WeightBits, rows: usize, inputs: usize) -> Self {
        let mut bytes = vec![0; bits.bytes(rows, inputs)];
        if bits == WeightBits::Four {
            // Zero is stored as 8.
            for block in bytes.chunks_exact_mut(bits.panel_block()) {
                block[2 * PANEL..].fill(0x88);
            }
        }
        Self { bits, rows, inputs, bytes }
    }

    /// All rows, in groups that don't share memory.
    pub fn groups(&mut self) -> Vec<RowGroup<'_>> {
        let Self { bits, rows, inputs, ref mut bytes } = *self;
        let size = bits.bytes(1, inputs);
        if size == 0 {
            return Vec::new();
        }
        let panels = bytes.chunks_exact_mut(size).enumerate();
        let group = |(index, bytes)| {
            let first = index * PANEL;
            RowGroup { bits, bytes, first, rows: PANEL.min(rows - first) }
        };
        panels.map(group).collect()
    }

    /// `[rows, inputs]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.inputs]
    }

    /// All values, row by row.
    pub fn values(&self) -> Vec<f32> {
        let panels = self.rows.div_ceil(PANEL).max(1);
        let Self { bits, rows, inputs, ref bytes } = *self;
        let panel = bytes.len() / panels;
        QuantizedView { bytes, panel, bits, first: 0, rows, inputs }.values()
    }

    /// The weight of a linear layer, `[inputs, rows]`: the rows are its outputs.
    ///
    /// # Panics
    /// On a device where [`reads_quantized`] is false.
    pub fn into_linear_weight(self, device: &Device) -> Tensor<2> {
        let shape = [self.inputs, self.rows];
        self.into_tensor([BLOCK as u8, 1], shape, device)
    }

    /// An embedding table, `[rows, inputs]`.
    ///
    /// # Panics
    /// On a device where [`reads_quantized`] is false.
    pub fn into_table(self, device: &Device) -> Tensor<2> {
        let shape = [self.rows, self.inputs];
        self.into_tensor([1, BLOCK as u8], shape, device)
    }

    fn into_tensor(self, block: [u8; 2], shape: [usize; 2], device: &Device) -> Tensor<2> {
        assert!(reads_quantized(device), "quantised weights are on the flex backend only");
        Packed::tensor(self.bytes, shape, DType::QFloat(self.bits.scheme(block)))
    }
}

impl RowGroup<'_> {
    /// Sets the block `index` of the row `row` of the group.
    ///
    /// # Panics
    /// For a row or a block that the group doesn't have.
    pub fn set(&mut self, row: usize, index: usize, block: &Block) {
        assert!(row < self.rows, "row {row} of a group of {}", self.rows);
        let size = self.bits.panel_block();
        let (scales, values) = self.bytes[index * size..][..size].split_at_mut(2 * PANEL);
        scales[2 * row..][..2].copy_from_slice(&block.scale.to_le_bytes());
        let column = values.iter_mut().skip(row).step_by(PANEL);
        match self.bits {
            WeightBits::Eight => {
                column.zip(block.values).for_each(|(to, value)| *to = value.cast_unsigned());
            }
            WeightBits::Four => {
                let (low, high) = block.values.split_at(BLOCK / 2);
                let nibble = |value: i8| (value + 8).cast_unsigned() & 15;
                for ((to, &low), &high) in column.zip(low).zip(high) {
                    *to = nibble(low) | nibble(high) << 4;
                }
            }
        }
    }
}

/// Whether weights stay quantised in the memory of this device: [`linear`](crate::linear) and
/// [`embed`] read them as they are.
pub fn reads_quantized(device: &Device) -> bool {
    on_flex(device)
}

/// The bits of a quantised tensor of this crate; `None` for any other tensor.
pub fn quantized_bits<const D: usize>(weight: &Tensor<D>) -> Option<WeightBits> {
    layout_of(weight).map(|(bits, _)| bits)
}

/// The dtype of [`dequantize`]d values.
pub fn dequantized_dtype<const D: usize>(weight: &Tensor<D>) -> DType {
    quantized_bits(weight).map_or_else(|| weight.dtype(), |_| DType::F32)
}

/// The bits, and whether the tensor is an embedding table.
fn layout_of<const D: usize>(weight: &Tensor<D>) -> Option<(WeightBits, bool)> {
    let DType::QFloat(scheme) = weight.dtype() else { return None };
    let bits = match scheme.value {
        QuantValue::Q8S => WeightBits::Eight,
        QuantValue::Q4S => WeightBits::Four,
        _ => return None,
    };
    let table = scheme.block_size() == Some(BlockSize::new([1, BLOCK as u8]));
    on_flex(&weight.device()).then_some((bits, table))
}

/// Borrows quantised matrices.
#[derive(Debug, Clone)]
pub(crate) struct QuantizedTensor {
    bytes: Packed,
    bits: WeightBits,
    table: bool,
    rows: usize,
    inputs: usize,
}

impl QuantizedTensor {
    /// `None` for a tensor that isn't quantised.
    pub(crate) fn of<const D: usize>(weight: &Tensor<D>) -> Option<Self> {
        let (bits, table) = layout_of(weight)?;
        let dims: [usize; 2] = weight.dims().as_slice().try_into().ok()?;
        let [inputs, rows] = match (dims, table) {
            ([rows, inputs], true) => [inputs, rows],
            (dims, false) => dims,
        };
        Some(Self { bytes: Packed::of(weight.clone()), bits, table, rows, inputs })
    }

    pub(crate) fn view(&self) -> QuantizedView<'_> {
        let bytes = self.bytes.bytes();
        let panels = self.rows.div_ceil(PANEL).max(1);
        let Self { bits, rows, inputs, .. } = *self;
        let (panel, first) = (bytes.len() / panels, self.bytes.start());
        QuantizedView { bytes, panel, bits, first, rows, inputs }
    }
}

/// A quantised right operand: its columns are the rows of the matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuantizedView<'a> {
    bytes: &'a [u8],
    /// Bytes of a panel.
    panel: usize,
    bits: WeightBits,
    /// The first input.
    first: usize,
    rows: usize,
    inputs: usize,
}

impl QuantizedView<'_> {
    /// All values, row by row of the matrix.
    fn values(&self) -> Vec<f32> {
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

/// The finite f16 of these bits. In integer operations that vectorise: `half` converts single values
/// by a call that checks the processor.
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

/// The rows `start..start + count` of a linear weight `[inputs, outputs]`, for these inputs only;
/// quantised where the weight is.
///
/// # Shapes
/// `[inputs, outputs]` to `[count, outputs]`.
pub fn narrow_inputs(weight: Tensor<2>, start: usize, count: usize) -> Tensor<2> {
    match layout_of(&weight) {
        Some((_, false)) => Packed::narrow(weight, start, count),
        _ => weight.narrow(0, start, count),
    }
}

/// The values of a quantised tensor in f32; any other tensor as it is.
///
/// # Shapes
/// Any to the same.
pub fn dequantize<const D: usize>(weight: Tensor<D>) -> Tensor<D> {
    let Some(quantized) = QuantizedTensor::of(&weight) else { return weight };
    let (device, dims) = (weight.device(), weight.dims());
    let QuantizedTensor { rows, inputs, table, .. } = quantized;
    let values = quantized.view().values();
    let matrix = Tensor::<2>::from_data(TensorData::new(values, [rows, inputs]), &device);
    let matrix = if table { matrix } else { matrix.transpose() };
    matrix.reshape(dims)
}

/// The rows of an embedding table for `ids`. Of a quantised table only these rows are expanded, to
/// f32.
///
/// # Shapes
/// `[B, N]` to `[B, N, D]`; ids must be below the number of rows.
pub fn embed(embedding: &Embedding, ids: Tensor<2, Int>) -> Tensor<3> {
    let table = embedding.weight.val();
    let Some(quantized) = QuantizedTensor::of(&table) else { return embedding.forward(ids) };
    let ([batch, length], device) = (ids.dims(), table.device());
    let QuantizedTensor { rows, inputs, .. } = quantized;
    let view = quantized.view();
    let mut values = vec![0.0; batch * length * inputs];
    let mut steps = vec![[0.0; PANEL]; inputs];
    let ids = ids.into_data();
    for (id, to) in ids.iter::<i64>().zip(values.chunks_exact_mut(inputs.max(1))) {
        let row = usize::try_from(id).ok().filter(|&row| row < rows);
        let row = row.expect("callers check ids against the table");
        view.expand(row / PANEL, 0, &mut steps);
        to.iter_mut().zip(&steps).for_each(|(to, step)| *to = step[row % PANEL]);
    }
    Tensor::from_data(TensorData::new(values, [batch, length, inputs]), &device)
}

#[cfg(test)]
mod tests {
    use burn::nn::EmbeddingConfig;
    use burn::tensor::f16;

    use super::*;
    use crate::linear;
    use crate::testing::{random, worst};

    const BITS: [WeightBits; 2] = [WeightBits::Eight, WeightBits::Four];

    /// `[rows, inputs]`, quantised.
    fn quantized(values: &[f32], inputs: usize, bits: WeightBits) -> QuantizedMatrix {
        let mut matrix = QuantizedMatrix::zeros(bits, values.len() / inputs, inputs);
        for mut group in matrix.groups() {
            for row in 0..group.rows {
                let values = &values[(group.first + row) * inputs..][..inputs];
                for (index, values) in values.chunks(BLOCK).enumerate() {
                    group.set(row, index, &Block::quantize(values, bits).unwrap());
                }
            }
        }
        matrix
    }

    fn host(x: Tensor<2>) -> Vec<f32> {
        x.try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn f16_scales_are_widened_exactly() {
        for bits in (0..=u16::MAX).filter(|&bits| f16::from_bits(bits).is_finite()) {
            assert_eq!(widened(bits).to_bits(), f16::from_bits(bits).to_f32().to_bits());
        }
    }

    const SHAPES: [[usize; 2]; 9] =
        [[1, 1], [1, 33], [3, 32], [16, 31], [17, 64], [40, 65], [90, 544], [128, 1100], [33, 100]];

    #[test]
    fn values_are_those_of_their_blocks() {
        for [rows, inputs] in SHAPES {
            let values = host(random([rows, inputs], 3));
            for bits in BITS {
                let matrix = quantized(&values, inputs, bits);
                assert_eq!(matrix.shape(), [rows, inputs]);
                let expected: Vec<f32> = values
                    .chunks(inputs)
                    .flat_map(|row| row.chunks(BLOCK))
                    .flat_map(|values| {
                        let block = Block::quantize(values, bits).unwrap();
                        (0..values.len()).map(move |index| block.value(index))
                    })
                    .collect();
                let what = format!("{rows}x{inputs} in {bits}");
                assert!(matrix.values() == expected, "{what}");
                let device = Device::flex();
                let table = quantized(&values, inputs, bits).into_table(&device);
                assert_eq!(table.dims(), [rows, inputs]);
                assert!(host(dequantize(table)) == expected, "{what}");
                let weight = matrix.into_linear_weight(&device);
                assert_eq!((weight.dims(), quantized_bits(&weight)), ([inputs, rows], Some(bits)));
                assert!(host(dequantize(weight).transpose()) == expected, "{what}");
            }
        }
    }

    #[test]
    fn products_equal_those_of_expanded_weights_bit_for_bit() {
        let device = Device::flex();
        for [outputs, inputs] in SHAPES {
            let values = host(random([outputs, inputs], 5));
            for bits in BITS {
                let weight = quantized(&values, inputs, bits).into_linear_weight(&device);
                let expanded = dequantize(weight.clone());
                for rows in [1, 2, 4, 7, 150, 300] {
                    let x = random([rows, inputs], 11);
                    for bias in [None, Some(random([outputs], 12))] {
                        let expected = linear(x.clone(), expanded.clone(), bias.clone());
                        let got = linear(x.clone(), weight.clone(), bias);
                        let what = format!("{rows} rows, {inputs} to {outputs}, {bits}");
                        assert_eq!(worst(got, expected), 0.0, "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn narrowed_inputs_need_not_begin_a_block() {
        let (outputs, inputs) = (35, 700);
        let values = host(random([outputs, inputs], 5));
        for bits in BITS {
            let weight = quantized(&values, inputs, bits).into_linear_weight(&Device::flex());
            let expanded = dequantize(weight.clone());
            for (start, count) in [(0, 32), (16, 40), (33, 667), (64, 1), (699, 1)] {
                let part = narrow_inputs(weight.clone(), start, count);
                let expected = expanded.clone().narrow(0, start, count);
                assert_eq!(worst(dequantize(part.clone()), expected.clone()), 0.0);
                let again = narrow_inputs(part.clone(), 0, 1);
                assert_eq!(worst(dequantize(again), expected.clone().narrow(0, 0, 1)), 0.0);
                let x = random([5, count], 1);
                assert_eq!(worst(linear(x.clone(), part, None), linear(x, expected, None)), 0.0);
            }
        }
    }

    #[test]
    fn half_precision_inputs_and_empty_inputs_work() {
        let values = host(random([20, 50], 5));
        let weight = quantized(&values, 50, WeightBits::Eight).into_linear_weight(&Device::flex());
        let expanded = dequantize(weight.clone());
        let x = random([6, 50], 2).cast(DType::BF16);
        let expected = linear(x.clone().cast(DType::F32), expanded, None).cast(DType::BF16);
        let got = linear(x.clone(), weight.clone(), None);
        assert_eq!(got.dtype(), DType::BF16);
        assert_eq!(worst(got.cast(DType::F32), expected.cast(DType::F32)), 0.0);
        assert_eq!(linear(x.slice(0..0), weight, None).dims(), [0, 20]);
    }

    #[test]
    fn embed_reads_the_rows_of_ids() {
        let device = Device::flex();
        let values = host(random([50, 45], 5));
        let mut embedding = EmbeddingConfig::new(50, 45).init(&device);
        let ids = Tensor::<2, Int>::from_data([[0, 49, 17], [3, 3, 32]], &device);
        for bits in BITS {
            let table = quantized(&values, 45, bits).into_table(&device);
            embedding.weight = embedding.weight.map(|_| dequantize(table.clone()));
            let expected = embed(&embedding, ids.clone());
            embedding.weight = embedding.weight.map(|_| table);
            assert_eq!(worst(embed(&embedding, ids.clone()), expected), 0.0);
        }
    }
}
