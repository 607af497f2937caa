//! aMUSEd's family: `UVit2DModel` of diffusers.
//!
//! ```text
//! canvas ids ─► TokenEmbedding ─► DownBlock ─► RMS norm ► linear ─► TransformerLayer × n
//!               row ► norm ► 1x1   PatchDown (2x2, optional)         AdaNorm ► self attention
//!                                  (ConvBlock ► TextAttention) × m   AdaNorm ► attention to text
//!                                                                    AdaNorm ► GEGLU
//!                                                                             │
//! logits [B, H*W, V] ◄─ MlmHead ◄─ UpBlock ◄───────────── linear ◄ RMS norm ◄─┘
//!                                  (ConvBlock ► TextAttention) × m
//!                                  PatchUp (2x2, optional)
//! ```
//!
//! Pooled text and micro-conditions give the one vector that every convolutional block and every
//! norm of a layer is modulated by. There is no timestep, no position embedding, no attention mask,
//! and no stream for a reference: what is masked the model sees in the tokens, and where a token
//! lies only through the 3x3 convolutions.
//!
//! Source: aMUSEd (arXiv 2401.01808), from diffusers.

mod attention;
mod capture;
mod config;
mod conv_block;
mod layer;
mod model;
mod modulation;
mod stack;
#[cfg(test)]
mod tests;
mod trace;

pub use config::UVit2DConfig;
pub use model::UVit2DModel;
pub use trace::{LayerPart, Stack, UVit2DPoint};
