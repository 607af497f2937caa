use std::path::{Path, PathBuf};

use editmgt_checkpoint::CheckpointError;

/// Why a LoRA adapter cannot be read, written or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A file cannot be written, locked or read.
    #[error(transparent)]
    Store(editmgt_store::StoreError),
    /// A malformed config.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An unsupported kind of adapter.
    #[error("{}: {key}: expected {expected}, got {got}", path.display())]
    Unsupported {
        /// The config.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The supported values.
        expected: &'static str,
        /// The value.
        got: String,
    },
    /// The weights' file.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// A tensor with an unknown name.
    #[error(
        "{}: {key:?}: expected base_model.model.<layer> or transformer.<layer> with .lora_A.weight and \
         .lora_B.weight, or lora_unet_<layer> or lora_transformer_<layer> with .lora_down.weight, \
         .lora_up.weight and .alpha",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The name.
        key: String,
    },
    /// A folder without an adapter, or a file without tensors.
    #[error(
        "{}: expected a file of adapter weights (x.safetensors), or a folder with \
         adapter_config.json and adapter_model.safetensors or with one .safetensors file, found {}",
        path.display(), if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    )]
    NoAdapter {
        /// The folder or file.
        path: PathBuf,
        /// The safetensors files in it.
        found: Vec<String>,
    },
    /// A layer with only one of its factors.
    #[error("{}: the layer {layer} has only one of lora_A and lora_B", path.display())]
    Half {
        /// The file.
        path: PathBuf,
        /// The layer.
        layer: String,
    },
    /// Factors of another rank than the adapter's, or not matrices.
    #[error("{}: {layer}: expected A [{rank}, ...] and B [..., {rank}], got {a:?} and {b:?}", path.display())]
    Rank {
        /// The file.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// The rank of the config.
        rank: usize,
        /// Shape of A.
        a: Vec<usize>,
        /// Shape of B.
        b: Vec<usize>,
    },
    /// Layers that the model does not have.
    #[error("{}: the model has no linear layer {}", path.display(), layers.join(", "))]
    UnknownLayers {
        /// The adapter's folder.
        path: PathBuf,
        /// Their names.
        layers: Vec<String>,
    },
    /// Factors of another size than the model's layer.
    #[error(
        "{}: {layer}: expected A [{rank}, {}] and B [{}, {rank}], got [{rank}, {}] and [{}, {rank}]",
        path.display(), expected.0, expected.1, got.0, got.1
    )]
    Size {
        /// The adapter's folder.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// The adapter's rank.
        rank: usize,
        /// Inputs and outputs of the model's layer.
        expected: (usize, usize),
        /// Inputs and outputs that the factors are for.
        got: (usize, usize),
    },
    /// The model rejects the adapter.
    #[error("{}: {cause}", path.display())]
    Model {
        /// The adapter's folder.
        path: PathBuf,
        /// The cause.
        cause: editmgt_core::Error,
    },
    /// A text that is not `PATH[:SCALE[:STREAMS]]`.
    #[error("{text:?}: expected PATH[:SCALE[:STREAMS]], with image, reference or both as streams")]
    Choice {
        /// The text.
        text: String,
    },
}

impl From<editmgt_store::StoreError> for LoraError {
    fn from(error: editmgt_store::StoreError) -> Self {
        match error {
            editmgt_store::StoreError::Io { path, cause } => Self::Io { path, cause },
            error => Self::Store(error),
        }
    }
}

impl LoraError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { path, cause }
    }
}
