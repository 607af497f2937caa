//! Writes a checkpoint folder, tensor by tensor.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use burn::tensor::DType;
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;

use crate::output::Output;
use crate::sets::INDEX_SUFFIX;
use crate::{CheckpointError, FileDtype, TensorSpec, header};

/// Names, dtype and size of the files of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOptions {
    /// Names of the files.
    pub name: WeightsName,
    /// Element type in the files: f32, f16 or bf16.
    pub dtype: DType,
    /// Maximum bytes of data per file; a larger tensor gets a file to itself.
    pub max_shard_bytes: u64,
}

impl WriteOptions {
    /// Shards of at most 5 GB, as the official libraries write them.
    pub fn new(name: WeightsName, dtype: DType) -> Self {
        Self { name, dtype, max_shard_bytes: 5_000_000_000 }
    }

    /// Replaces the bytes of data per file.
    #[must_use]
    pub fn with_max_shard_bytes(self, max_shard_bytes: u64) -> Self {
        Self { max_shard_bytes, ..self }
    }
}

/// Names of weights files in the official libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsName {
    /// `diffusion_pytorch_model`: transformer and VQ codec.
    Diffusion,
    /// `model`: text encoders.
    Model,
    /// `adapter_model`: LoRA adapters.
    Adapter,
}

impl WeightsName {
    fn stem(self) -> &'static str {
        match self {
            Self::Diffusion => "diffusion_pytorch_model",
            Self::Model => "model",
            Self::Adapter => "adapter_model",
        }
    }
}

/// Writes the tensors of `specs` to the folder `dir`, which must be empty or missing. `values` is
/// called for one tensor at a time and pushes its values, row-major, in pieces of any size.
///
/// The files are renamed to their final names when all of them are complete; an error removes them.
pub(crate) fn write(
    dir: &Path,
    specs: &[TensorSpec],
    options: &WriteOptions,
    values: impl FnMut(&TensorSpec, &mut Sink) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let dtype = match options.dtype {
        DType::F32 => FileDtype::F32,
        DType::F16 => FileDtype::F16,
        DType::BF16 => FileDtype::BF16,
        got => return Err(CheckpointError::UnsupportedDtype { got }),
    };
    let specs: Vec<_> = specs.iter().map(|spec| StoredSpec { spec: spec.clone(), dtype }).collect();
    write_stored(dir, &specs, options.name, options.max_shard_bytes, values)
}

/// A tensor of a file.
pub(crate) struct StoredSpec {
    pub(crate) spec: TensorSpec,
    pub(crate) dtype: FileDtype,
}

/// The same with a dtype for each tensor, written in the order of the keys.
pub(crate) fn write_stored(
    dir: &Path,
    specs: &[StoredSpec],
    name: WeightsName,
    max_shard_bytes: u64,
    mut values: impl FnMut(&TensorSpec, &mut Sink) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let shards = Shard::plan(specs, max_shard_bytes)?;
    let mut output = Output::begin(dir)?;
    let stem = name.stem();
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => format!("{stem}.safetensors"),
            n => format!("{stem}-{:05}-of-{n:05}.safetensors", i + 1),
        };
        output.file(&name, |path, file| shard.write(path, file, &mut values))?;
        weight_map.extend(shard.tensors.iter().map(|(spec, _)| (spec.key.as_str(), name.clone())));
    }
    if shards.len() > 1 {
        let total_size = shards.iter().map(Shard::len).sum();
        let index = Index { metadata: IndexMetadata { total_size }, weight_map };
        output.file(&format!("{stem}{INDEX_SUFFIX}"), |path, file| {
            serde_json::to_writer_pretty(file, &index)
                .map_err(|e| CheckpointError::io(path)(e.into()))
        })?;
    }
    output.finish()
}

#[derive(Serialize)]
struct Index<'a> {
    metadata: IndexMetadata,
    weight_map: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct IndexMetadata {
    total_size: u64,
}

/// The tensors of one file, by key, each with its position in the data.
struct Shard<'a> {
    tensors: Vec<(&'a TensorSpec, TensorInfo)>,
}

impl<'a> Shard<'a> {
    /// Assigns tensors to files, in the order of the keys.
    fn plan(specs: &'a [StoredSpec], max_bytes: u64) -> Result<Vec<Self>, CheckpointError> {
        let mut specs: Vec<_> = specs.iter().map(|stored| (&stored.spec, stored.dtype)).collect();
        specs.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        let mut shards = vec![Self { tensors: Vec::new() }];
        let mut end = 0usize;
        for (i, &(spec, dtype)) in specs.iter().enumerate() {
            let refuse =
                |message: &'static str| CheckpointError::Spec { key: spec.key.clone(), message };
            if i > 0 && specs[i - 1].0.key == spec.key {
                return Err(refuse("duplicate key"));
            }
            let len = header::byte_len(dtype, &spec.shape).and_then(|len| len.try_into().ok());
            let len: usize = len.ok_or_else(|| refuse("the shape is too large"))?;
            let full = (end as u64).saturating_add(len as u64) > max_bytes;
            if full && end > 0 {
                shards.push(Self { tensors: Vec::new() });
                end = 0;
            }
            let start = end;
            end = start.checked_add(len).ok_or_else(|| refuse("the shape is too large"))?;
            let info = TensorInfo { dtype, shape: spec.shape.clone(), data_offsets: (start, end) };
            if let Some(shard) = shards.last_mut() {
                shard.tensors.push((spec, info));
            }
        }
        Ok(shards)
    }

    /// Bytes of data.
    fn len(&self) -> u64 {
        self.tensors.last().map_or(0, |(_, info)| info.data_offsets.1 as u64)
    }

