//! Tools for people who port a checkpoint, write a stage or try a device with [`editmgt`].
//!
//! | module | question |
//! |---|---|
//! | [`verify`] | Does a stage, or the whole pipeline, give the values of a golden folder? |
//! | [`conformance`] | Does a device compute what the CPU computes, and what does half precision cost? |
//! | [`mod@bench`] | How long does each stage of an edit take, and how do whole edits grow in time and memory? |
//! | [`inspect`] | What are the components of a model, their sizes and memory needs? |
//! | [`init`] | Write a model with random weights in the official layout. |
//!
//! [`process`] reads from the system what this process has used.
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod bench;
pub mod conformance;
pub mod init;
pub mod inspect;
pub mod process;
pub mod verify;
