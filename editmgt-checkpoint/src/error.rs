use std::path::{Path, PathBuf};

use burn::tensor::DType;

use crate::{FileDtype, Mismatch, WeightBits};

/// An error in reading or writing a checkpoint. Every message names the file, and the key if there
/// is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// An I/O error.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file can't be written, locked or read.
    #[error(transparent)]
    Store(editmgt_store::StoreError),

    /// A weights file is not a regular file.
    #[error("{}: expected a regular file", path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },

    /// The folder has no weights under a name of the official layout.
    #[error(
        "{}: expected model.safetensors, diffusion_pytorch_model.safetensors or shards with a \
         *.safetensors.index.json, found {}", dir.display(), list(found)
    )]
    NoWeights {
        /// The folder.
        dir: PathBuf,
        /// Other safetensors files in the folder.
        found: Vec<String>,
    },

    /// The folder's only weights are PyTorch's, and they are not read: this build lacks the feature `pytorch`, or
    /// no name says which of the files are the weights.
    #[error(
        "{}: expected safetensors, found only PyTorch pickles ({}); convert them with `python3 scripts/pickle_to_safetensors.py {}`", dir.display(), list(found), dir.display()
    )]
    OnlyPickles {
        /// The folder.
        dir: PathBuf,
        /// The pickles.
        found: Vec<String>,
    },

    /// The folder has more than one set of weights.
    #[error("{}: several sets of weights ({}); keep one of them", dir.display(), list(found))]
    SeveralWeights {
        /// The folder.
        dir: PathBuf,
        /// One file of each set.
        found: Vec<String>,
    },

    /// The folder has no weights of the requested variant.
    #[error(
        "{}: no weights of the variant {variant:?}, found {}", dir.display(), list(found)
    )]
    NoVariant {
        /// The folder.
        dir: PathBuf,
        /// The variant.
        variant: String,
        /// One file of each set of weights that is there.
        found: Vec<String>,
    },

    /// The folder has several variants of the weights, none of them plain, and none was requested.
    #[error(
        "{}: several variants of the weights ({}); name one with --variant (in the library: \
         LoadOptions::variant)", dir.display(), list(found)
    )]
    SeveralVariants {
        /// The folder.
        dir: PathBuf,
        /// One file of each variant.
        found: Vec<String>,
    },

    /// A file is a link, as in the cache of the hub, whose target is missing.
    #[error(
        "{}: a link to {}, which is not there; download the file again", path.display(),
        target.display()
    )]
    BrokenLink {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },

    /// A file of PyTorch is malformed, or holds more than tensors.
    #[error("{}: {cause}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: PickleError,
    },

    /// The header of a safetensors file is malformed.
    #[error("{}: {cause}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: HeaderError,
    },

    /// The index of a sharded checkpoint is malformed.
    #[error("{}: not a shard index: {message}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// The index names a shard that is not a file name in its own folder.
    #[error(
        "{}: shard {shard:?}: expected the name of a file in the same folder", index.display()
    )]
    ShardName {
        /// The index.
        index: PathBuf,
        /// The name.
        shard: String,
    },

    /// A shard of the index is missing.
    #[error("{}: the shard {shard:?} is missing; download it, too", index.display())]
    MissingShard {
        /// The index.
        index: PathBuf,
        /// The name.
        shard: String,
    },

    /// The index says that a shard holds a key, and it does not.
    #[error("{}: {key:?} should be in the shard {shard:?} and is not", index.display())]
    NotInShard {
        /// The index.
        index: PathBuf,
        /// The key.
        key: String,
        /// The name of the shard.
        shard: String,
    },

    /// A shard holds a key that the index doesn't name.
    #[error("{}: {key:?} is in the shard {shard:?} and not in the index", index.display())]
    NotInIndex {
        /// The index.
        index: PathBuf,
        /// The key.
        key: String,
        /// The name of the shard.
        shard: String,
    },

    /// Two shards hold the same key.
    #[error("{key:?} is in both {} and {}", first.display(), second.display())]
    DuplicateKey {
        /// The key.
        key: String,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },

    /// The keys or shapes of the weights don't match the module.
    #[error(transparent)]
    Mismatch(Mismatch),

    /// A parameter's tensor is not a float of a supported width.
    #[error("{}: {key:?}: expected F32, F16 or BF16, got {got}", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The dtype in the file.
        got: FileDtype,
    },

    /// A tensor of a quantised weight has another dtype than the config's bits require.
    #[error("{}: {key:?}: a weight in {bits}: expected {expected}, got {got}", path.display())]
    QuantizedDtype {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the config says.
        bits: WeightBits,
        /// The dtype that these bits require.
        expected: FileDtype,
        /// The dtype in the file.
        got: FileDtype,
    },

    /// The data of a quantised weight are invalid.
    #[error("{}: {key:?}: {problem}", path.display())]
    QuantizedData {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong.
        problem: &'static str,
    },

    /// The config says that weights are quantised, and none is.
    #[error(
        "{}: the config says that weights are in {bits}, but none of them is; is it another model's config?", dir.display()
    )]
    NotQuantized {
        /// The folder.
        dir: PathBuf,
        /// What the config says.
        bits: WeightBits,
    },

    /// A weight cannot be quantised.
    #[error(
        "{}: {key:?}: a weight that is not finite, or is too large for a scale in f16, cannot be \
         quantised", path.display()
    )]
    Unquantizable {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },

    /// A finite weight overflows the requested dtype.
    #[error("{}: {key:?}: a weight does not fit {dtype:?}; use bf16 or f32", path.display())]
    TooNarrow {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The requested dtype.
        dtype: DType,
    },

    /// The requested dtype is not f32, f16 or bf16.
    #[error("weights as {got:?}: expected F32, F16 or BF16")]
    UnsupportedDtype {
        /// The requested dtype.
        got: DType,
    },

    /// The module's device doesn't support the requested dtype.
    #[error("weights as {dtype:?}: {device} can't compute with it; use f32 or another device")]
    DeviceDtype {
        /// The device.
        device: String,
        /// The requested dtype.
        dtype: DType,
    },

    /// A pattern of the key map is not a valid regular expression.
    #[error("key map: {pattern:?}: {message}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The parser's message.
        message: String,
    },

    /// The key map maps two parameters to the same key.
    #[error("key map: {first:?} and {second:?} both become {key:?}")]
    SameKey {
        /// The key.
        key: String,
        /// Path of the first parameter.
        first: String,
        /// Path of the second parameter.
        second: String,
    },

    /// A tensor that can't be written to a checkpoint.
    #[error("{key:?}: {message}")]
    Spec {
        /// The key.
        key: String,
        /// What is wrong.
        message: &'static str,
    },

    /// The output folder is not empty.
    #[error("{}: expected a new or empty folder; nothing was written", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },

    /// Reading a weight from the device failed.
    #[error("{key:?}: the device failed: {message}")]
    Device {
        /// The key.
        key: String,
        /// The backend's error message.
        message: String,
    },

    /// The module has a parameter that is not a float tensor.
    #[error("parameter {path:?}: only float parameters can be loaded")]
    NotFloat {
        /// Path of the parameter in the module.
        path: String,
    },
}

