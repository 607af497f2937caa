//! Meissonic's family: Meissonic, EditMGT, Monetico and the image path of Muddit.

mod attention;
mod cached;
mod capture;
mod config;
mod connector;
mod double_block;
mod feed_forward;
mod lora;
mod memo;
mod model;
mod modulation;
mod pass;
mod position;
mod rope;
mod rows;
mod single_block;
#[cfg(test)]
pub(crate) mod tests;
mod time_text;
mod trace;

pub use config::{Connector, MgtConfig, TextArchitecture};
pub use lora::{LinearLayer, Lora, LoraFactors, LoraStreams};
pub use model::{MgtModel, TrainingOutput};
pub use trace::Trace;
