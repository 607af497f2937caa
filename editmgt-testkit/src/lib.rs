//! Contract checks and tiny fakes for people who write a stage of editmgt.
//!
//! Each of the seven traits of [`editmgt_core`] has a check that runs an implementation over a
//! table of cases and fails with the rule that it broke:
//!
//! | trait | check |
//! |---|---|
//! | [`UnmaskScheduler`](editmgt_core::UnmaskScheduler) | [`assert_scheduler_contract`] |
//! | [`AttentionConsolidator`](editmgt_core::AttentionConsolidator) | [`assert_consolidator_contract`] |
//! | [`RegionHold`](editmgt_core::RegionHold) | [`assert_hold_contract`] |
//! | [`NoiseSource`](editmgt_core::NoiseSource) | [`assert_noise_contract`] |
//! | [`VqCodec`](editmgt_core::VqCodec) | [`assert_codec_contract`] |
//! | [`TextEncoder`](editmgt_core::TextEncoder) | [`assert_text_encoder_contract`] |
//! | [`MgtTransformer`](editmgt_core::MgtTransformer) | [`assert_transformer_contract`] |
//!
//! The `check_…` functions return the violation instead of panicking. The [`fakes`] are small,
//! deterministic implementations that fit together: an editor over them runs in milliseconds.
//!
//! ```
//! use burn::tensor::Device;
//! use editmgt_testkit::{assert_codec_contract, fakes::ColourCodec};
//!
//! let device = Device::flex();
//! assert_codec_contract(&ColourCodec::new(&device), &device);
//! ```
#![forbid(unsafe_code)]

mod contract;
pub mod fakes;

pub use contract::{
    ContractViolation, SchedulerRules, assert_codec_contract, assert_consolidator_contract,
    assert_hold_contract, assert_noise_contract, assert_scheduler_contract,
    assert_text_encoder_contract, assert_transformer_contract, check_codec, check_consolidator,
    check_hold, check_noise, check_scheduler, check_text_encoder, check_transformer,
};
