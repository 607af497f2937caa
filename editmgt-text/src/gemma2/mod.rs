//! Gemma2, as far as its penultimate hidden state: all that the transformer's text rows need.

mod attention;
mod config;
mod layer;
mod model;
mod norm;
mod rotary;

pub use config::Gemma2Config;
pub use model::{Gemma2, Gemma2Complete};
