//! The text encoders of editmgt: an instruction becomes the rows that the transformer attends to
//! and the pooled vector that modulates its blocks.
//!
//! ```text
//!            ┌► PromptTokenizer::clip ──► ClipText ─┬► penultimate [B,77,D]  (hidden of "CLIP")
//!  prompt ───┤                                      └► text_embeds [B,P]     (pooled, always)
//!            └► PromptTokenizer::gemma ─► Gemma2 ────► penultimate [B,256,D] (hidden of "CLIP_Gemma2")
//! ```
//!
//! [`ClipEncoder`] and [`ClipGemma2Encoder`] put these together behind
//! [`TextEncoder`](editmgt_core::TextEncoder), named like the two architectures of the official
//! transformer config. Both also find the rows of a phrase
//! ([`spans`](editmgt_core::TextEncoder::spans)), which steers the localisation.
//!
//! [`SmallTextEncoder`] is a third: a closed vocabulary of words and a few layers, small enough to
//! be trained together with a transformer.
//!
//! ```
//! use burn::{module::Module, tensor::Device};
//! use editmgt_text::Gemma2Config;
//!
//! // Nothing is allocated until a parameter is used, so even the full model is free to look at.
//! # fn main() -> Result<(), editmgt_core::config::ConfigError> {
//! let model = Gemma2Config::official().init_complete(&Device::flex())?;
//! assert_eq!(model.num_params(), 2_614_341_888);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod activation;
mod clip;
mod encoder;
mod gemma2;
mod ids;
mod limits;
mod precision;
mod small;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use activation::Activation;
pub use clip::{ClipOutput, ClipText, ClipTextConfig};
pub use encoder::{ClipEncoder, ClipGemma2Encoder, DEFAULT_NEGATIVE_PROMPT};
pub use gemma2::{Gemma2, Gemma2Complete, Gemma2Config};
pub use ids::TokenIds;
pub use small::{SmallText, SmallTextConfig, SmallTextEncoder, Vocabulary, WordTokenizer};
pub use tokenizer::{
    CLIP_LENGTH, GEMMA_LENGTH, PromptTokenizer, TokenizerError, clip_keyword_rows,
};
