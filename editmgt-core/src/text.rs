use std::fmt;
use std::ops::Range;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Text features of a batch of prompts.
#[derive(Debug, Clone)]
pub struct TextConditioning {
    /// `[B, L, D]`: one row per token of the encoder's padded sequence.
    pub hidden: Tensor<3>,
    /// `[B, P]`: one vector per prompt.
    pub pooled: Tensor<2>,
}

impl TextConditioning {
    /// Number of prompts.
    pub fn batch(&self) -> usize {
        self.hidden.dims()[0]
    }

    /// Rows per prompt, padding included.
    pub fn rows(&self) -> usize {
        self.hidden.dims()[1]
    }

    /// Concatenates batches.
    ///
    /// # Errors
    /// [`Error::Shape`] if `parts` is empty, or rows or widths differ.
    pub fn cat(parts: &[&Self]) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(Error::shape("text features", "at least one batch", 0));
        };
        let widths = |part: &Self| {
            let ([_, rows, width], [_, pooled]) = (part.hidden.dims(), part.pooled.dims());
            [rows, width, pooled]
        };
        for part in parts {
            if widths(part) != widths(first) {
                return Err(Error::shape(
                    "text features [rows, width, pooled width]",
                    format!("{:?}", widths(first)),
                    format!("{:?}", widths(part)),
                ));
            }
        }
        Ok(Self {
            hidden: Tensor::cat(parts.iter().map(|part| part.hidden.clone()).collect(), 0),
            pooled: Tensor::cat(parts.iter().map(|part| part.pooled.clone()).collect(), 0),
        })
    }

    /// The same features for each of `times` copies: `[a, b]` becomes `[a, b, a, b]`.
    pub fn repeat(&self, times: usize) -> Self {
        Self {
            hidden: self.hidden.clone().repeat_dim(0, times),
            pooled: self.pooled.clone().repeat_dim(0, times),
        }
    }
}

/// The sizes of a text encoder's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSpec {
    /// `L`: rows per prompt, padding included.
    pub rows: usize,
    /// `D`: width of a row.
    pub hidden_size: usize,
    /// `P`: width of the pooled vector.
    pub pooled_size: usize,
}

/// The part of a prompt that an encoder leaves out because its sequence is full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// The encoder, for instance `CLIP`.
    pub encoder: String,
    /// Tokens of its sequence, special tokens included.
    pub tokens: usize,
    /// The part that is left out, as a range of characters of the prompt.
    pub characters: Range<usize>,
    /// The same as text.
    pub text: String,
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More is for the report.
        const SHOWN: usize = 200;
        let Self { encoder, tokens, characters, text } = self;
        let Range { start, end } = characters;
        let shown = text.char_indices().nth(SHOWN).map_or(&**text, |(at, _)| &text[..at]);
        let more = if shown.len() < text.len() { "…" } else { "" };
        write!(
            f,
            "{encoder} reads {tokens} tokens; characters {start}..{end} are left out: {shown:?}{more}"
        )
    }
}

/// Turns prompts into features.
pub trait TextEncoder: Send + Sync {
    /// The shapes of what [`encode`](Self::encode) returns.
    fn spec(&self) -> TextSpec;

    /// Encodes a batch of prompts; an empty prompt is allowed (it is the usual negative).
    /// Text beyond the encoder's length is cut off.
    ///
    /// # Shapes
    /// `B` prompts, to `[B, L, D]` and `[B, P]` of [`spec`](Self::spec).
    ///
    /// # Errors
    /// [`Error::Stage`] with the tokeniser's error, [`Error::Shape`] for an empty batch.
    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning>;

    /// Encodes each prompt in a batch of one, as an edit does with its instruction and its negative
    /// prompt. An encoder of several components that don't fit into memory together can override
    /// it, to run each component on all prompts before it loads the next.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    fn encode_each(&self, prompts: &[&str]) -> Result<Vec<TextConditioning>> {
        prompts.iter().map(|prompt| self.encode(&[prompt])).collect()
    }

    /// Where every occurrence of `phrase` stands in `prompt`: ranges of rows of
    /// [`TextConditioning::hidden`], the very sequence that the attention indexes. Whole words,
    /// letter case ignored. Never empty.
    ///
    /// # Errors
    /// [`Error::PhraseNotFound`] when the phrase is empty, does not occur as whole words, or every
    /// occurrence was cut off.
    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>>;

    /// What is left out of `prompt`, for each encoder that leaves something out. The default is
    /// for encoders that read or refuse the whole text.
    ///
    /// # Errors
    /// [`Error::Stage`] with the tokeniser's error.
    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        let _ = prompt;
        Ok(Vec::new())
    }

    /// The rows that the prompt itself fills: neither padding nor special tokens. Empty for an
    /// empty prompt.
    ///
    /// # Errors
    /// [`Error::Stage`] with the tokeniser's error.
    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>>;
}
