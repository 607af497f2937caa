use std::fmt;

use editmgt_core::{Error, Result, TextEncoder, TextRows};
use serde::{Deserialize, Serialize};

/// Words that say how to edit or that hold a sentence together: never what is meant in the photo.
const FUNCTION_WORDS: &str = "a an the this that these those it its there here some any all every \
    each and or but so as if then than also too very more less much many just only still again \
    of in on at to from into onto with without for by near next behind beside under over above \
    below between around through off out up down is are be been being was were do does did have \
    has had will would can could should please i me my we our you your he him his she her they \
    them their one ones not no instead place \
    add adds adding remove removes removing delete erase replace replaces replacing change \
    changes changing convert edit make makes making modify move put puts putting let set swap \
    switch transform turn turns turning give gives keep take insert paint color colour recolor \
    recolour look looks";

/// Which text rows' attention says where the edit is.
///
/// In JSON `"all"`, `"auto"` or `{"phrases": ["owl", "red fox"]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeywordPolicy {
    /// Every row, padding included: the official default.
    #[default]
    All,
    /// The content words of the instruction, all in one map.
    ///
    /// Those are the words that remain when a list of English words is left out: articles,
    /// pronouns, prepositions, auxiliaries, and the verbs of editing itself (*make*, *replace*,
    /// *add*, …). Where nothing remains, all words of the instruction count, and in a language that
    /// is not English they all do. Words are found in the instruction's text and then looked up in
    /// the encoder's own sequence ([`TextEncoder::spans`]), so the same holds for an encoder with
    /// a closed vocabulary; words that the encoder cut off are passed over.
    Auto,
    /// Words of the instruction; each phrase has a map of its own, and the maps are combined.
    Phrases(Vec<String>),
}

/// `all`, `auto`, or the phrases with commas between.
impl fmt::Display for KeywordPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Auto => f.write_str("auto"),
            Self::Phrases(phrases) => f.write_str(&phrases.join(",")),
        }
    }
}

impl KeywordPolicy {
    /// A single phrase.
    pub fn phrase(phrase: impl Into<String>) -> Self {
        Self::Phrases(vec![phrase.into()])
    }

    /// The rows of each map; none at all means one map of all rows.
    ///
    /// # Errors
    /// [`Error::PhraseNotFound`] for a phrase that is not in the instruction; those of the
    /// encoder.
    pub fn rows(&self, encoder: &dyn TextEncoder, instruction: &str) -> Result<Vec<TextRows>> {
        match self {
            Self::All => Ok(Vec::new()),
            Self::Auto => Ok(content_rows(encoder, instruction)?.into_iter().collect()),
            Self::Phrases(phrases) => {
                phrases.iter().map(|phrase| rows_of(encoder, instruction, phrase)).collect()
            }
        }
    }

    /// What is wrong with it, if anything.
    pub(super) fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Phrases(phrases) if phrases.is_empty() => Some("no phrase"),
            Self::Phrases(phrases) if phrases.iter().any(|p| p.trim().is_empty()) => {
                Some("nothing")
            }
            _ => None,
        }
    }
}

fn rows_of(encoder: &dyn TextEncoder, instruction: &str, phrase: &str) -> Result<TextRows> {
    let spans = encoder.spans(instruction, phrase)?;
    Ok(TextRows::Rows(spans.into_iter().flatten().collect()))
}

