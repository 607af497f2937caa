//! Training of VQ codecs: autoencoder, codebook, and metrics of the tokens.
//!
//! ```text
//! crops of images ► encoder ► latents ─┬─► nearest codes ─► decoder ► crops again
//!                                      │        ▲ (gradients pass straight through)
//!                                      └─► Codebook: each code moves to the mean of the latents
//!                                                    that it is nearest to
//! ```
//!
//! Until [`CodebookOptions::start_at`] the codec is a plain autoencoder; then the codes start as
//! the k-means centres of its latents.

mod codebook;
mod config;
mod data;
mod file;
mod loss;
mod report;
#[cfg(test)]
mod tests;
mod trainable;
mod trainer;

pub use codebook::{Codebook, Latents};
pub use config::{CodebookOptions, CodecTrainingConfig, CropOptions, LossOptions};
pub use data::{ImageSource, PairSource, TrainingImage};
pub use file::CodecRun;
pub use report::{CodecReport, measure};
pub use trainable::TrainableCodec;
pub use trainer::{CodecData, train_codec};
