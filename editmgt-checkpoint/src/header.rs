//! Reads and checks the header of one safetensors file.
//!
//! The safetensors crate checks a whole file in memory and accepts duplicate keys; here only the
//! header is read and checked against the length of the file, and duplicate keys are errors.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::{CheckpointError, FileDtype, HeaderError};

/// The official library's limit.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header's length.
const PREFIX: u64 = 8;
/// The only key of the header that is not a tensor.
const METADATA: &str = "__metadata__";

/// One tensor of a file.
pub(crate) struct HeaderEntry {
    pub(crate) key: String,
    pub(crate) dtype: FileDtype,
    pub(crate) shape: Vec<usize>,
    /// Absolute position in the file.
    pub(crate) bytes: Range<u64>,
}

/// Opens a regular file; returns it with its length. Anything else is an error: a pipe would block.
pub(crate) fn open(path: &Path) -> Result<(File, u64), CheckpointError> {
    let metadata = match (std::fs::metadata(path), std::fs::read_link(path)) {
        (Err(error), Ok(target)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CheckpointError::BrokenLink { path: path.to_owned(), target });
        }
        (metadata, _) => metadata.map_err(CheckpointError::io(path))?,
    };
    if !metadata.is_file() {
        return Err(CheckpointError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(CheckpointError::io(path))?;
    let len = file.metadata().map_err(CheckpointError::io(path))?.len();
    Ok((file, len))
}

/// Reads the header of a file of `file_len` bytes: its tensors, in the order of their data.
pub(crate) fn read(
    mut file: impl Read,
    file_len: u64,
    path: &Path,
) -> Result<Vec<HeaderEntry>, CheckpointError> {
    let wrong = |cause| CheckpointError::Header { path: path.to_owned(), cause };
    if file_len < PREFIX {
        return Err(wrong(HeaderError::TooShort { len: file_len }));
    }
    let mut prefix = [0; PREFIX as usize];
    file.read_exact(&mut prefix).map_err(CheckpointError::io(path))?;
    let len = u64::from_le_bytes(prefix);
    if len > MAX_HEADER {
        return Err(wrong(HeaderError::TooLarge { len, limit: MAX_HEADER }));
    }
    if len > file_len - PREFIX {
        return Err(wrong(HeaderError::PastEnd { len, file: file_len }));
    }
    let mut text = vec![0; len as usize];
    file.read_exact(&mut text).map_err(CheckpointError::io(path))?;
    let Tensors(tensors) =
        serde_json::from_slice(&text).map_err(|e| wrong(HeaderError::Json(e.to_string())))?;
    place(tensors, PREFIX + len, file_len).map_err(wrong)
}

/// Checks that the tensors fill the data section without gaps, each with the length that its shape
/// and dtype require, and makes their positions absolute.
fn place(
    mut tensors: Vec<(String, TensorInfo)>,
    data_start: u64,
    file_len: u64,
) -> Result<Vec<HeaderEntry>, HeaderError> {
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut expected = 0u64;
    let mut entries = Vec::with_capacity(tensors.len());
    for (key, TensorInfo { dtype, shape, data_offsets: (start, end) }) in tensors {
        let (start, end) = (start as u64, end as u64);
        if start != expected || end < start {
            return Err(HeaderError::Offsets { key, expected, start, end });
        }
        if byte_len(dtype, &shape) != Some(end - start) {
            return Err(HeaderError::Size { key, dtype, shape, bytes: end - start });
        }
        expected = end;
        // The last end is compared with the file's length below, so a sum that saturates leads to
        // that error.
        let bytes = data_start.saturating_add(start)..data_start.saturating_add(end);
        entries.push(HeaderEntry { key, dtype, shape, bytes });
    }
    let got = file_len - data_start;
    if expected != got {
        return Err(HeaderError::DataLength { expected, got });
    }
    Ok(entries)
}

/// Bytes of a tensor; `None` if that overflows or isn't a whole number of bytes.
pub(crate) fn byte_len(dtype: FileDtype, shape: &[usize]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, &side| n.checked_mul(side as u64))?;
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// The tensors of the header's object, in the order of the text.
struct Tensors(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorsVisitor)
    }
}

struct TensorsVisitor;

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = Tensors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
        let mut seen = HashSet::new();
        let mut tensors = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let named = |e| A::Error::custom(format!("{key:?}: {e}"));
            if !seen.insert(key.clone()) {
                return Err(named(A::Error::custom("duplicate key")));
            }
            if key == METADATA {
                map.next_value::<HashMap<String, String>>().map_err(named)?;
            } else {
                let info = map.next_value::<TensorInfo>().map_err(named)?;
                tensors.push((key, info));
            }
        }
        Ok(Tensors(tensors))
    }
}
