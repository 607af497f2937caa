//! Sizes of a checkpoint, from its headers.

use std::collections::BTreeMap;
use std::iter::Sum;

use burn::tensor::DType;
use serde::Serialize;

use crate::{CheckpointError, FileDtype, WeightFiles};

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
    /// The sizes of the weights. Reads no tensor data.
    ///
    /// # Errors
    /// A file that was removed since it was opened.
    pub fn summary(&self) -> Result<ComponentSummary, CheckpointError> {
        let mut dtypes = BTreeMap::<_, DtypeCount>::new();
        for entry in self.entries().values() {
            let count = dtypes.entry(entry.dtype).or_default();
            count.tensors += 1;
            count.parameters += entry.shape.iter().map(|&side| side as u64).product::<u64>();
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
        })
    }
}
