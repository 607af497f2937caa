//! Reads the data of one tensor and converts it to the requested float type.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use burn::tensor::{DType, Element};
use editmgt_kernels::{BLOCK as QUANTIZED_BLOCK, Block, QuantizedMatrix, RowGroup, WeightBits};
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::quantization::{read_block, read_scales, row_bytes};
use crate::{CheckpointError, FileDtype, TensorEntry};

/// Bytes of a file that are read at a time: they are still in cache when they are converted, and
/// the raw bytes of a tensor are never all in memory.
const PIECE: usize = 1 << 20;
/// Values per block in conversions by way of f32.
const BLOCK: usize = 128;
/// A transpose moves tiles of `[TILE_ROWS, TILE_COLUMNS]`: reads are whole cache lines, and writes
/// are long enough to make strided access cheap.
const TILE_ROWS: usize = 128;
const TILE_COLUMNS: usize = 32;

/// A float type of weights in memory.
pub(crate) trait Float: Element + Copy + Default + Send {
    const DTYPE: DType;
    /// A zeroed buffer. Zeroed lazily by the OS: page faults happen on first write.
    fn zeros(count: usize) -> Vec<Self>;
    /// Converts the values in `bytes` to fill `to`. Returns whether all finite values stay finite.
    fn decode(dtype: FileDtype, bytes: &[u8], to: &mut [Self]) -> bool;
}

impl Float for f32 {
    const DTYPE: DType = DType::F32;

    fn zeros(count: usize) -> Vec<Self> {
        vec![0.0; count]
    }

    fn decode(dtype: FileDtype, bytes: &[u8], to: &mut [Self]) -> bool {
        match dtype {
            FileDtype::F16 => {
                // `half` converts slices with SIMD instructions, but not single values.
                let mut narrow = [f16::ZERO; BLOCK];
                for (bytes, to) in bytes.chunks(2 * BLOCK).zip(to.chunks_mut(BLOCK)) {
                    let narrow = &mut narrow[..to.len()];
                    f16::decode(dtype, bytes, narrow);
                    narrow.convert_to_f32_slice(to);
                }
            }
            FileDtype::BF16 => {
                for (value, bytes) in to.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    // bf16 is the upper 16 bits of an f32.
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
            _ => {
                for (value, bytes) in to.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
        }
        true
    }
}

impl Float for f16 {
    const DTYPE: DType = DType::F16;

    fn zeros(count: usize) -> Vec<Self> {
        vec![0u16; count].reinterpret_into()
    }

    fn decode(dtype: FileDtype, bytes: &[u8], to: &mut [Self]) -> bool {
        if dtype != FileDtype::F16 {
            let round = |from: &[f32], to: &mut [f16]| to.convert_from_f32_slice(from);
            return narrow(dtype, bytes, to, round, f16::is_finite);
        }
        for (value, bytes) in to.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *value = f16::from_le_bytes(*bytes);
        }
        true
    }
}

impl Float for bf16 {
    const DTYPE: DType = DType::BF16;

    fn zeros(count: usize) -> Vec<Self> {
        vec![0u16; count].reinterpret_into()
    }

    fn decode(dtype: FileDtype, bytes: &[u8], to: &mut [Self]) -> bool {
        if dtype != FileDtype::BF16 {
            let round = |from: &[f32], to: &mut [bf16]| to.convert_from_f32_slice(from);
            return narrow(dtype, bytes, to, round, bf16::is_finite);
        }
        for (value, bytes) in to.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *value = bf16::from_le_bytes(*bytes);
        }
        true
    }
}

/// Converts by way of f32, which represents every f16 and bf16 exactly.
fn narrow<E: Float>(
    dtype: FileDtype,
    bytes: &[u8],
    to: &mut [E],
    round: impl Fn(&[f32], &mut [E]),
    is_finite: impl Fn(E) -> bool,
) -> bool {
    let mut wide = [0.0; BLOCK];
    let mut overflows = false;
    let block = BLOCK * dtype.bitsize() / 8;
    for (bytes, to) in bytes.chunks(block).zip(to.chunks_mut(BLOCK)) {
        let wide = &mut wide[..to.len()];
        f32::decode(dtype, bytes, wide);
        round(wide, to);
        // A checkpoint may contain infinities, but rounding must not create one. No early exit, so
        // that the loop compiles to a few SIMD instructions.
        overflows |= wide.iter().zip(&*to).fold(false, |overflows, (wide, value)| {
            overflows | (wide.is_finite() & !is_finite(*value))
        });
    }
    !overflows
}

