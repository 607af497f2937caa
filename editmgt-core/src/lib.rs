//! The shared types of editmgt: the data that passes between the stages of an edit, and a trait for
//! each stage. This crate has no layers and reads no files.
//!
//! ```text
//! photo ─────► VqCodec::encode ──────► reference TokenGrid ─┐
//! instruction ► TextEncoder::encode ─► TextConditioning ────┤
//!                                                           ▼
//!      ┌───────────────────────────► StepInput ► MgtTransformer::forward
//!      │                                             │            │
//!      │                                          logits     AttentionMaps
//!      │                                             │            ▼
//!      │                                             │  AttentionConsolidator ► ScoreMap
//!      │                                             │            ▼
//!      │                                             │     RegionHold ► HoldMask
//!      │                                             ▼            │
//!      └── TokenGrid ◄── UnmaskScheduler::step ◄── StepState ◄────┘
//!              │
//!              └──► VqCodec::decode ──► image
//! ```
//!
//! Large data (images, hidden states, logits) are burn tensors and stay on their device. Small data
//! (token ids, score maps, hold masks, confidences: a few thousand values per step) are host
//! vectors, so that every decision about them is the same on every backend.
//!
//! All traits are object-safe: an editor holds `Box<dyn VqCodec>`, `Box<dyn TextEncoder>`, … and
//! each of them can be replaced by another implementation.
#![forbid(unsafe_code)]

mod attention;
mod cached;
mod codec;
pub mod config;
mod error;
mod grid;
mod keys;
mod noise;
mod observer;
mod progress;
mod region;
mod schedule;
mod shared;
mod step_plan;
mod text;
mod tiling;
mod transfer;
mod transformer;

pub use attention::{AttentionMaps, AttentionRequest, ItemRows, TextRows};
pub use cached::{ActiveRows, CacheDtype, StepCache, StepWork};
pub use codec::{CodecSpec, VqCodec};
pub use error::{Error, Result};
pub use grid::{GridSize, TokenGrid};
pub use keys::KeyMap;
pub use noise::{ChaChaNoise, NoiseRequest, NoiseSource, StepNoise, TokenDraw};
pub use observer::{EditEvent, EditObserver, Flow, Previews, Silent, Stage};
pub use progress::LoopProgress;
pub use region::{
    AttentionConsolidator, CellScores, HoldMask, HoldRequest, MapCombine, RegionHold, ScoreMap,
    ScoreStats, UserMask,
};
pub use schedule::{Schedule, ScheduleRequest, StepResult, StepState, UnmaskScheduler};
pub use step_plan::StepPlan;
pub use text::{TextConditioning, TextEncoder, TextSpec, Truncation};
pub use tiling::Tiling;
pub use transfer::{Transfers, Upload, UploadPart, Uploaded, read_back};
pub use transformer::{
    MgtTransformer, MicroConditions, ReferenceInput, StepInput, StepOutput, TransformerSpec,
};
