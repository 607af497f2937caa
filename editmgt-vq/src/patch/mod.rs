//! The patch-local codec: a token depends only on its patch of the image.
//!
//! ```text
//! [B, 3, H, W] RGB 0..1
//!   │ each patch of f x f pixels becomes a row of 3 f² values
//!   │ encoder: linear layers with GELU in between, the same for every row
//!   ▼
//! latents [B, C, H/f, W/f]      f = 2^(levels of the decoder)
//!   │ quantize: the nearest code
//!   ▼
//! tokens [B, H/f, W/f] ─────── to the transformer and back
//!   │ quantize: the codes of the tokens
//!   ▼
//! codes [B, C, H/f, W/f]
//!   │ decoder: 3x3 convolutions over neighbouring tokens; each level doubles the size
//!   ▼
//! [B, 3, H, W] RGB, clipped to 0..1
//! ```
//!
//! The official codec's group norms make every token depend on the whole image, so the same patch
//! has different tokens in different images, and an edit changes distant tokens. Here the same
//! patch always has the same token, so that a small transformer can learn edits from few examples.

mod config;
mod decoder;
mod encoder;
mod model;

pub use config::PatchVqConfig;
pub use model::PatchVqModel;
