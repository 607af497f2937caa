//! Reads the data of one tensor as the floats that were asked for.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use burn::tensor::{DType, Element};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::{CheckpointError, FileDtype, TensorEntry};

/// A file is read in pieces of about this many bytes, so that the raw bytes of a tensor never
/// stand beside its values.
const PIECE: usize = 4 << 20;
/// Values are converted in blocks that stay in the innermost cache.
const BLOCK: usize = 1024;
/// A transpose moves tiles of `[TILE_ROWS, TILE_COLUMNS]`: reads of a cache line of f32, and
/// writes long enough that jumping between distant pages costs little.
const TILE_ROWS: usize = 128;
const TILE_COLUMNS: usize = 16;

/// A float that weights can be held in.
pub(crate) trait Float: Element + Copy + Default {
    const DTYPE: DType;
    fn round(from: &[f32], to: &mut [Self]);
    fn is_finite(self) -> bool;
}

impl Float for f32 {
    const DTYPE: DType = DType::F32;
    fn round(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for f16 {
    const DTYPE: DType = DType::F16;
    fn round(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for bf16 {
    const DTYPE: DType = DType::BF16;
    fn round(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

/// Why a tensor could not be read.
pub(crate) enum DecodeError {
    Io(io::Error),
    Dtype(FileDtype),
    TooNarrow,
}

impl DecodeError {
    /// The error of the tensor `key` of a file, read as `dtype`.
    pub(crate) fn of(self, path: &Path, key: &str, dtype: DType) -> CheckpointError {
        let (path, key) = (path.to_owned(), key.to_owned());
        match self {
            Self::Io(source) => CheckpointError::Io { path, source },
            Self::Dtype(got) => CheckpointError::Dtype { path, key, got },
            Self::TooNarrow => CheckpointError::TooNarrow { path, key, dtype },
        }
    }
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The values of a tensor, row-major; of its transpose where `transposed` (then it has rank 2).
pub(crate) fn read<E: Float>(
    file: &mut (impl Read + Seek),
    entry: &TensorEntry,
    transposed: bool,
) -> Result<Vec<E>, DecodeError> {
    let width = match entry.dtype {
        FileDtype::F32 => 4,
        FileDtype::F16 | FileDtype::BF16 => 2,
        other => return Err(DecodeError::Dtype(other)),
    };
    file.seek(SeekFrom::Start(entry.bytes.start))?;
    let elements: usize = entry.shape.iter().product();
    let mut bytes = Vec::new();
    let mut piece = |elements: usize, into: &mut Vec<E>| {
        bytes.resize(elements * width, 0);
        file.read_exact(&mut bytes)?;
        bytes.chunks(BLOCK * width).try_for_each(|block| convert(entry.dtype, block, into))
    };

    if let [rows, columns] = entry.shape[..]
        && transposed
        && elements > 0
    {
        let mut values = vec![E::default(); elements];
        let mut panel = Vec::new();
        let height = (PIECE / width / columns).max(TILE_ROWS);
        for top in (0..rows).step_by(height) {
            panel.clear();
            piece(height.min(rows - top) * columns, &mut panel)?;
            scatter(&panel, columns, top, rows, &mut values);
        }
        Ok(values)
    } else {
        let mut values = Vec::with_capacity(elements);
        while values.len() < elements {
            piece((elements - values.len()).min(PIECE / width), &mut values)?;
        }
        Ok(values)
    }
}

/// Appends the values of a block of bytes. By way of f32, which holds every f16 and bf16 exactly.
fn convert<E: Float>(dtype: FileDtype, bytes: &[u8], into: &mut Vec<E>) -> Result<(), DecodeError> {
    let mut wide = [0.0; BLOCK];
    let halves = bytes.as_chunks::<2>().0;
    let wide = match dtype {
        FileDtype::F16 => {
            // As a slice: `half` has SIMD instructions for those, not for single values.
            let mut narrow = [f16::ZERO; BLOCK];
            for (value, bytes) in narrow.iter_mut().zip(halves) {
                *value = f16::from_le_bytes(*bytes);
            }
            narrow.convert_to_f32_slice(&mut wide);
            &wide[..halves.len()]
        }
        FileDtype::BF16 => {
            for (value, bytes) in wide.iter_mut().zip(halves) {
                *value = bf16::from_le_bytes(*bytes).to_f32();
            }
            &wide[..halves.len()]
        }
        _ => {
            let words = bytes.as_chunks::<4>().0;
            for (value, bytes) in wide.iter_mut().zip(words) {
                *value = f32::from_le_bytes(*bytes);
            }
            &wide[..words.len()]
        }
    };
    let start = into.len();
    into.resize(start + wide.len(), E::default());
    E::round(wide, &mut into[start..]);
    // A checkpoint may hold an infinity, but rounding may not make one. No early exit: this way
    // it is a few SIMD instructions.
    let overflows = wide.iter().zip(&into[start..]).fold(false, |overflows, (wide, value)| {
        overflows | (wide.is_finite() & !value.is_finite())
    });
    if overflows { Err(DecodeError::TooNarrow) } else { Ok(()) }
}

/// Writes `panel` (whole rows of a matrix of `rows` rows, from row `top` on) to its place in the
/// transpose.
fn scatter<E: Float>(panel: &[E], columns: usize, top: usize, rows: usize, transpose: &mut [E]) {
    let height = panel.len() / columns;
    let mut tile = [[E::default(); TILE_ROWS]; TILE_COLUMNS];
    for upper in (0..height).step_by(TILE_ROWS) {
        let tall = TILE_ROWS.min(height - upper);
        for left in (0..columns).step_by(TILE_COLUMNS) {
            let wide = TILE_COLUMNS.min(columns - left);
            for (row, values) in panel.chunks(columns).skip(upper).take(tall).enumerate() {
                for (column, value) in values[left..left + wide].iter().enumerate() {
                    tile[column][row] = *value;
                }
            }
            for (column, values) in tile[..wide].iter().enumerate() {
                let start = (left + column) * rows + top + upper;
                transpose[start..start + tall].copy_from_slice(&values[..tall]);
            }
        }
    }
}
