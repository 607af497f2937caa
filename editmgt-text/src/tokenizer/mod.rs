//! From a prompt to the ids of a padded sequence, and from a phrase to rows of that sequence.

mod clip;
mod error;
mod files;
mod gemma;
mod keyword;
mod phrase;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use editmgt_core::{Error, Result, Truncation};
use tokenizers::Tokenizer;

pub use clip::CLIP_LENGTH;
pub use error::TokenizerError;
use files::Side;
pub use gemma::GEMMA_LENGTH;
pub use keyword::clip_keyword_rows;

use crate::TokenIds;

/// Splits prompts into the tokens of one encoder, all padded or cut to one length. A clone shares
/// the vocabulary.
#[derive(Debug, Clone)]
pub struct PromptTokenizer {
    tokenizer: Arc<Tokenizer>,
    layout: Layout,
}

/// What surrounds the text in a sequence.
#[derive(Debug, Clone)]
struct Layout {
    length: usize,
    before: Vec<u32>,
    after: Vec<u32>,
    pad: u32,
    padding_side: Side,
    truncation_side: Side,
}

/// One prompt as the encoder sees it.
struct Sequence {
    /// The whole sequence, padding and special tokens included.
    ids: Vec<u32>,
    /// The rows of the prompt itself.
    rows: Range<usize>,
    /// For each of these rows, the bytes of the prompt that it stands for.
    bytes: Vec<Range<usize>>,
    /// Tokens of the prompt that were cut off.
    cut: usize,
}

impl PromptTokenizer {
    /// Reads a CLIP tokeniser from a folder with `tokenizer.json`, or `vocab.json` and
    /// `merges.txt`; `tokenizer_config.json` or `special_tokens_map.json` name the special tokens.
    ///
    /// A prompt becomes `start, text, end, padding…`, [`CLIP_LENGTH`] tokens in all; text that is
    /// too long loses its tail and keeps the end token.
    ///
    /// # Errors
    /// [`TokenizerError`] for files that are missing or damaged, and for special tokens that are
    /// not named or not in the vocabulary.
    pub fn clip(dir: &Path) -> Result<Self, TokenizerError> {
        clip::load(dir)
    }

    /// Reads a Gemma tokeniser from a folder with `tokenizer.json` and `tokenizer_config.json`.
    ///
    /// A prompt becomes `padding…, start, text`, [`GEMMA_LENGTH`] tokens in all; text that is too
    /// long loses its tail.
    ///
    /// # Errors
    /// As [`clip`](Self::clip).
    pub fn gemma(dir: &Path) -> Result<Self, TokenizerError> {
        gemma::load(dir)
    }

    fn new(tokenizer: Tokenizer, layout: Layout) -> Result<Self, TokenizerError> {
        let length = layout.length;
        Self { tokenizer: Arc::new(tokenizer), layout }.with_length(length)
    }

    /// The same tokeniser for sequences of `length` tokens, for encoders with fewer positions
    /// than the official ones.
    ///
    /// # Errors
    /// [`TokenizerError::Length`] when no text fits between the special tokens.
    pub fn with_length(mut self, length: usize) -> Result<Self, TokenizerError> {
        let special = self.layout.before.len() + self.layout.after.len();
        if length <= special {
            return Err(TokenizerError::Length { got: length, special });
        }
        self.layout.length = length;
        Ok(self)
    }

    /// Tokens of every sequence.
    pub fn length(&self) -> usize {
        self.layout.length
    }

    /// The token ids of `B` prompts: `[B, length]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no prompt, [`Error::Stage`] with a [`TokenizerError`] when
    /// the library fails.
    pub fn encode(&self, prompts: &[&str]) -> Result<TokenIds> {
        let mut ids = Vec::with_capacity(prompts.len() * self.length());
        for prompt in prompts {
            ids.extend(self.sequence(prompt)?.ids);
        }
        TokenIds::new(self.length(), ids)
    }

