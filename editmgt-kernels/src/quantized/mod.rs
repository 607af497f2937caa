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

mod matrix;
mod view;

use burn::nn::Embedding;
use burn::tensor::quantization::{BlockSize, QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

pub use matrix::{QuantizedMatrix, RowGroup};
pub(crate) use view::QuantizedView;

use crate::block::{BLOCK, WeightBits};
use crate::host::{Packed, on_flex};
use crate::tile::COLUMNS;

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
mod tests;
