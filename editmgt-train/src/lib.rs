//! Data, losses and the training loops of editmgt.
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod codec;
pub mod data;
pub mod edit;
pub mod run;
#[cfg(test)]
mod small_model_tests;