    /// The rows that the prompt itself fills: neither padding nor the special tokens around it.
    ///
    /// # Errors
    /// [`Error::Stage`] with a [`TokenizerError`] when the library fails.
    pub fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        Ok(self.sequence(prompt)?.rows)
    }

    /// Where every occurrence of `phrase` stands in the sequence of `prompt`.
    ///
    /// An occurrence is found in the text, as whole words, whatever the case of its letters, and
    /// then covers each token that has a share in it; so it may begin or end with a token that
    /// reaches beyond the phrase (`"signature,"` in Gemma's vocabulary).
    ///
    /// # Errors
    /// [`Error::PhraseNotFound`] when the phrase is empty, does not occur, or is cut off wherever
    /// it does; [`Error::Stage`] when the library fails.
    pub fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        let sequence = self.sequence(prompt)?;
        let mut spans: Vec<_> = phrase::occurrences(prompt, phrase)
            .into_iter()
            .filter_map(|bytes| sequence.rows_of(bytes))
            .collect();
        // Two occurrences can lie within one token.
        spans.dedup();
        if spans.is_empty() {
            let (phrase, prompt) = (phrase.to_owned(), prompt.to_owned());
            return Err(Error::PhraseNotFound { phrase, prompt });
        }
        Ok(spans)
    }

    /// The part of `prompt` that doesn't fit into the sequence, `None` where all does; `encoder`
    /// names the encoder that it is for.
    ///
    /// # Errors
    /// [`Error::Stage`] with a [`TokenizerError`] when the library fails.
    pub fn truncation(&self, prompt: &str, encoder: &str) -> Result<Option<Truncation>> {
        let Sequence { bytes, cut, .. } = self.sequence(prompt)?;
        if cut == 0 {
            return Ok(None);
        }
        let range = match self.layout.truncation_side {
            Side::Right => bytes.last().map_or(0, |last| last.end)..prompt.len(),
            Side::Left => 0..bytes.first().map_or(prompt.len(), |first| first.start),
        };
        // A token of bytes can end inside a character.
        let start = prompt.floor_char_boundary(range.start);
        let end = prompt.floor_char_boundary(range.end).max(start);
        let text = prompt[start..end].trim().to_owned();
        let characters = |end: usize| prompt[..end].chars().count();
        let characters = characters(start)..characters(end);
        Ok(Some(Truncation {
            encoder: encoder.to_owned(),
            tokens: self.length(),
            characters,
            text,
        }))
    }

    fn sequence(&self, prompt: &str) -> Result<Sequence> {
        let encoding = self.tokenizer.encode(prompt, false).map_err(|error| {
            let (text, message) = (prompt.to_owned(), error.to_string());
            Error::stage(TokenizerError::Text { text, message })
        })?;
        let Layout { length, before, after, pad, padding_side, truncation_side } = &self.layout;
        let tokens = encoding.get_ids().len();
        let kept = tokens.min(length - before.len() - after.len());
        let kept = match truncation_side {
            Side::Right => 0..kept,
            Side::Left => tokens - kept..tokens,
        };
        let padding = length - before.len() - kept.len() - after.len();
        let (left, right) = match padding_side {
            Side::Left => (padding, 0),
            Side::Right => (0, padding),
        };

        let mut ids = vec![*pad; left];
        ids.extend_from_slice(before);
        let rows = ids.len()..ids.len() + kept.len();
        ids.extend_from_slice(&encoding.get_ids()[kept.clone()]);
        ids.extend_from_slice(after);
        ids.resize(ids.len() + right, *pad);
        let cut = tokens - kept.len();
        let bytes = encoding.get_offsets()[kept].iter().map(|&(from, to)| from..to).collect();
        Ok(Sequence { ids, rows, bytes, cut })
    }
}

impl Sequence {
    /// The rows that have a share in a range of the prompt's bytes; `None` where all were cut off.
    fn rows_of(&self, bytes: Range<usize>) -> Option<Range<usize>> {
        let shares = |token: &Range<usize>| token.start < bytes.end && bytes.start < token.end;
        let first = self.bytes.iter().position(shares)?;
        let last = self.bytes.iter().rposition(shares)?;
        Some(self.rows.start + first..self.rows.start + last + 1)
    }
}

#[cfg(test)]
mod tests;
