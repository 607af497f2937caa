//! Writes the weights of a component in 8 or 4 bits, tensor by tensor.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use burn::module::Module;
use editmgt_core::KeyMap;
use editmgt_kernels::{BLOCK, Block};
use half::f16;
use rayon::prelude::*;

use crate::decode::Float;
use crate::files::Reader;
use crate::keys::{CompiledKeys, Parameters};
use crate::quantization::{file_dtype, file_shapes, scale_key, write_block};
use crate::write::{Sink, StoredSpec, write_stored};
use crate::{
    CheckpointError, FileDtype, TensorEntry, TensorSpec, WeightBits, WeightFiles, WeightsName,
    check_module,
};

/// Bytes of a file that are read at a time.
const PIECE: usize = 1 << 22;
/// Bytes of data per file, as the official libraries write them.
const MAX_SHARD: u64 = 5_000_000_000;

/// What becomes of a tensor.
enum Source<'a> {
    Copied(&'a TensorEntry),
    /// The values of a quantised weight.
    Values(&'a TensorEntry),
    /// The scales of the weight of this key.
    Scales(&'a str),
}

/// Writes the weights of `files` to the folder `dir`, which must be empty or missing: weights of
/// linear layers, and vocabularies of at least 1024 rows, in `bits`, all others as they are. Keys
/// that `module` doesn't use are left out. A piece of a tensor is in memory at a time (of PyTorch's
/// files a tensor), and the scales of one.
///
/// The config beside them must have the key of [`QuantizationConfig`](crate::QuantizationConfig).
///
/// # Errors
/// Those of [`check_module`]; [`CheckpointError::Unquantizable`] for a weight that is not finite;
/// [`CheckpointError::NotEmpty`]; I/O errors. Partial output is removed.
pub fn quantize_weights<M: Module>(
    dir: &Path,
    name: WeightsName,
    module: &M,
    keys: &KeyMap,
    files: &WeightFiles,
    bits: WeightBits,
) -> Result<(), CheckpointError> {
    check_module(module, files, keys, burn::tensor::DType::F32)?;
    let parameters = Parameters::of(module, &CompiledKeys::new(keys)?)?.by_key;
    let mut tensors = Vec::new();
    for (key, entry) in files.entries() {
        let Some(parameter) = parameters.get(key) else { continue };
        match parameter.shape[..] {
            [rows, inputs] if parameter.quantizable => {
                let [values, scales] = file_shapes(bits, [rows, inputs]);
                let of = |key: &str, shape, dtype, source| {
                    (StoredSpec { spec: TensorSpec { key: key.to_owned(), shape }, dtype }, source)
                };
                tensors.push(of(key, values, file_dtype(bits), Source::Values(entry)));
                tensors.push(of(&scale_key(key), scales, FileDtype::F16, Source::Scales(key)));
            }
            _ => tensors.push(copied(key, entry)),
        }
    }
    write_from(dir, name, files, tensors, Some(bits))
}

/// Writes all tensors of `files` to the folder `dir`, which must be empty or missing, as they are.
///
/// # Errors
/// [`CheckpointError::NotEmpty`] and I/O errors. Partial output is removed.
pub fn copy_weights(
    dir: &Path,
    name: WeightsName,
    files: &WeightFiles,
) -> Result<(), CheckpointError> {
    let tensors = files.entries().iter().map(|(key, entry)| copied(key, entry)).collect();
    write_from(dir, name, files, tensors, None)
}

fn copied<'a>(key: &str, entry: &'a TensorEntry) -> (StoredSpec, Source<'a>) {
    let spec = TensorSpec { key: key.to_owned(), shape: entry.shape.clone() };
    (StoredSpec { spec, dtype: entry.dtype }, Source::Copied(entry))
}

fn write_from(
    dir: &Path,
    name: WeightsName,
    files: &WeightFiles,
    tensors: Vec<(StoredSpec, Source<'_>)>,
    bits: Option<WeightBits>,
) -> Result<(), CheckpointError> {
    let (specs, sources): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
    let sources: HashMap<&str, Source> =
        specs.iter().map(|spec| spec.spec.key.as_str()).zip(sources).collect();
    // A weight is written before its scales, whose key is a longer one.
    let mut scales: HashMap<String, Vec<u8>> = HashMap::new();
    write_stored(dir, &specs, name, MAX_SHARD, |spec, sink| {
        match (&sources[spec.key.as_str()], bits) {
            (Source::Values(entry), Some(bits)) => {
                let mut file = files.tensor_reader(&spec.key, entry)?;
                let found = quantize(&mut file, entry, &spec.key, bits, sink)?;
                scales.insert(spec.key.clone(), found);
                Ok(())
            }
            (Source::Scales(key), _) => {
                sink.push_bytes(&scales.remove(*key).expect("a weight precedes its scales"))
            }
            (Source::Copied(entry) | Source::Values(entry), _) => {
                let mut file = files.tensor_reader(&spec.key, entry)?;
                copy(&mut file, entry, sink)
            }
        }
    })
}

fn copy(file: &mut Reader, entry: &TensorEntry, sink: &mut Sink) -> Result<(), CheckpointError> {
    let mut bytes = Vec::new();
    for start in entry.bytes.clone().step_by(PIECE) {
        let length = (entry.bytes.end - start).min(PIECE as u64);
        read_at(file, entry, start, length as usize, &mut bytes)?;
        sink.push_bytes(&bytes)?;
    }
    Ok(())
}

/// Writes the quantised rows of a matrix; returns the bytes of its scales.
fn quantize(
    file: &mut Reader,
    entry: &TensorEntry,
    key: &str,
    bits: WeightBits,
    sink: &mut Sink,
) -> Result<Vec<u8>, CheckpointError> {
    let [rows, inputs] = entry.shape[..] else { unreachable!("only matrices are quantised") };
    let stride = inputs * entry.dtype.bitsize() / 8;
    let height = (PIECE / stride.max(1)).max(1);
    let (mut raw, mut scales) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(height) {
        let count = height.min(rows - first);
        let start = entry.bytes.start + (first * stride) as u64;
        read_at(file, entry, start, count * stride, &mut raw)?;
        let row = |bytes: &[u8]| {
            let mut values = vec![0.0; inputs];
            f32::decode(entry.dtype, bytes, &mut values);
            let blocks = values.chunks(BLOCK);
            blocks.map(|values| Block::quantize(values, bits)).collect::<Option<Vec<_>>>()
        };
        let rows: Option<Vec<_>> = match stride {
            0 => Some(Vec::new()),
            _ => raw.par_chunks_exact(stride).map(row).collect(),
        };
        let (path, key) = (entry.file.to_path_buf(), key.to_owned());
        let rows = rows.ok_or(CheckpointError::Unquantizable { path, key })?;
        let mut bytes = Vec::with_capacity(count * inputs);
        for blocks in rows {
            for (block, start) in blocks.iter().zip((0..inputs).step_by(BLOCK)) {
                write_block(bits, &block.values[..BLOCK.min(inputs - start)], &mut bytes);
            }
            scales.extend(blocks.iter().flat_map(|block| f16::to_le_bytes(block.scale)));
        }
        sink.push_bytes(&bytes)?;
    }
    Ok(scales)
}

fn read_at(
    file: &mut Reader,
    entry: &TensorEntry,
    start: u64,
    length: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), CheckpointError> {
    bytes.resize(length, 0);
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(bytes));
    read.map_err(CheckpointError::io(&entry.file))
}
