//! Image and caption encoders (CLIP and DINO, from local checkpoints), and similarity metrics of
//! edits by their features.
//!
//! ```text
//! image ─► Preparation ─► [B,3,H,W] ─► vision tower of CLIP ─┐
//! caption ─► PromptTokenizer ─► [B,L] ─► text tower of CLIP ───┼► features ─► cosines
//! image ─► Preparation ─► [B,3,H,W] ─► DINO ─────────────────┘
//! ```
//!
//! A checkpoint is a folder in the layout of the Hugging Face hub: `config.json`, weights in
//! safetensors, `preprocessor_config.json` and, for CLIP, a tokeniser. It is validated as strictly
//! as the editor's own. Features equal those of the library `transformers`, in f32 whatever the
//! dtype of the weights.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use editmgt_eval::encoders::Dino;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (a, b) = (image::RgbImage::new(1, 1), image::RgbImage::new(1, 1));
//! let dino = Dino::open(Path::new("models/dino-vits16"), &editmgt::open_device("cpu")?)?;
//! let features = dino.images(&[&a, &b])?;
//! assert_eq!(features[0].len(), 384);
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod bad_folders;
mod clip;
mod config;
mod dino;
mod preparation;
mod similarity;
#[cfg(test)]
mod tests;
mod tower;

/// Result of a network's stage.
pub(crate) type Result<T, E = editmgt::Error> = std::result::Result<T, E>;

pub use clip::Clip;
pub use dino::Dino;
pub use similarity::{Compared, Encoders, WithSimilarity};

/// Images per encoder batch; larger batches only take more memory.
const BATCH: usize = 8;
