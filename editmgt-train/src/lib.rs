//! Data, losses and the training loops of editmgt.
#![forbid(unsafe_code)]

mod pair;
pub mod world;

pub use pair::{Category, EditPair};