    fn write(
        &self,
        path: &Path,
        file: &mut BufWriter<&File>,
        values: &mut impl FnMut(&TensorSpec, &mut Sink) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let infos = self.tensors.iter().map(|(spec, info)| (spec.key.clone(), info.clone()));
        // The official libraries reject files without this entry.
        let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let header = Metadata::new(Some(about), infos.collect())
            .map_err(|e| e.to_string())
            .and_then(|metadata| serde_json::to_vec(&metadata).map_err(|e| e.to_string()))
            .expect("a planned shard has contiguous tensors");
        let padded = header.len().next_multiple_of(8);
        file.write_all(&(padded as u64).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            .and_then(|()| file.write_all(&[b' '; 8][..padded - header.len()]))
            .map_err(CheckpointError::io(path))?;
        for (spec, info) in &self.tensors {
            let dtype = info.dtype;
            let left = (info.data_offsets.1 - info.data_offsets.0) * 8 / dtype.bitsize();
            let mut sink = Sink { path, key: &spec.key, file, dtype, bytes: Vec::new(), left };
            values(spec, &mut sink)?;
            assert_eq!(sink.left, 0, "{}: fewer values than its shape has", spec.key);
        }
        Ok(())
    }
}

/// Receives the values of one tensor.
pub(crate) struct Sink<'a, 'f> {
    path: &'a Path,
    key: &'a str,
    file: &'a mut BufWriter<&'f File>,
    dtype: FileDtype,
    bytes: Vec<u8>,
    /// Number of remaining values.
    left: usize,
}

impl Sink<'_, '_> {
    /// Number of remaining values.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Appends the bytes of whole values.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.left = (self.left.checked_sub(bytes.len() * 8 / self.dtype.bitsize()))
            .expect("callers push as many values as the shape has");
        self.file.write_all(bytes).map_err(CheckpointError::io(self.path))
    }

    /// Appends values, rounded to the file's dtype.
    pub(crate) fn push(&mut self, values: &[f32]) -> Result<(), CheckpointError> {
        self.left = (self.left.checked_sub(values.len()))
            .expect("callers push as many values as the shape has");
        let mut lossless = true;
        self.bytes.clear();
        match self.dtype {
            FileDtype::F16 => {
                self.bytes.resize(2 * values.len(), 0);
                for (bytes, &value) in self.bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                    let half = f16::from_f32(value);
                    lossless &= half.is_finite() || !value.is_finite();
                    *bytes = half.to_le_bytes();
                }
            }
            FileDtype::BF16 => {
                self.bytes.resize(2 * values.len(), 0);
                for (bytes, &value) in self.bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                    let half = bf16::from_f32(value);
                    lossless &= half.is_finite() || !value.is_finite();
                    *bytes = half.to_le_bytes();
                }
            }
            _ => {
                self.bytes.resize(4 * values.len(), 0);
                for (bytes, value) in self.bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *bytes = value.to_le_bytes();
                }
            }
        }
        if !lossless {
            let dtype = if self.dtype == FileDtype::F16 { DType::F16 } else { DType::BF16 };
            let (path, key) = (self.path.to_owned(), self.key.to_owned());
            return Err(CheckpointError::TooNarrow { path, key, dtype });
        }
        self.file.write_all(&self.bytes).map_err(CheckpointError::io(self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn spec(key: &str, shape: &[usize]) -> TensorSpec {
        TensorSpec { key: key.to_owned(), shape: shape.to_vec() }
    }

    #[test]
    fn a_failed_write_leaves_no_files() {
        let root = tempfile::tempdir().unwrap();
        let (new, empty) = (root.path().join("new"), root.path().join("empty"));
        std::fs::create_dir(&empty).unwrap();
        // Two shards, and the second fails.
        let options = WriteOptions {
            max_shard_bytes: 8,
            ..WriteOptions::new(WeightsName::Model, DType::F32)
        };
        for (dir, stays) in [(&new, false), (&empty, true)] {
            let specs = [spec("a", &[2]), spec("b", &[2])];
            let error = write(dir, &specs, &options, |spec, sink| match &*spec.key {
                "a" => sink.push(&[1.0, 2.0]),
                _ => Err(CheckpointError::io(dir)(std::io::ErrorKind::StorageFull.into())),
            });
            assert!(matches!(error, Err(CheckpointError::Io { .. })), "{error:?}");
            assert_eq!(dir.exists(), stays);
            assert!(!stays || std::fs::read_dir(dir).unwrap().next().is_none());
        }
    }

    #[test]
    fn rejects_what_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let options = |dtype| WriteOptions::new(WeightsName::Model, dtype);
        let value = |value: f32| move |_: &TensorSpec, sink: &mut Sink| sink.push(&[value]);
        let a = spec("a", &[1]);
        let f16 = write(root.path(), from_ref(&a), &options(DType::F16), value(1e6));
        assert!(matches!(f16, Err(CheckpointError::TooNarrow { .. })), "{f16:?}");
        let f64 = write(root.path(), from_ref(&a), &options(DType::F64), value(1.0));
        assert!(matches!(f64, Err(CheckpointError::UnsupportedDtype { .. })), "{f64:?}");
        for specs in [[a.clone(), a.clone()], [a.clone(), spec("b", &[usize::MAX, 2])]] {
            let bad = write(root.path(), &specs, &options(DType::F32), value(1.0));
            assert!(matches!(bad, Err(CheckpointError::Spec { .. })), "{bad:?}");
        }
        std::fs::write(root.path().join("photo.png"), b"mine").unwrap();
        let full = write(root.path(), &[a], &options(DType::F32), value(1.0));
        assert!(matches!(full, Err(CheckpointError::NotEmpty { .. })), "{full:?}");
    }
}
