use std::ops::Range as Bytes;

use tokenizers::NormalizedString;
use tokenizers::tokenizer::normalizer::Range;

/// The bytes of every occurrence of `phrase` in `text`: whole words, whatever the case of the
/// letters, composed or decomposed accents, and the white space between the words. In order.
pub(super) fn occurrences(text: &str, phrase: &str) -> Vec<Bytes<usize>> {
    let phrase = folded(phrase);
    let words: Vec<&str> = phrase.get().split_whitespace().collect();
    if words.is_empty() {
        return Vec::new();
    }
    let text = folded(text);
    let folded = text.get();
    folded
        .char_indices()
        .filter_map(|(start, _)| {
            let end = folded.len() - after_words(&folded[start..], &words)?.len();
            let whole = is_border(folded, start) && is_border(folded, end);
            whole.then(|| original(&text, start)..original(&text, end))
        })
        .collect()
}

/// Where in the original the character at byte `at` of the folded text begins; what came before it
/// ends there, too, with the accents that were composed into it.
fn original(text: &NormalizedString, at: usize) -> usize {
    let length = text.get()[at..].chars().next().map_or(0, char::len_utf8);
    let bytes = text.convert_offsets(Range::Normalized(at..at + length));
    match bytes {
        Some(bytes) if length > 0 => bytes.start,
        _ => text.len_original(),
    }
}

/// Text whose letters compare equal where only case or composition differs; it remembers where
/// in the original they were.
fn folded(text: &str) -> NormalizedString {
    let mut text = NormalizedString::from(text);
    text.nfc().lowercase();
    text
}

/// What follows `words` at the beginning of `text`, when they are there.
fn after_words<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    let (first, others) = words.split_first()?;
    others.iter().try_fold(text.strip_prefix(first)?, |rest, word| {
        let next = rest.trim_start();
        (next.len() < rest.len()).then(|| next.strip_prefix(word))?
    })
}

/// Whether no word continues across byte `at`.
fn is_border(text: &str, at: usize) -> bool {
    let (before, after) = text.split_at(at);
    match (before.chars().next_back(), after.chars().next()) {
        (Some(a), Some(b)) => !(belongs_to_word(a) && belongs_to_word(b)),
        _ => true,
    }
}

fn belongs_to_word(c: char) -> bool {
    // Scripts without spaces between words (Thai, Lao, Burmese, Khmer; Chinese, Japanese): every
    // place can be a border.
    let spaceless = matches!(
        c,
        '\u{0e00}'..='\u{0eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{2e80}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
    );
    (c.is_alphanumeric() || c == '_') && !spaceless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_in_any_case() {
        for (text, phrase, expected) in [
            ("replace the OWL with a red fox", "owl", &["OWL"][..]),
            ("replace the OWL with a red fox", "Red  Fox", &["red fox"]),
            ("a red\t\nfox and a Red Fox.", "red fox", &["red\t\nfox", "Red Fox"]),
            ("an owl's owlet, owl", "owl", &["owl", "owl"]),
            ("owlet fowl snow_owl", "owl", &[]),
            ("the redfox", "red fox", &[]),
            // The first candidate is no whole word; the next one overlaps it.
            ("aa a a", "a a", &["a a"]),
            ("cafe\u{301} CAF\u{c9}", "caf\u{e9}", &["cafe\u{301}", "CAF\u{c9}"]),
            ("İzmir at night", "at", &["at"]),
            ("把红色的猫换成狗", "猫", &["猫"]),
            ("(fox)", "fox", &["fox"]),
            ("a 42!", "42", &["42"]),
            ("a 421", "42", &[]),
            ("hot-dog", "hot-dog", &["hot-dog"]),
            ("", "owl", &[]),
            ("owl", "", &[]),
            ("owl", " \n", &[]),
        ] {
            let found: Vec<_> =
                occurrences(text, phrase).into_iter().map(|bytes| &text[bytes]).collect();
            assert_eq!(found, expected, "{phrase:?} in {text:?}");
        }
    }
}
