use crate::FileDtype;

/// An invalid header of a safetensors file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is too short for a header.
    #[error("not a safetensors file: {len} bytes, expected at least 8")]
    TooShort {
        /// Length of the file in bytes.
        len: u64,
    },
    /// The header exceeds the limit of the safetensors library.
    #[error(
        "not a safetensors file (perhaps a pointer to one, or a web page): a header of {len} \
         bytes, expected at most {limit}"
    )]
    TooLarge {
        /// The length stated in the file.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// The header ends after the file does.
    #[error("truncated: a header of {len} bytes in a file of {file} bytes")]
    PastEnd {
        /// The length stated in the file.
        len: u64,
        /// Length of the file in bytes.
        file: u64,
    },
    /// The header is not JSON of the expected form, or has a duplicate key.
    #[error("malformed header: {0}")]
    Json(String),
    /// The data of two tensors overlap or leave a gap.
    #[error("{key:?}: expected data from offset {expected}, got {start}..{end}")]
    Offsets {
        /// The key.
        key: String,
        /// Expected start of its data.
        expected: u64,
        /// Actual start.
        start: u64,
        /// Actual end.
        end: u64,
    },
    /// The length of a tensor's data doesn't match its shape and dtype.
    #[error("{key:?}: {dtype} {shape:?} does not fill {bytes} bytes")]
    Size {
        /// The key.
        key: String,
        /// Its dtype.
        dtype: FileDtype,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that the header gives it.
        bytes: u64,
    },
    /// The length of the data section doesn't match the tensors.
    #[error("truncated or trailing bytes: expected {expected} bytes of data, got {got}")]
    DataLength {
        /// Total length of all tensors.
        expected: u64,
        /// Bytes after the header.
        got: u64,
    },
}
