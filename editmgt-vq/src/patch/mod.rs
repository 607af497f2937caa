//! The patch-local codec: a token depends on its own patch of the image and on nothing else.
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
//!   │ decoder: 3x3 convolutions, each level doubles the size: it looks around
//!   ▼
//! [B, 3, H, W] RGB, clipped to 0..1
//! ```
//!
//! The official codec's group norms mix the whole image into every token, so the same patch gets
//! different tokens in different pictures and an edit changes tokens far away from it. Here the
//! same patch has the same token wherever it stands, which is what lets a small transformer learn
//! edits from few examples.

mod config;
mod decoder;
mod encoder;
mod model;

pub use config::PatchVqConfig;
pub use model::PatchVqModel;
