use editmgt_core::Result;

use super::PromptTokenizer;

/// The rows that the official pipeline averages for a keyword, for comparing with it; use
/// [`PromptTokenizer::spans`] for anything else.
///
/// `tokenizer` is CLIP's, whatever encoder the rows are used on. The result is the first place
/// where the keyword's tokens follow each other in the prompt, special tokens and the token `!`
/// left out of both, word ends ignored (so `l` is found within `style`); the rows count from the
/// start token, which is row 0. Empty when there is no such place.
///
/// The official pipeline then averages these rows of Gemma's sequence, where a short prompt stands
/// at the other end.
///
/// # Errors
/// [`Error::Stage`](editmgt_core::Error::Stage) with a
/// [`TokenizerError`](crate::TokenizerError) when the library fails.
pub fn clip_keyword_rows(
    tokenizer: &PromptTokenizer,
    prompt: &str,
    keyword: &str,
) -> Result<Vec<usize>> {
    let (prompt, keyword) = (tokenizer.words(prompt)?, tokenizer.words(keyword)?);
    if keyword.is_empty() {
        return Ok(Vec::new());
    }
    let same = |window: &&[(usize, String)]| {
        window.iter().map(|(_, word)| word).eq(keyword.iter().map(|(_, word)| word))
    };
    let found = prompt.windows(keyword.len()).find(same).unwrap_or_default();
    Ok(found.iter().map(|(row, _)| *row).collect())
}

impl PromptTokenizer {
    /// The tokens that the official search compares, with their rows.
    fn words(&self, text: &str) -> Result<Vec<(usize, String)>> {
        let sequence = self.sequence(text)?;
        let words = sequence.ids.iter().enumerate().filter_map(|(row, &id)| {
            let token = self.tokenizer.id_to_token(id)?;
            let dropped = token.starts_with("<|") || ["<pad>", "</w>", "!"].contains(&&token[..]);
            (!dropped).then(|| (row, token.to_lowercase().replace("</w>", "")))
        });
        Ok(words.collect())
    }
}
