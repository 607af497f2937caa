//! Meissonic's family: Meissonic, EditMGT, Monetico and the image path of Muddit.

mod attention;
mod capture;
mod config;
mod connector;
mod double_block;
mod feed_forward;
pub(crate) mod lora;
mod model;
pub(crate) mod pass;
mod rope;
pub(crate) mod rows;
mod single_block;
#[cfg(test)]
mod tests;
mod trace;

pub use config::{Connector, MgtConfig, TextArchitecture};
pub use lora::{LinearLayer, Lora, LoraFactors, LoraStreams};
pub use model::{MgtModel, TrainingOutput};
pub use trace::Trace;
