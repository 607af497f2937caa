use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use editmgt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::{TokenIds, TokenizerError};

/// Punctuation between words, without meaning to the model. Everything else belongs to a word,
/// so that no meaningful character is ignored.
const PUNCTUATION: &[char] = &['.', ',', ';', ':', '!', '?', '"', '(', ')'];

/// A closed vocabulary: the contents of a `vocab.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// The words, in the order of the rows of the token table.
    pub words: Vec<String>,
    /// A few instructions that the model follows, to show to those whose words it doesn't know.
    pub examples: Vec<String>,
}

impl Vocabulary {
    /// The `most` words that occur most often in these instructions, in the order of the alphabet;
    /// of those that occur equally often the first. No examples.
    pub fn most_frequent<'a>(instructions: impl Iterator<Item = &'a str>, most: usize) -> Self {
        let mut counts = HashMap::<String, usize>::new();
        for (_, word) in instructions.flat_map(words) {
            *counts.entry(word).or_default() += 1;
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        let mut words: Vec<String> = counts.into_iter().take(most).map(|(word, _)| word).collect();
        words.sort();
        Self { words, examples: Vec::new() }
    }
}

/// Splits instructions into the words of a closed vocabulary.
///
/// A sequence is `start, words…, padding…`, whatever the case of the letters.
#[derive(Debug, Clone)]
pub struct WordTokenizer {
    vocabulary: Vocabulary,
    ids: HashMap<String, u32>,
    length: usize,
}

impl WordTokenizer {
    /// The id that fills a sequence up.
    pub const PADDING: u32 = 0;
    /// The id that every sequence starts with.
    pub const START: u32 = 1;
    /// Ids that are no words; they come before those of the words.
    pub const SPECIAL: usize = 2;
    /// The file that holds the vocabulary.
    pub const FILE: &str = "vocab.json";

    /// Reads `vocab.json` in a tokeniser folder, for sequences of `length` tokens.
    ///
    /// # Errors
    /// [`TokenizerError`] for a file that is missing or damaged, and those of [`new`](Self::new).
    pub fn open(dir: &Path, length: usize) -> Result<Self, TokenizerError> {
        let path = dir.join(Self::FILE);
        let json = std::fs::read(&path)
            .map_err(|cause| TokenizerError::Io { path: path.clone(), cause })?;
        Self::from_json(&path, &json, length)
    }

    /// Reads the contents of a `vocab.json`; `path` stands for it in errors.
    ///
    /// # Errors
    /// [`TokenizerError::Malformed`], and those of [`new`](Self::new).
    pub fn from_json(path: &Path, json: &[u8], length: usize) -> Result<Self, TokenizerError> {
        let vocabulary: Vocabulary = serde_json::from_slice(json).map_err(|error| {
            TokenizerError::Malformed { path: path.to_owned(), message: error.to_string() }
        })?;
        Self::new(vocabulary, length)
    }

    /// A tokeniser for sequences of `length` tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Length`] when no word fits behind the start, [`TokenizerError::Word`] for
    /// a word that no instruction can be split into or that stands twice,
    /// [`TokenizerError::UnknownWords`] for an example outside the vocabulary.
    pub fn new(vocabulary: Vocabulary, length: usize) -> Result<Self, TokenizerError> {
        if length < 2 {
            return Err(TokenizerError::Length { got: length, special: 1 });
        }
        let mut ids = HashMap::with_capacity(vocabulary.words.len());
        for (index, word) in vocabulary.words.iter().enumerate() {
            let whole = words(word).map(|(_, word)| word).eq([word.clone()]);
            let id = (index + Self::SPECIAL) as u32;
            if !whole || ids.insert(word.clone(), id).is_some() {
                return Err(TokenizerError::Word { word: word.clone() });
            }
        }
        let tokenizer = Self { vocabulary, ids, length };
        for example in &tokenizer.vocabulary.examples {
            tokenizer.word_ids(example)?;
        }
        Ok(tokenizer)
    }

    /// The vocabulary.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Number of ids: words and special tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.words.len() + Self::SPECIAL
    }

    /// Tokens of every sequence.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The token ids of `B` instructions: `[B, length]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is none; [`Error::Stage`] with
    /// [`TokenizerError::UnknownWords`] or [`TokenizerError::TooManyWords`].
    pub fn encode(&self, prompts: &[&str]) -> Result<TokenIds> {
        let mut ids = Vec::with_capacity(prompts.len() * self.length);
        for prompt in prompts {
            let words = self.word_ids(prompt).map_err(Error::stage)?;
            let padding = self.length - 1 - words.len();
            ids.push(Self::START);
            ids.extend(words);
            ids.resize(ids.len() + padding, Self::PADDING);
        }
        TokenIds::new(self.length, ids)
    }

    /// The rows that the words of an instruction fill; empty for an empty one.
    ///
    /// # Errors
    /// [`Error::Stage`] as [`encode`](Self::encode).
    pub fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        Ok(1..1 + self.word_ids(prompt).map_err(Error::stage)?.len())
    }

    /// Where every occurrence of `phrase` stands in the sequence of `prompt`.
    ///
    /// # Errors
    /// [`Error::PhraseNotFound`] when the phrase is empty or does not occur; [`Error::Stage`] as
    /// [`encode`](Self::encode) for the prompt.
    pub fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.word_ids(prompt).map_err(Error::stage)?;
        let of = |text| words(text).map(|(_, word)| word).collect::<Vec<_>>();
        let (text, wanted) = (of(prompt), of(phrase));
        // `windows` knows no empty window.
        let width = wanted.len().max(1);
        let spans: Vec<_> = text
            .windows(width)
            .enumerate()
            .filter(|(_, window)| *window == wanted)
            .map(|(first, _)| 1 + first..1 + first + width)
            .collect();
        if spans.is_empty() {
            let (phrase, prompt) = (phrase.to_owned(), prompt.to_owned());
            return Err(Error::PhraseNotFound { phrase, prompt });
        }
        Ok(spans)
    }

    fn word_ids(&self, prompt: &str) -> Result<Vec<u32>, TokenizerError> {
        let (mut ids, mut unknown) = (Vec::new(), Vec::new());
        for (written, word) in words(prompt) {
            match self.ids.get(&word) {
                Some(&id) => ids.push(id),
                None if unknown.contains(&written) => {}
                None => unknown.push(written),
            }
        }
        if !unknown.is_empty() {
            let Vocabulary { words, examples } = self.vocabulary.clone();
            return Err(TokenizerError::UnknownWords { unknown, words, examples });
        }
        if ids.len() >= self.length {
            return Err(TokenizerError::TooManyWords { got: ids.len(), most: self.length - 1 });
        }
        Ok(ids)
    }
}

