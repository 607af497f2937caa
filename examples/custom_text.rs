//! A text encoder that knows synonyms of the words that another one was trained with:
//! `cargo run -p editmgt-examples --example custom_text -- [PHOTO INSTRUCTION OUT]`
#![forbid(unsafe_code)]

use std::ops::Range;

use editmgt::{
    Editor, Error, LoadOptions, Model, Photo, TextConditioning, TextEncoder, TextSpec, Truncation,
};

const SYNONYMS: [(&str, &str); 5] = [
    ("scarlet", "red"),
    ("azure", "blue"),
    ("automobile", "car"),
    ("kitten", "cat"),
    ("tint", "make"),
];

pub(crate) struct WithSynonyms(pub(crate) Box<dyn TextEncoder>);

/// Whole words, in any letter case, in the other encoder's vocabulary.
fn translated(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let known = SYNONYMS.iter().find(|(synonym, _)| synonym.eq_ignore_ascii_case(word));
        known.map_or(word, |(_, known)| known)
    });
    words.collect::<Vec<_>>().join(" ")
}

impl TextEncoder for WithSynonyms {
    fn spec(&self) -> TextSpec {
        self.0.spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning, Error> {
        let prompts: Vec<String> = prompts.iter().map(|prompt| translated(prompt)).collect();
        self.0.encode(&prompts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>, Error> {
        self.0.spans(&translated(prompt), &translated(phrase))
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>, Error> {
        self.0.prompt_rows(&translated(prompt))
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>, Error> {
        self.0.truncation(&translated(prompt))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] =
        editmgt_examples::arguments("tint the scarlet automobile azure")?;
    let text =
        Model::embedded(&LoadOptions::for_device(editmgt::open_default_device()?)?, &[])?.text;
    let editor = Editor::embedded().text(WithSynonyms(text)).build()?;
    Ok(editor.edit(&Photo::open(photo)?, instruction)?.image.save(out)?)
}
