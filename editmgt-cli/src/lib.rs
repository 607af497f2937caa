//! Options, file handling and failure messages shared by `editmgt` and `editmgt-lab`. For these two
//! programs only; its interface changes with them.
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod failure;
pub mod files;
pub mod lock;
pub mod model;
pub mod number;
pub mod options;

pub use failure::Outcome;
