//! Quantised matrices that are filled row by row.

use burn::tensor::{DType, Device, Tensor};

use super::{PANEL, QuantizedView, reads_quantized};
use crate::block::{BLOCK, Block, WeightBits};
use crate::host::Packed;

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
