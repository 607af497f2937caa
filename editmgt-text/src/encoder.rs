use std::ops::Range;

use editmgt_core::{Error, Result, TextConditioning, TextEncoder, TextSpec, Truncation};

use crate::{ClipText, Gemma2, PromptTokenizer, TokenIds, clip_keyword_rows};

/// The negative prompt of the official example.
pub const DEFAULT_NEGATIVE_PROMPT: &str = "worst quality, low quality, low res, blurry, \
    distortion, watermark, logo, signature, text, jpeg artifacts, signature, sketch, duplicate, \
    ugly, identifying mark";

/// CLIP alone: rows are its penultimate hidden states, the pooled vector its projection.
#[derive(Debug, Clone)]
pub struct ClipEncoder {
    model: ClipText,
    tokenizer: PromptTokenizer,
}

impl ClipEncoder {
    /// What the transformer's config calls this encoder (`text_encoder_architecture`).
    pub const ARCHITECTURE: &str = "CLIP";

    /// Puts a model and its tokeniser together.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tokeniser's sequences are longer than the model's positions.
    pub fn new(model: ClipText, tokenizer: PromptTokenizer) -> Result<Self> {
        check_length("CLIP sequence", &tokenizer, model.positions())?;
        Ok(Self { model, tokenizer })
    }

    /// The tokeniser.
    pub fn tokenizer(&self) -> &PromptTokenizer {
        &self.tokenizer
    }

    /// Encodes token ids, from [`tokenizer`](Self::tokenizer) or made elsewhere.
    ///
    /// # Shapes
    /// `[B, L]` ids, to the shapes of [`TextConditioning`].
    ///
    /// # Errors
    /// Those of [`ClipText::forward`].
    pub fn encode_ids(&self, ids: &TokenIds) -> Result<TextConditioning> {
        let output = self.model.forward(ids)?;
        Ok(TextConditioning { hidden: output.penultimate, pooled: output.text_embeds })
    }

    /// The rows that the official pipeline averages for a keyword; see [`clip_keyword_rows`].
    ///
    /// # Errors
    /// [`Error::Stage`] with the tokeniser's error.
    pub fn official_keyword_rows(&self, prompt: &str, keyword: &str) -> Result<Vec<usize>> {
        clip_keyword_rows(&self.tokenizer, prompt, keyword)
    }
}

impl TextEncoder for ClipEncoder {
    fn spec(&self) -> TextSpec {
        TextSpec {
            rows: self.tokenizer.length(),
            hidden_size: self.model.hidden_size(),
            pooled_size: self.model.projection_dim(),
        }
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        self.encode_ids(&self.tokenizer.encode(prompts)?)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.tokenizer.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        self.tokenizer.prompt_rows(prompt)
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        Ok(self.tokenizer.truncation(prompt, "CLIP")?.into_iter().collect())
    }
}

/// Both: rows are Gemma2's penultimate hidden states, the pooled vector is CLIP's.
#[derive(Debug, Clone)]
pub struct ClipGemma2Encoder {
    clip: ClipEncoder,
    model: Gemma2,
    tokenizer: PromptTokenizer,
}

impl ClipGemma2Encoder {
    /// What the transformer's config calls this encoder (`text_encoder_architecture`).
    pub const ARCHITECTURE: &str = "CLIP_Gemma2";

    /// Puts CLIP, Gemma2 and Gemma's tokeniser together.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tokeniser's sequences are longer than the model's positions.
    pub fn new(clip: ClipEncoder, model: Gemma2, tokenizer: PromptTokenizer) -> Result<Self> {
        check_length("Gemma2 sequence", &tokenizer, model.positions())?;
        Ok(Self { clip, model, tokenizer })
    }

    /// The CLIP half, with its own tokeniser.
    pub fn clip(&self) -> &ClipEncoder {
        &self.clip
    }

    /// Gemma's tokeniser, whose sequence the rows are.
    pub fn tokenizer(&self) -> &PromptTokenizer {
        &self.tokenizer
    }

    /// Encodes token ids, from the two tokenisers or made elsewhere, of the same prompts.
    ///
    /// # Shapes
    /// `[B, L]` ids each, of their own `L`, to the shapes of [`TextConditioning`].
    ///
    /// # Errors
    /// [`Error::Shape`] for different numbers of prompts; those of [`ClipText::forward`] and
    /// [`Gemma2::forward`].
    pub fn encode_ids(&self, clip: &TokenIds, gemma: &TokenIds) -> Result<TextConditioning> {
        if clip.batch() != gemma.batch() {
            return Err(Error::shape("prompts of Gemma2", clip.batch(), gemma.batch()));
        }
        let pooled = self.clip.encode_ids(clip)?.pooled;
        Ok(TextConditioning { hidden: self.model.forward(gemma)?, pooled })
    }

    /// The rows that the official pipeline averages for a keyword: CLIP's, though it uses them on
    /// Gemma's sequence; see [`clip_keyword_rows`].
    ///
    /// # Errors
    /// [`Error::Stage`] with the tokeniser's error.
    pub fn official_keyword_rows(&self, prompt: &str, keyword: &str) -> Result<Vec<usize>> {
        self.clip.official_keyword_rows(prompt, keyword)
    }
}

impl TextEncoder for ClipGemma2Encoder {
    fn spec(&self) -> TextSpec {
        TextSpec {
            rows: self.tokenizer.length(),
            hidden_size: self.model.hidden_size(),
            pooled_size: self.clip.spec().pooled_size,
        }
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        self.encode_ids(&self.clip.tokenizer.encode(prompts)?, &self.tokenizer.encode(prompts)?)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.tokenizer.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        self.tokenizer.prompt_rows(prompt)
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        let mut found = self.clip.truncation(prompt)?;
        found.extend(self.tokenizer.truncation(prompt, "Gemma2")?);
        Ok(found)
    }
}

fn check_length(what: &'static str, tokenizer: &PromptTokenizer, positions: usize) -> Result<()> {
    if tokenizer.length() <= positions {
        return Ok(());
    }
    let expected = format!("at most the model's {positions} positions");
    Err(Error::shape(what, expected, format!("{} tokens", tokenizer.length())))
}