/// The rows of the content words; those of the whole instruction where there are none; `None`
/// where it has no rows either.
fn content_rows(encoder: &dyn TextEncoder, instruction: &str) -> Result<Option<TextRows>> {
    let mut rows = Vec::new();
    for word in content_words(instruction) {
        match encoder.spans(instruction, word) {
            Ok(spans) => rows.extend(spans.into_iter().flatten()),
            Err(Error::PhraseNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if rows.is_empty() {
        rows.extend(encoder.prompt_rows(instruction)?);
    }
    rows.sort_unstable();
    rows.dedup();
    Ok((!rows.is_empty()).then_some(TextRows::Rows(rows)))
}

/// The words of an instruction that name what is in the picture or shall be, as they are written
/// and in their order; a word that stands twice comes twice.
///
/// ```
/// assert_eq!(editmgt::content_words("Replace the owl's hat with a red fox."), ["owl's", "hat", "red", "fox"]);
/// ```
pub fn content_words(instruction: &str) -> Vec<&str> {
    instruction
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .filter(|word| {
            let word = word.to_lowercase();
            !FUNCTION_WORDS.split_whitespace().any(|function| function == word)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use editmgt_core::{TextConditioning, TextSpec};

    use super::*;

    #[test]
    fn what_an_instruction_is_about() {
        for (instruction, expected) in [
            ("replace the owl with a red fox", &["owl", "red", "fox"][..]),
            ("Make the CAT black!", &["CAT", "black"]),
            ("Turn it into a watercolor", &["watercolor"]),
            ("change the colour of the sky to dark-blue", &["sky", "dark-blue"]),
            ("put \"3\" hats on it", &["3", "hats"]),
            ("make it", &[]),
            ("", &[]),
            ("mach die Katze schwarz", &["mach", "die", "Katze", "schwarz"]),
        ] {
            assert_eq!(content_words(instruction), expected, "{instruction}");
        }
    }

    /// Row `i + 1` is word `i`; the last word is cut off.
    struct Words;

    impl TextEncoder for Words {
        fn spec(&self) -> TextSpec {
            TextSpec { rows: 16, hidden_size: 1, pooled_size: 1 }
        }

        fn encode(&self, _: &[&str]) -> Result<TextConditioning> {
            Err(Error::value("text", "nothing to encode here", "some"))
        }

        fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
            let rows = self.prompt_rows(prompt)?;
            let words = prompt.split_whitespace().zip(rows);
            let spans = words.filter(|(word, _)| *word == phrase).map(|(_, row)| row..row + 1);
            let spans: Vec<_> = spans.collect();
            if spans.is_empty() {
                Err(Error::PhraseNotFound { phrase: phrase.into(), prompt: prompt.into() })
            } else {
                Ok(spans)
            }
        }

        fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
            Ok(1..prompt.split_whitespace().count().max(1))
        }
    }

    #[test]
    fn rows_of_each_policy() {
        let rows = |policy: KeywordPolicy, text| policy.rows(&Words, text);
        let some = |rows: &[usize]| TextRows::Rows(rows.to_vec());
        let text = "make the red owl owl blue";
        assert_eq!(rows(KeywordPolicy::All, text).unwrap(), []);
        let phrases = KeywordPolicy::Phrases(vec!["owl".into(), "red".into()]);
        assert_eq!(rows(phrases, text).unwrap(), [some(&[4, 5]), some(&[3])]);
        // "blue" was cut off, "owl" stands twice.
        assert_eq!(rows(KeywordPolicy::Auto, text).unwrap(), [some(&[3, 4, 5])]);
        assert_eq!(rows(KeywordPolicy::Auto, "make it so").unwrap(), [some(&[1, 2])]);
        assert_eq!(rows(KeywordPolicy::Auto, "").unwrap(), []);
        let missing = rows(KeywordPolicy::phrase("zebra"), text);
        assert!(matches!(missing, Err(Error::PhraseNotFound { .. })));
    }

    #[test]
    fn in_json() {
        let phrases = KeywordPolicy::Phrases(vec!["owl".into(), "fox".into()]);
        for (json, policy) in [
            (r#""all""#, KeywordPolicy::All),
            (r#""auto""#, KeywordPolicy::Auto),
            (r#"{"phrases":["owl","fox"]}"#, phrases),
        ] {
            assert_eq!(serde_json::to_string(&policy).unwrap(), json);
            assert_eq!(serde_json::from_str::<KeywordPolicy>(json).unwrap(), policy);
        }
        assert!(serde_json::from_str::<KeywordPolicy>(r#""owl""#).is_err());
    }
}
