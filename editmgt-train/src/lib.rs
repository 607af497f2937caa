//! Data, losses and the training loops of editmgt.
#![forbid(unsafe_code)]

pub mod codec;
pub mod edit;
mod pair;
pub mod run;
pub mod world;

pub use pair::{Category, EditPair};