/// Why a tensor could not be read.
pub(crate) enum DecodeError {
    Io(io::Error),
    Dtype(FileDtype),
    TooNarrow,
    Unquantizable,
    Quantized(&'static str),
}

impl DecodeError {
    /// The error for the tensor `key` of a file, converted to `dtype`.
    pub(crate) fn of(self, path: &Path, key: &str, dtype: DType) -> CheckpointError {
        let (path, key) = (path.to_owned(), key.to_owned());
        match self {
            Self::Io(source) => CheckpointError::Io { path, cause: source },
            Self::Dtype(got) => CheckpointError::Dtype { path, key, got },
            Self::TooNarrow => CheckpointError::TooNarrow { path, key, dtype },
            Self::Unquantizable => CheckpointError::Unquantizable { path, key },
            Self::Quantized(problem) => CheckpointError::QuantizedData { path, key, problem },
        }
    }
}

impl From<io::Error> for DecodeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The values of a tensor, or of its transpose if `transposed` (then it has rank 2), row-major.
///
/// Threads read one at a time and convert in parallel.
pub(crate) fn read<E: Float>(
    file: &mut (impl Read + Seek + Send),
    entry: &TensorEntry,
    transposed: bool,
) -> Result<Vec<E>, DecodeError> {
    let dtype = entry.dtype;
    let width = width_of(dtype)?;
    let elements: usize = entry.shape.iter().product();
    let mut values = E::zeros(elements);
    let file = Mutex::new(file);
    let start = entry.bytes.start;
    let fetch = |elements: Range<usize>, bytes: &mut Vec<u8>| {
        bytes.resize(elements.len() * width, 0);
        let mut file = file.lock().expect("no thread panics while it reads");
        file.seek(SeekFrom::Start(start + (elements.start * width) as u64))?;
        file.read_exact(bytes)
    };
    let fits = if let [rows, columns] = entry.shape[..]
        && transposed
        && elements > 0
    {
        let height = (PIECE / width / columns).max(TILE_ROWS);
        // Splits the transpose into bands; each holds its slice of every row.
        let mut bands: Vec<Vec<&mut [E]>> =
            (0..rows.div_ceil(height)).map(|_| Vec::with_capacity(columns)).collect();
        for row in values.chunks_exact_mut(rows) {
            bands.iter_mut().zip(row.chunks_mut(height)).for_each(|(band, part)| band.push(part));
        }
        let bands = bands.into_par_iter().enumerate().map_init(Vec::new, |bytes, (band, parts)| {
            let top = band * height;
            fetch(top * columns..(top + parts[0].len()) * columns, bytes)?;
            Ok(Band { dtype, bytes, width, columns }.scatter(parts))
        });
        bands.try_reduce(|| true, |a, b| Ok(a & b))
    } else {
        let piece = PIECE / width;
        let pieces = values.par_chunks_mut(piece).enumerate().map_init(
            Vec::new,
            |bytes, (index, values)| {
                let first = index * piece;
                fetch(first..first + values.len(), bytes)?;
                Ok(E::decode(dtype, bytes, values))
            },
        );
        pieces.try_reduce(|| true, |a, b| Ok(a & b))
    };
    match fits {
        Ok(true) => Ok(values),
        Ok(false) => Err(DecodeError::TooNarrow),
        Err(error) => Err(DecodeError::Io(error)),
    }
}

/// Bytes of a value.
fn width_of(dtype: FileDtype) -> Result<usize, DecodeError> {
    match dtype {
        FileDtype::F32 => Ok(4),
        FileDtype::F16 | FileDtype::BF16 => Ok(2),
        other => Err(DecodeError::Dtype(other)),
    }
}

/// A float matrix, quantised while it is read: `[rows, inputs]` in the file.
pub(crate) fn read_quantizing(
    file: &mut (impl Read + Seek + Send),
    entry: &TensorEntry,
    bits: WeightBits,
) -> Result<QuantizedMatrix, DecodeError> {
    let [rows, inputs] = matrix_shape(entry);
    let width = width_of(entry.dtype)?;
    let mut matrix = QuantizedMatrix::zeros(bits, rows, inputs);
    fill(file, entry, &mut matrix, inputs * width, |bytes, values, _, row, group| {
        values.resize(inputs, 0.0);
        f32::decode(entry.dtype, bytes, values);
        for (block, values) in values.chunks(QUANTIZED_BLOCK).enumerate() {
            let quantized = Block::quantize(values, bits).ok_or(DecodeError::Unquantizable)?;
            group.set(row, block, &quantized);
        }
        Ok(())
    })?;
    Ok(matrix)
}

/// A matrix that a file has quantised; `scales` is the tensor of its scales, in a file of its own
/// perhaps.
pub(crate) fn read_quantized(
    file: &mut (impl Read + Seek + Send),
    entry: &TensorEntry,
    scales: &[u8],
    bits: WeightBits,
    [rows, inputs]: [usize; 2],
) -> Result<QuantizedMatrix, DecodeError> {
    let bad = DecodeError::Quantized;
    let scales = read_scales(scales).ok_or(bad("a scale is not finite"))?;
    let blocks = inputs.div_ceil(QUANTIZED_BLOCK);
    let mut matrix = QuantizedMatrix::zeros(bits, rows, inputs);
    fill(file, entry, &mut matrix, row_bytes(bits, inputs), |bytes, _, index, row, group| {
        let scales = &scales[index * blocks..][..blocks];
        let lengths =
            (0..blocks).map(|block| QUANTIZED_BLOCK.min(inputs - block * QUANTIZED_BLOCK));
        let pieces = bytes.chunks(row_bytes(bits, QUANTIZED_BLOCK));
        for (block, ((&scale, piece), length)) in scales.iter().zip(pieces).zip(lengths).enumerate()
        {
            let mut values = [0; QUANTIZED_BLOCK];
            read_block(bits, piece, &mut values[..length]).map_err(bad)?;
            group.set(row, block, &Block { scale, values });
        }
        Ok(())
    })?;
    Ok(matrix)
}

fn matrix_shape(entry: &TensorEntry) -> [usize; 2] {
    entry.shape[..].try_into().expect("only matrices are quantised")
}

/// Reads the rows of a matrix, `stride` bytes each, and calls `set` for each with its bytes,
/// scratch space, its index, and its index in its group. Threads read one at a time and convert in
/// parallel.
fn fill(
    file: &mut (impl Read + Seek + Send),
    entry: &TensorEntry,
    matrix: &mut QuantizedMatrix,
    stride: usize,
    set: impl Fn(&[u8], &mut Vec<f32>, usize, usize, &mut RowGroup<'_>) -> Result<(), DecodeError>
    + Sync,
) -> Result<(), DecodeError> {
    let file = Mutex::new(file);
    let mut groups = matrix.groups();
    let Some(height) = groups.first().map(|group| group.rows) else { return Ok(()) };
    let count = (PIECE / (height * stride).max(1)).max(1);
    groups.par_chunks_mut(count).try_for_each_init(
        || (Vec::new(), Vec::new()),
        |(bytes, values), groups| {
            let first = groups[0].first;
            let rows: usize = groups.iter().map(|group| group.rows).sum();
            bytes.resize(rows * stride, 0);
            {
                let mut file = file.lock().expect("no thread panics while it reads");
                file.seek(SeekFrom::Start(entry.bytes.start + (first * stride) as u64))?;
                file.read_exact(bytes)?;
            }
            let mut index = first;
            for group in groups {
                for row in 0..group.rows {
                    let bytes = &bytes[(index - first) * stride..][..stride];
                    set(bytes, values, index, row, group)?;
                    index += 1;
                }
            }
            Ok(())
        },
    )
}

/// Consecutive rows of a matrix, as stored in a file.
struct Band<'a> {
    dtype: FileDtype,
    bytes: &'a [u8],
    /// Bytes of a value.
    width: usize,
    columns: usize,
}

impl Band<'_> {
    /// Writes each column to its part of the transpose. Returns whether all finite values stay
    /// finite.
    fn scatter<E: Float>(&self, mut parts: Vec<&mut [E]>) -> bool {
        let Self { dtype, bytes, width, columns } = *self;
        let stride = columns * width;
        let height = bytes.len() / stride;
        let mut line = [E::default(); TILE_COLUMNS];
        let mut tile = [[E::default(); TILE_ROWS]; TILE_COLUMNS];
        let mut fits = true;
        for upper in (0..height).step_by(TILE_ROWS) {
            let tall = TILE_ROWS.min(height - upper);
            for left in (0..columns).step_by(TILE_COLUMNS) {
                let wide = TILE_COLUMNS.min(columns - left);
                for (row, bytes) in bytes.chunks(stride).skip(upper).take(tall).enumerate() {
                    let bytes = &bytes[left * width..][..wide * width];
                    fits &= E::decode(dtype, bytes, &mut line[..wide]);
                    // The whole line, stale values too: a constant trip count is faster.
                    for (column, value) in line.iter().enumerate() {
                        tile[column][row] = *value;
                    }
                }
                for (part, values) in parts[left..].iter_mut().zip(&tile[..wide]) {
                    part[upper..upper + tall].copy_from_slice(&values[..tall]);
                }
            }
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn decoded<E: Float>(
        dtype: FileDtype,
        shape: [usize; 2],
        bytes: Vec<u8>,
        transposed: bool,
    ) -> Option<Vec<E>> {
        let range = 0..bytes.len() as u64;
        let entry =
            TensorEntry { dtype, shape: shape.into(), file: Path::new("x").into(), bytes: range };
        match read(&mut Cursor::new(bytes), &entry, transposed) {
            Ok(values) => Some(values),
            Err(DecodeError::TooNarrow) => None,
            Err(other) => panic!("{}", other.of(Path::new("x"), "x", E::DTYPE)),
        }
    }

    #[test]
    fn read_transposes_matrices_of_any_size() {
        let tile = [TILE_ROWS, TILE_COLUMNS];
        for [rows, columns] in
            [[1, 1], [1, 300], [300, 1], tile, tile.map(|n| n + 1), [129, 65], [3000, 101]]
        {
            let value = |i: usize| (i % 251) as f32 - 100.0;
            let all = 0..rows * columns;
            let straight: Vec<f32> = all.clone().map(value).collect();
            let transposed = |i: usize| value(i % rows * columns + i / rows);
            let flipped: Vec<f32> = all.map(transposed).collect();
            let wide: Vec<u8> = straight.iter().flat_map(|v| v.to_le_bytes()).collect();
            let rounded = |v: &f32| bf16::from_f32(*v).to_le_bytes();
            let narrow: Vec<u8> = straight.iter().flat_map(rounded).collect();
            for (transposed, expected) in [(false, &straight), (true, &flipped)] {
                let what = format!("{rows}x{columns}, {transposed}");
                for (dtype, bytes) in [(FileDtype::F32, &wide), (FileDtype::BF16, &narrow)] {
                    let bytes = || bytes.clone();
                    let as_f32 = decoded::<f32>(dtype, [rows, columns], bytes(), transposed);
                    assert!(as_f32.as_ref() == Some(expected), "{what}, {dtype}");
                    let as_bf16 = decoded::<bf16>(dtype, [rows, columns], bytes(), transposed);
                    let as_bf16: Vec<f32> = as_bf16.unwrap().iter().map(|v| v.to_f32()).collect();
                    assert!(as_bf16 == *expected, "{what}, {dtype} as bf16");
                }
            }
        }
    }

    #[test]
    fn rejects_overflow_to_infinity_and_keeps_infinities() {
        let [rows, columns] = [200, 40];
        for position in [0, 39, 4000, rows * columns - 1] {
            for (value, fits) in [(1e30, false), (f32::INFINITY, true), (f32::NAN, true)] {
                let mut values = vec![1.0f32; rows * columns];
                values[position] = value;
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                for transposed in [false, true] {
                    let narrow =
                        decoded::<f16>(FileDtype::F32, [rows, columns], bytes.clone(), transposed);
                    assert_eq!(narrow.is_some(), fits, "{value} at {position}, {transposed}");
                    let odd = narrow.unwrap_or_default();
                    assert_eq!(odd.iter().filter(|v| !v.is_finite()).count(), usize::from(fits));
                }
            }
        }
    }
}
