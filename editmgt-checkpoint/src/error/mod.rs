mod header;
mod pickle;

use std::path::{Path, PathBuf};

use burn::tensor::DType;

pub use header::HeaderError;
pub use pickle::PickleError;

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

    /// The folder's only weights are PyTorch's, and they are not read: this build lacks the feature
    /// `pytorch`, or no name says which of the files are the weights.
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

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
