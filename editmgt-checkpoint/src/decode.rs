//! Reads the data of one tensor as the floats that were asked for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use burn::tensor::{DType, Element};
use half::{bf16, f16};

use crate::{FileDtype, TensorEntry};

/// A file is read in pieces of about this many bytes, so that the raw bytes of a tensor never
/// stand beside its values.
const PIECE: usize = 4 << 20;
/// A transpose moves squares of this side: a row of a square is a cache line of f32.
const TILE: usize = 16;

/// A float that weights can be held in.
pub(crate) trait Float: Element + Copy + Default {
    const DTYPE: DType;
    fn from_f32(value: f32) -> Self;
    fn from_f16(value: f16) -> Self;
    fn from_bf16(value: bf16) -> Self;
    fn is_finite(self) -> bool;
}

macro_rules! float {
    ($ty:ty, $dtype:ident, $from_f32:expr, $from_f16:expr, $from_bf16:expr) => {
        impl Float for $ty {
            const DTYPE: DType = DType::$dtype;
            fn from_f32(value: f32) -> Self {
                $from_f32(value)
            }
            fn from_f16(value: f16) -> Self {
                $from_f16(value)
            }
            fn from_bf16(value: bf16) -> Self {
                $from_bf16(value)
            }
            fn is_finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

float!(f32, F32, |x| x, f16::to_f32, bf16::to_f32);
float!(f16, F16, f16::from_f32, |x| x, |x| f16::from_f32(bf16::to_f32(x)));
float!(bf16, BF16, bf16::from_f32, |x| bf16::from_f32(f16::to_f32(x)), |x| x);

/// Why a tensor could not be read.
pub(crate) enum DecodeError {
    Io(io::Error),
    Dtype(FileDtype),
    TooNarrow,
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The values of a tensor, row-major; of its transpose where `transposed` (then it has rank 2).
pub(crate) fn read<E: Float>(
    file: &mut File,
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
        convert(entry.dtype, &bytes, into)
    };

    if let [rows, columns] = entry.shape[..]
        && transposed
        && elements > 0
    {
        let mut values = vec![E::default(); elements];
        let mut panel = Vec::new();
        let height = (PIECE / width / columns).max(TILE);
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

/// Appends the values of `bytes`, as `E`.
fn convert<E: Float>(dtype: FileDtype, bytes: &[u8], into: &mut Vec<E>) -> Result<(), DecodeError> {
    let start = into.len();
    let halves = bytes.as_chunks::<2>().0;
    match dtype {
        FileDtype::F16 => into.extend(halves.iter().map(|b| E::from_f16(f16::from_le_bytes(*b)))),
        FileDtype::BF16 => {
            into.extend(halves.iter().map(|b| E::from_bf16(bf16::from_le_bytes(*b))));
        }
        _ => {
            let words = bytes.as_chunks::<4>().0.iter();
            into.extend(words.map(|b| E::from_f32(f32::from_le_bytes(*b))));
        }
    }
    // A checkpoint may hold an infinity, but a conversion may not make one.
    if into[start..].iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    let finite = |i: usize| match dtype {
        FileDtype::F16 => f16::from_le_bytes(halves[i]).is_finite(),
        FileDtype::BF16 => bf16::from_le_bytes(halves[i]).is_finite(),
        _ => f32::from_le_bytes(bytes.as_chunks::<4>().0[i]).is_finite(),
    };
    let overflows = |(i, value): (usize, &E)| !value.is_finite() && finite(i);
    match into[start..].iter().enumerate().any(overflows) {
        true => Err(DecodeError::TooNarrow),
        false => Ok(()),
    }
}

/// Writes `panel` (whole rows of a matrix of `rows` rows, from row `top` on) to its place in the
/// transpose.
fn scatter<E: Copy>(panel: &[E], columns: usize, top: usize, rows: usize, transpose: &mut [E]) {
    let height = panel.len() / columns;
    for left in (0..columns).step_by(TILE) {
        for upper in (0..height).step_by(TILE) {
            let lower = (upper + TILE).min(height);
            for column in left..(left + TILE).min(columns) {
                let start = column * rows + top;
                let target = &mut transpose[start + upper..start + lower];
                let source = panel[upper * columns + column..].iter().step_by(columns);
                for (to, from) in target.iter_mut().zip(source) {
                    *to = *from;
                }
            }
        }
    }
}
