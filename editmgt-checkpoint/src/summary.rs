//! Sizes of a checkpoint, from its headers.

use std::collections::BTreeMap;
use std::iter::Sum;

use burn::tensor::DType;
use serde::Serialize;

use crate::quantization::{SCALE_SUFFIX, is_quantized, scale_key};
use crate::{CheckpointError, FileDtype, WeightBits, WeightFiles};

/// The sizes of the weights of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ComponentSummary {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values in all tensors.
    pub parameters: u64,
    /// The same by element type.
    pub dtypes: BTreeMap<FileDtype, DtypeCount>,
    /// Number of safetensors files.
    pub files: usize,
    /// Their length in bytes.
    pub bytes_on_disk: u64,
    /// Bytes of the weights in memory with matrices in 8 bits, and all others in f32. An estimate:
    /// matrices that are not of linear layers count, too.
    pub memory_8_bits: u64,
    /// The same in 4 bits.
    pub memory_4_bits: u64,
}

/// The tensors of one element type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DtypeCount {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values.
    pub parameters: u64,
}

impl ComponentSummary {
    /// Bytes of the weights in memory as `dtype`, without activations.
    pub fn memory(&self, dtype: DType) -> u64 {
        self.parameters * dtype.size() as u64
    }

    /// Bytes of the weights in memory with matrices in `bits`, without activations.
    pub fn memory_quantized(&self, bits: WeightBits) -> u64 {
        match bits {
            WeightBits::Eight => self.memory_8_bits,
            WeightBits::Four => self.memory_4_bits,
        }
    }
}

impl<'a> Sum<&'a Self> for ComponentSummary {
    /// The sizes of several components together.
    fn sum<I: Iterator<Item = &'a Self>>(summaries: I) -> Self {
        let mut total = Self::default();
        for summary in summaries {
            total.tensors += summary.tensors;
            total.parameters += summary.parameters;
            total.files += summary.files;
            total.bytes_on_disk += summary.bytes_on_disk;
            total.memory_8_bits += summary.memory_8_bits;
            total.memory_4_bits += summary.memory_4_bits;
            for (dtype, count) in &summary.dtypes {
                let sum = total.dtypes.entry(*dtype).or_default();
                sum.tensors += count.tensors;
                sum.parameters += count.parameters;
            }
        }
        total
    }
}

impl WeightFiles {
    /// The sizes of the weights. Reads no tensor data. A quantised weight counts its values once,
    /// under the dtype of the file; its scales are no parameters. (An odd row in 4 bits counts one
    /// value too many.)
    ///
    /// # Errors
    /// A file that was removed since it was opened.
    pub fn summary(&self) -> Result<ComponentSummary, CheckpointError> {
        let mut dtypes = BTreeMap::<_, DtypeCount>::new();
        let has_scales = |key: &str| self.entries().contains_key(&scale_key(key));
        let (mut memory_8_bits, mut memory_4_bits) = (0, 0);
        for (key, entry) in self.entries() {
            let weight = key.strip_suffix(SCALE_SUFFIX).and_then(|key| self.entries().get(key));
            let is_scales = weight.is_some_and(|weight| is_quantized(weight.dtype));
            let packed = if entry.dtype == FileDtype::U8 && has_scales(key) { 2 } else { 1 };
            let count = dtypes.entry(entry.dtype).or_default();
            count.tensors += 1;
            if is_scales {
                continue;
            }
            let values = packed * entry.shape.iter().map(|&side| side as u64).product::<u64>();
            count.parameters += values;
            let memory = |bits: WeightBits| match entry.shape[..] {
                [rows, columns] => bits.bytes(rows, columns * packed as usize) as u64,
                _ => values * size_of::<f32>() as u64,
            };
            memory_8_bits += memory(WeightBits::Eight);
            memory_4_bits += memory(WeightBits::Four);
        }
        let mut bytes_on_disk = 0;
        for path in self.files() {
            bytes_on_disk += std::fs::metadata(path).map_err(CheckpointError::io(path))?.len();
        }
        Ok(ComponentSummary {
            tensors: self.entries().len(),
            parameters: dtypes.values().map(|count| count.parameters).sum(),
            dtypes,
            files: self.files().len(),
            bytes_on_disk,
            memory_8_bits,
            memory_4_bits,
        })
    }
}
