//! End-to-end tests of the program: outputs, messages, refusals.
#![forbid(unsafe_code)]

mod bench;
mod conformance;
#[cfg(feature = "train")]
mod cost;
#[cfg(feature = "train")]
mod eval;
#[cfg(feature = "train")]
mod gedit;
mod help;
mod init;
#[cfg(feature = "train")]
mod plans;
mod precision;
mod program;
#[cfg(all(unix, feature = "train"))]
mod run_files;

#[cfg(feature = "train")]
use editmgt_tests::images;