impl From<editmgt_store::StoreError> for CheckpointError {
    fn from(error: editmgt_store::StoreError) -> Self {
        match error {
            editmgt_store::StoreError::Io { path, cause } => Self::Io { path, cause },
            error => Self::Store(error),
        }
    }
}

impl CheckpointError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { path, cause }
    }
}

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

/// An invalid file of PyTorch. Nothing that its pickle names is called, whatever the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// Neither of the formats of `torch.save`.
    #[error(
        "not a file that torch.save writes (perhaps a pointer to one, or a web page): expected a ZIP archive, or the \
         format before PyTorch 1.6"
    )]
    Format,
    /// The format before PyTorch 0.1.10.
    #[error("a TAR archive, as PyTorch wrote before 0.1.10; save it again with a newer version")]
    Tar,
    /// The ZIP archive is damaged.
    #[error("truncated or damaged: {0}")]
    Zip(String),
    /// A compressed entry, which may fill any memory.
    #[error("{entry:?} is compressed, which torch.save never does")]
    Compressed {
        /// The entry.
        entry: String,
    },
    /// The archive has no pickle, or several.
    #[error("expected one data.pkl in the archive, found {count}")]
    Pickles {
        /// How many it has.
        count: usize,
    },
    /// The pickle ends early.
    #[error("truncated: the pickle has no end")]
    Truncated,
    /// The pickle is longer than the names and shapes of any weights.
    #[error("a pickle of more than {limit} bytes, where weights take less")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// The pickle has more opcodes than the names and shapes of any weights.
    #[error("a pickle of more than {limit} opcodes, where weights take fewer")]
    TooManyOpcodes {
        /// The limit.
        limit: u64,
    },
    /// Another protocol than PyTorch's.
    #[error("pickle protocol {protocol}, expected 2, which torch.save writes by default")]
    Protocol {
        /// The protocol.
        protocol: u8,
    },
    /// An opcode that the pickle of weights doesn't have.
    #[error("opcode {code:#04x} at byte {at} of the pickle, which tensors by name don't need")]
    Opcode {
        /// The opcode.
        code: u8,
        /// Where it is.
        at: u64,
    },
    /// The pickle names a function or class that weights don't refer to.
    #[error(
        "the pickle refers to {name:?}, which tensors by name don't need; it was not called. Save only the state dict, \
         or don't trust the file"
    )]
    Name {
        /// Module and name.
        name: String,
    },
    /// The content of the pickle contradicts itself or the file.
    #[error("{0}")]
    Malformed(String),
    /// The pickle holds no state dict.
    #[error("expected tensors by name, found {found}")]
    NotADict {
        /// Its Python type.
        found: String,
    },
    /// A value of the state dict is no tensor.
    #[error("{key:?}: expected a tensor, found {found}")]
    NotATensor {
        /// The key.
        key: String,
        /// Its Python type.
        found: String,
    },
    /// A tensor repeats its numbers, to a size beyond the file's.
    #[error("{key:?}: a view of {bytes} bytes in a file of {file}")]
    Expanded {
        /// The key.
        key: String,
        /// Bytes of the tensor.
        bytes: u64,
        /// Bytes of the file.
        file: u64,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