/// The words of a text, as written and in lower case.
fn words(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(|c: char| c.is_whitespace() || PUNCTUATION.contains(&c))
        .filter(|word| !word.is_empty())
        .map(|word| (word.to_owned(), word.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(words: &str, examples: &[&str]) -> Vocabulary {
        Vocabulary {
            words: words.split(' ').map(str::to_owned).collect(),
            examples: examples.iter().map(|&example| example.to_owned()).collect(),
        }
    }

    fn tokenizer() -> WordTokenizer {
        let vocabulary = vocabulary("blue circle make red the", &["make the circle red"]);
        WordTokenizer::new(vocabulary, 6).unwrap()
    }

    #[test]
    fn the_most_frequent_words() {
        let said = ["Make the circle red", "make the heart blue.", "remove the owl"];
        let of = |most| Vocabulary::most_frequent(said.into_iter(), most).words;
        assert_eq!(of(1), ["the"]);
        assert_eq!(of(4), ["blue", "circle", "make", "the"]);
        assert_eq!(of(100).len(), 8);
        let all = Vocabulary::most_frequent(said.into_iter(), 100);
        let tokenizer = WordTokenizer::new(all, 6).unwrap();
        assert_eq!(tokenizer.encode(&said).unwrap().ids().len(), 18);
    }

    #[test]
    fn sequences() {
        for (prompt, expected) in [
            ("", [1, 0, 0, 0, 0, 0]),
            ("make the circle red", [1, 4, 6, 3, 5, 0]),
            ("  Make the RED\tcircle, blue! ", [1, 4, 6, 5, 3, 2]),
        ] {
            assert_eq!(tokenizer().encode(&[prompt]).unwrap().ids(), expected, "{prompt:?}");
        }
        assert!(matches!(tokenizer().encode(&[]), Err(Error::Shape { .. })));
    }

    #[test]
    fn unknown_words_are_named_and_nothing_is_cut_off() {
        for (prompt, named) in [
            ("make the owl Purple, owl", r#""owl", "Purple""#),
            ("make the circle #3", "\"#3\""),
            ("make the circle 🔴", "🔴"),
            ("make the owl red", "make the circle red"),
            ("make the owl red", "blue, circle, make, red, the"),
            ("make the red red red circle", "at most 5"),
        ] {
            let error = tokenizer().encode(&[prompt]).unwrap_err().to_string();
            assert!(error.contains(named), "{prompt}: {error}");
        }
    }

    #[test]
    fn phrases_are_found_as_whole_words() {
        let spans = |prompt, phrase| tokenizer().spans(prompt, phrase);
        assert_eq!(spans("make the red circle red", "RED").unwrap(), [3..4, 5..6]);
        assert_eq!(spans("make the red circle red", "red circle").unwrap(), vec![3..5]);
        for phrase in ["", " ", "blue", "owl", "circ", "circle the"] {
            let error = spans("make the red circle red", phrase).unwrap_err();
            assert!(matches!(error, Error::PhraseNotFound { .. }), "{phrase}: {error}");
        }
        assert_eq!(tokenizer().prompt_rows("make the circle").unwrap(), 1..4);
        assert!(tokenizer().prompt_rows("").unwrap().is_empty());
    }

    #[test]
    fn impossible_vocabularies_are_refused() {
        for (words, examples, length, named) in [
            ("red Red", &[][..], 6, "\"Red\""),
            ("red red", &[], 6, "\"red\""),
            ("red blue,", &[], 6, "\"blue,\""),
            ("red  blue", &[], 6, "\"\""),
            ("red blue", &["make red"], 6, "\"make\""),
            ("red blue", &[], 1, "1"),
        ] {
            let error = WordTokenizer::new(vocabulary(words, examples), length).unwrap_err();
            assert!(error.to_string().contains(named), "{words}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let missing = WordTokenizer::open(dir.path(), 6).unwrap_err();
        assert!(matches!(missing, TokenizerError::Io { .. }), "{missing}");
        let path = dir.path().join(WordTokenizer::FILE);
        for text in ["[\"red\"]", "{\"words\": [\"red\"]}", "{"] {
            std::fs::write(&path, text).unwrap();
            let damaged = WordTokenizer::open(dir.path(), 6).unwrap_err();
            assert!(matches!(damaged, TokenizerError::Malformed { .. }), "{text}: {damaged}");
        }
        let vocabulary = vocabulary("red blue", &["red"]);
        std::fs::write(&path, serde_json::to_string(&vocabulary).unwrap()).unwrap();
        assert_eq!(WordTokenizer::open(dir.path(), 6).unwrap().vocabulary(), &vocabulary);
    }
}
