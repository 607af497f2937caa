//! Fuzz targets for every reader of untrusted bytes, and a runner for them on stable Rust.
//!
//! A [`Target`] is a plain function over bytes, shared by [`run`] and by the libFuzzer wrapper in
//! `libfuzzer/`. An input is a pure function of target, seed and index, so that a failure is
//! repeated by its index.
#![forbid(unsafe_code)]

mod mutate;
mod runner;
mod targets;

pub use mutate::{Form, Mutator};
pub use runner::{Failure, RunOptions, Summary, corpus, run};
pub use targets::{TARGETS, Target, target};
