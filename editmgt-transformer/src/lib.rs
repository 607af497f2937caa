//! Masked generative transformers (MGT): they predict every token of a canvas from the canvas
//! itself and text; those of EditMGT also from the tokens of a reference photo, appended as
//! condition tokens.
//!
//! There are two families behind [`MgtTransformer`](editmgt_core::MgtTransformer), each in a folder
//! of its own, which [`TransformerConfig`] tells apart by their class: Meissonic's ([`MgtModel`]:
//! Meissonic, EditMGT, Monetico, the image path of Muddit) and aMUSEd's ([`UVit2DModel`]). What
//! both have is beside the folders: token embedding, 2x2 merging, RMS norm, embedded numbers, head.
//!
//! # Meissonic's family
//!
//! ```text
//! canvas ids ────┐                                      text [B,T,·]   pooled [B,P]  micro  timestep
//! reference ids ─┤                                           │             └─────┬─────┘       │
//!        TokenEmbedding                                  connector          cond_embed         │
//!   row ► RMS norm ► 1x1 conv                         context_embedder           └──────┬──────┘
//!                │                                           │                 TimeTextEmbedding
//!        PatchDown (2x2, optional)                           │                          │
//!        RMS norm ► linear                                   │               one vector per stream
//!                │                                           │               (reference: timestep 0)
//!                ├────────── image, reference ───────────────┤                          │
//!                ▼                                           ▼                          │
//!        DoubleBlock × n   three streams, text has its weights ◄────────────────────────┤
//!                ▼                                                                      │
//!        SingleBlock × m   [text, image] joined, reference beside it ◄──────────────────┘
//!                ▼ image rows
//!        RMS norm ► linear ► PatchUp (2x2, optional) ► MlmHead ──► logits [B, H*W, V]
//! ```
//!
//! In every block all streams attend to each other over the keys `[text, image, reference]`;
//! the reference strength scales the attention between the reference and the other streams, and
//! text-to-image attention can be captured.
//!
//! Module fields mirror the keys of the official checkpoint; [`MgtConfig::keys`] lists the
//! exceptions.
//!
//! Activations are tokens with channels last, `[B, N, D]`, from the embedding to the logits, so
//! that every 1x1 and 2x2 convolution of the official model is a matrix product.
//!
//! ```
//! use burn::tensor::Device;
//! use editmgt_core::MgtTransformer;
//! use editmgt_transformer::MgtConfig;
//!
//! // Parameters are lazy: none of the full-size model is allocated until it is loaded or run.
//! let model = MgtConfig::official().init(&Device::flex())?;
//! assert_eq!(model.spec().blocks(), 42);
//! # Ok::<(), editmgt_core::config::ConfigError>(())
//! ```
#![forbid(unsafe_code)]

mod amused;
mod conditioning;
mod embedding;
mod family;
mod head;
mod meissonic;
mod norm;
mod requested;
mod resample;

pub use amused::{LayerPart, Stack, UVit2DConfig, UVit2DModel, UVit2DPoint};
pub use family::TransformerConfig;
pub use meissonic::{
    Connector, LinearLayer, Lora, LoraFactors, LoraStreams, MgtConfig, MgtModel, TextArchitecture,
    Trace, TrainingOutput,
};
