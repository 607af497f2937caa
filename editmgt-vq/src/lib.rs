//! The VQ codec: converts images to the visual tokens that the transformer edits, and back.
//!
//! ```text
//! [B, 3, H, W] RGB 0..1
//!   │ encoder: conv_in ► down blocks (residual blocks, then half the size) ► mid ► conv_out
//!   │ quant_conv: 1x1
//!   ▼
//! latents [B, C, H/f, W/f]      f = 2^(resolutions - 1), 16 at full size
//!   │ quantize: the nearest code of the codebook
//!   ▼
//! tokens [B, H/f, W/f] ─────── to the transformer and back
//!   │ quantize: the codes of the tokens
//!   ▼
//! codes [B, C, H/f, W/f]
//!   │ post_quant_conv: 1x1
//!   │ decoder: conv_in ► mid ► up blocks (residual blocks, then twice the size) ► conv_out
//!   ▼
//! [B, 3, H, W] RGB, clipped to 0..1
//! ```
//!
//! [`PatchVqModel`] is a second codec, whose tokens depend only on their patch; a folder's config
//! names its codec ([`CodecConfig`]). The diagram shows the official one, [`VqModel`]: the
//! `VQModel` of diffusers as the official checkpoints configure it, with group norms, SiLU and no
//! attention. Fields are named like the keys of the checkpoint.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use editmgt_core::VqCodec;
//! use editmgt_vq::VqConfig;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = VqConfig {
//!     norm_num_groups: 4,
//!     latent_channels: 8,
//!     num_vq_embeddings: 64,
//!     ..VqConfig::official().with_block_out_channels([8, 16, 16])
//! };
//! let codec = config.init(&Device::flex())?; // lazy random weights
//! let photo = Tensor::<4>::full([1, 3, 24, 40], 0.5, &Device::flex());
//! let tokens = codec.encode(photo)?;
//! assert_eq!((tokens.size().height, tokens.size().width), (6, 10));
//! assert_eq!(codec.decode(&tokens)?.dims(), [1, 3, 24, 40]);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod codec_config;
mod config;
mod decoder;
mod encoder;
mod images;
mod limits;
mod model;
mod norm;
mod patch;
mod quantizer;
mod resample;
mod resnet;
#[cfg(test)]
mod testing;
mod tiles;

pub use codec_config::CodecConfig;
pub use config::VqConfig;
pub use model::VqModel;
pub use patch::{PatchVqConfig, PatchVqModel};
