//! A small text encoder with a closed vocabulary, made to be trained together with a transformer.
//!
//! It reads whole words. What it has no word for is an error that names the word: a model of a
//! hundred words must not guess.

mod config;
mod encoder;
mod model;
mod tokenizer;

pub use config::SmallTextConfig;
pub use encoder::SmallTextEncoder;
pub use model::SmallText;
pub use tokenizer::{Vocabulary, WordTokenizer};
