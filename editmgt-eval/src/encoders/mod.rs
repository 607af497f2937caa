//! Pictures and captions as networks see them: CLIP and DINO, from checkpoints of the user's, and
//! how similar an edited picture is to others in their eyes.
//!
//! ```text
//! picture ─► Preparation ─► [B,3,H,W] ─► vision tower of CLIP ─┐
//! caption ─► PromptTokenizer ─► [B,L] ─► text tower of CLIP ───┼► features ─► cosines
//! picture ─► Preparation ─► [B,3,H,W] ─► DINO ─────────────────┘
//! ```
//!
//! A checkpoint is a folder in the layout of the Hugging Face hub: `config.json`, weights in
//! safetensors, `preprocessor_config.json` and, for CLIP, a tokeniser. It is read as strictly as
//! those of the editor are. Features are those of the library `transformers`, in f32 whatever the
//! type of the weights.
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

/// What a stage of a network gives.
pub(crate) type Result<T, E = editmgt::Error> = std::result::Result<T, E>;

pub use clip::Clip;
pub use dino::Dino;
pub use similarity::{Compared, Encoders, WithSimilarity};

/// Pictures that are encoded at once: more would only take more memory.
const BATCH: usize = 8;
