use std::ops::Range;

use editmgt_core::{Error, Result, TextConditioning, TextEncoder, TextSpec};

use super::{SmallText, WordTokenizer};

/// The small encoder behind the trait: model and vocabulary.
///
/// Unlike the large encoders it refuses a text that is too long instead of cutting it off: with a
/// dozen rows, what is cut off is half of the instruction.
#[derive(Debug, Clone)]
pub struct SmallTextEncoder {
    model: SmallText,
    tokenizer: WordTokenizer,
}

impl SmallTextEncoder {
    /// What the transformer's config calls this encoder (`text_encoder_architecture`).
    pub const ARCHITECTURE: &str = "small";

    /// Puts a model and its vocabulary together.
    ///
    /// # Errors
    /// [`Error::Shape`] when the vocabulary or the length of the sequences is not the model's.
    pub fn new(model: SmallText, tokenizer: WordTokenizer) -> Result<Self> {
        let pairs = [
            ("rows of the vocabulary", model.vocab_size(), tokenizer.vocab_size()),
            ("rows of a sequence", model.spec().rows, tokenizer.length()),
        ];
        for (what, expected, got) in pairs {
            if expected != got {
                return Err(Error::shape(what, expected, got));
            }
        }
        Ok(Self { model, tokenizer })
    }

    /// The model.
    pub fn model(&self) -> &SmallText {
        &self.model
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &WordTokenizer {
        &self.tokenizer
    }
}

impl TextEncoder for SmallTextEncoder {
    fn spec(&self) -> TextSpec {
        self.model.spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        self.model.forward(&self.tokenizer.encode(prompts)?)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.tokenizer.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        self.tokenizer.prompt_rows(prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SmallTextConfig, Vocabulary};
    use burn::tensor::Device;

    #[test]
    fn model_and_vocabulary_must_agree() {
        let config = SmallTextConfig { vocab_size: 4, ..SmallTextConfig::default() };
        let model = config.init(&Device::flex()).unwrap();
        let encoder = |words: &[&str], length| {
            let words = words.iter().map(|&word| word.to_owned()).collect();
            let vocabulary = Vocabulary { words, examples: Vec::new() };
            let tokenizer = WordTokenizer::new(vocabulary, length).unwrap();
            SmallTextEncoder::new(model.clone(), tokenizer)
        };
        assert!(matches!(encoder(&["red"], 12), Err(Error::Shape { .. })));
        assert!(matches!(encoder(&["red", "blue"], 11), Err(Error::Shape { .. })));
        let encoder = encoder(&["red", "blue"], 12).unwrap();
        let text = encoder.encode(&["red", "", "blue red"]).unwrap();
        assert_eq!(text.hidden.dims(), [3, 12, 128]);
        assert_eq!(text.pooled.dims(), [3, 128]);
    }
}
