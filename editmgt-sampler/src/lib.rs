//! The loop of an edit ([`EditLoop`], with the algorithm as pseudo-code) and the stages between
//! logits and tokens: mask schedules, guidance, unmasking, and the localisation of an edit from
//! attention.
//!
//! ```text
//! [2B, N, V] logits ──classifier_free_guidance──► [B, N, V] ─┐
//! AttentionMaps ──Consolidator──► ScoreMap ──RegionHold──► HoldMask
//! SchedulerConfig + Temperature ──plan──► Schedule ──────────┤
//!                                                            ▼
//!                                      Parity or Strict: UnmaskScheduler::step ──► TokenGrid
//! ```
//!
//! Only the softmax and the draw run on the device. Confidences, score maps and hold masks are a
//! few thousand values, computed on the host in f32, so that decisions don't depend on the device.
#![forbid(unsafe_code)]

mod add_noise;
mod config;
mod edit_loop;
mod guidance;
mod hold;
mod localisation;
mod schedule;
mod strength;
mod unmask;

pub use add_noise::add_noise;
pub use config::SchedulerConfig;
pub use edit_loop::{EditLoop, Localisation, LoopInput, LoopStages, LoopStep};
pub use guidance::{check_guidance_interval, classifier_free_guidance};
pub use hold::{
    AutoThreshold, HoldAny, HoldAuto, HoldBudget, HoldMargin, HoldOff, HoldThreshold, HoldUserMask,
};
pub use localisation::{Consolidator, Filter, MAX_STRENGTH, Smoothing};
pub use schedule::{MaskingSchedule, Temperature, Timesteps};
pub use strength::StrengthStart;
pub use unmask::{Parity, Strict};
