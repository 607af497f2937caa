use std::panic;
use std::path::Path;

use tokenizers::{PostProcessorWrapper, Tokenizer};

use super::files::{self, Bpe, Settings, Side};
use super::{Layout, PromptTokenizer, TokenizerError};

/// Tokens of a prompt in the official pipeline.
pub const GEMMA_LENGTH: usize = 256;

/// Reads Gemma's `tokenizer.json`. What surrounds the text (start token, padding, truncation) is
/// the official class' doing, not the file's.
pub(super) fn load(dir: &Path) -> Result<PromptTokenizer, TokenizerError> {
    let settings = Settings::read(dir)?;
    let path = dir.join("tokenizer.json");
    let Some(bytes) = files::read(&path)? else {
        return Err(TokenizerError::NoVocabulary {
            dir: dir.to_owned(),
            expected: "tokenizer.json (a tokenizer.model alone can't be read)",
        });
    };
    // For its checks: damaged merges would make the library panic.
    Bpe::from_tokenizer_json(&path, &bytes)?;
    let mut tokenizer = parse(&path, &bytes)?;
    let unlimited = |error| TokenizerError::malformed(&path, error);
    tokenizer.with_truncation(None).map_err(unlimited)?;
    tokenizer.with_padding(None);
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);

    let id = |role| {
        let token = settings.token(role)?;
        tokenizer.token_to_id(token).ok_or_else(|| TokenizerError::MissingToken {
            path: path.clone(),
            role,
            token: Some(token.to_owned()),
        })
    };
    let (start, end) = settings.added_around(true, false);
    let wanted =
        |wanted: bool, role| if wanted { id(role).map(|id| vec![id]) } else { Ok(Vec::new()) };
    let layout = Layout {
        length: GEMMA_LENGTH,
        before: wanted(start, "bos_token")?,
        after: wanted(end, "eos_token")?,
        pad: id("pad_token")?,
        padding_side: settings.padding_side(Side::Left),
        truncation_side: settings.truncation_side(),
    };
    PromptTokenizer::new(tokenizer, layout)
}

/// Parses a `tokenizer.json`. The library panics on a decoder or a normalizer that it cannot read.
fn parse(path: &Path, bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    // Sound: nothing is shared with the parser, and what it made is dropped.
    match panic::catch_unwind(|| Tokenizer::from_bytes(bytes)) {
        Ok(parsed) => parsed.map_err(|error| TokenizerError::malformed(path, error)),
        Err(_) => Err(TokenizerError::malformed(path, "a part that the tokenizer cannot read")),
    }
}
