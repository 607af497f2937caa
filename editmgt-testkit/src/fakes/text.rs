use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{Error, Result, TextConditioning, TextEncoder, TextSpec};

/// Rows per prompt; further words are cut off.
const ROWS: usize = 12;
/// Width of a row and of the pooled vector.
const WIDTH: usize = 8;

/// An encoder with a row per word, made of the word's letters. Rows after the prompt are 0.
#[derive(Debug, Clone)]
pub struct WordEncoder {
    device: Device,
}

impl WordEncoder {
    /// An encoder whose features live on `device`.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone() }
    }
}

/// The words of a prompt, in lower case, without punctuation.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// A row for a word: the same word always has the same one.
fn row(word: &str) -> [f32; WIDTH] {
    let mut row = [0.0; WIDTH];
    for (i, byte) in word.bytes().enumerate() {
        row[i % WIDTH] += f32::from(byte % 32) / 32.0;
    }
    row
}

impl TextEncoder for WordEncoder {
    fn spec(&self) -> TextSpec {
        TextSpec { rows: ROWS, hidden_size: WIDTH, pooled_size: WIDTH }
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        if prompts.is_empty() {
            return Err(Error::shape("prompts", "at least one", 0));
        }
        let (mut hidden, mut pooled) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let mut rows: Vec<[f32; WIDTH]> = words(prompt).iter().map(|word| row(word)).collect();
            rows.resize(ROWS, [0.0; WIDTH]);
            pooled.extend((0..WIDTH).map(|i| rows.iter().map(|row| row[i]).sum::<f32>()));
            hidden.extend(rows.into_iter().flatten());
        }
        let batch = prompts.len();
        let hidden = TensorData::new(hidden, [batch, ROWS, WIDTH]);
        let pooled = TensorData::new(pooled, [batch, WIDTH]);
        Ok(TextConditioning {
            hidden: Tensor::from_data(hidden, &self.device),
            pooled: Tensor::from_data(pooled, &self.device),
        })
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        let (all, part) = (words(prompt), words(phrase));
        let starts = all.windows(part.len().max(1)).enumerate();
        let spans: Vec<_> = starts
            .filter(|(start, window)| *window == part && start + part.len() <= ROWS)
            .map(|(start, window)| start..start + window.len())
            .collect();
        if spans.is_empty() {
            let (phrase, prompt) = (phrase.to_owned(), prompt.to_owned());
            return Err(Error::PhraseNotFound { phrase, prompt });
        }
        Ok(spans)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        Ok(0..words(prompt).len().min(ROWS))
    }
}
