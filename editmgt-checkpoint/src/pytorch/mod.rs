//! Reads the weights that `torch.save` writes, without running their pickle.
//!
//! A pickle is a program that may call any function by name. Before `pytorch_reader` parses one,
//! [`scan`] goes through its opcodes and accepts only those, and only the names, that the pickle of
//! a state dict consists of. Neither of the two calls anything.

mod container;
mod scan;

use std::collections::HashMap;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader, Tensor};

use crate::header::HeaderEntry;
use crate::{CheckpointError, FileDtype, PickleError};

/// Keys under which some programs nest the state dict.
const NESTED: [&str; 3] = ["state_dict", "model_state_dict", "model"];
/// What `Module.state_dict` attaches to its result: versions of layers.
const METADATA: &str = "_metadata";

/// Reads the list of the tensors of a file. No tensor data is read.
pub(crate) fn read(
    path: &Path,
) -> Result<(Vec<HeaderEntry>, HashMap<String, Tensor>), CheckpointError> {
    let (mut file, len) = crate::header::open(path)?;
    let wrong = |cause| CheckpointError::Pickle { path: path.to_owned(), cause };
    let scanned = container::check(&mut file, len);
    scanned.map_err(|error| error.of(path))?;
    let parsed = |error: PytorchError| match error {
        PytorchError::Io(cause) if cause.raw_os_error().is_some() => {
            CheckpointError::Io { path: path.to_owned(), cause }
        }
        error => wrong(PickleError::Malformed(error.to_string())),
    };
    let root = PytorchReader::read_pickle_data(path, None).map_err(parsed)?;
    let (nested, values) = state_dict(root).map_err(wrong)?;
    let reader = match nested {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let tensors = reader.map_err(parsed)?.into_tensors();

    // Only tensors count, each under a key of the state dict itself: what is nested deeper could
    // hide one key behind another (`{"a": {"b": …}, "a.b": …}`).
    for (key, value) in &values {
        let is_metadata = key == METADATA && holds_plain_values(value);
        if !tensors.contains_key(key) && !is_metadata {
            return Err(wrong(PickleError::NotATensor { key: key.clone(), found: type_of(value) }));
        }
    }
    let mut entries = Vec::with_capacity(tensors.len());
    for (key, tensor) in &tensors {
        let bytes = tensor.byte_len() as u64;
        // A view may repeat one number any number of times, for which the file holds no data.
        if bytes > len {
            return Err(wrong(PickleError::Expanded { key: key.clone(), bytes, file: len }));
        }
        let (dtype, shape) = (file_dtype(tensor.dtype()), tensor.shape().to_vec());
        entries.push(HeaderEntry { key: key.clone(), dtype, shape, bytes: 0..bytes });
    }
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok((entries, tensors))
}

/// The little-endian bytes of a tensor, row-major.
pub(crate) fn bytes(tensor: &Tensor) -> std::io::Result<Vec<u8>> {
    let mut bytes = tensor.read()?;
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(tensor.dtype().size()).for_each(<[u8]>::reverse);
    }
    Ok(bytes)
}

/// The values of the state dict, and the key under which it is nested.
fn state_dict(
    root: PickleValue,
) -> Result<(Option<&'static str>, HashMap<String, PickleValue>), PickleError> {
    let mut values = match root {
        PickleValue::Dict(values) => values,
        other => return Err(PickleError::NotADict { found: type_of(&other) }),
    };
    for key in NESTED {
        if let Some(PickleValue::Dict(_)) = values.get(key)
            && let Some(PickleValue::Dict(nested)) = values.remove(key)
        {
            return Ok((Some(key), nested));
        }
    }
    Ok((None, values))
}

/// Whether a value holds neither a tensor nor an object.
fn holds_plain_values(value: &PickleValue) -> bool {
    match value {
        PickleValue::Dict(values) => values.values().all(holds_plain_values),
        PickleValue::List(values) => values.iter().all(holds_plain_values),
        PickleValue::Unsupported(_) => false,
        _ => true,
    }
}

/// The Python type of a value.
fn type_of(value: &PickleValue) -> String {
    let name = match value {
        PickleValue::None => "None",
        PickleValue::Bool(_) => "bool",
        PickleValue::Int(_) => "int",
        PickleValue::Float(_) => "float",
        PickleValue::String(_) => "str",
        PickleValue::List(_) => "list",
        PickleValue::Dict(_) => "dict",
        PickleValue::Bytes(_) => "bytes",
        PickleValue::Unsupported(name) => name,
    };
    name.to_owned()
}

fn file_dtype(dtype: DType) -> FileDtype {
    match dtype {
        DType::F64 => FileDtype::F64,
        DType::F32 => FileDtype::F32,
        DType::F16 => FileDtype::F16,
        DType::BF16 => FileDtype::BF16,
        DType::I64 => FileDtype::I64,
        DType::I32 => FileDtype::I32,
        DType::I16 => FileDtype::I16,
        DType::I8 => FileDtype::I8,
        DType::U64 => FileDtype::U64,
        DType::U32 => FileDtype::U32,
        DType::U16 => FileDtype::U16,
        DType::U8 => FileDtype::U8,
        DType::Bool => FileDtype::BOOL,
    }
}
