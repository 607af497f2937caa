use std::path::{Path, PathBuf};

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{BertNormalizer, Lowercase, NFC, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::files::{self, Bpe, Settings, Side};
use super::{Layout, PromptTokenizer, TokenizerError};

/// Tokens of a prompt in the official pipeline.
pub const CLIP_LENGTH: usize = 77;

/// What CLIP calls a word: an English ending, letters, one digit, or other signs.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
const END_OF_WORD: &str = "</w>";

/// Reads CLIP's vocabulary, from whichever file holds it, and builds the tokeniser around it.
///
/// Only the vocabulary is taken from a `tokenizer.json`. Its clean-up differs from the class that
/// the official pipeline uses (the slow `CLIPTokenizer`, which without the optional package
/// `ftfy` drops control characters and sets ideographs apart), and the ids differ with it.
pub(super) fn load(dir: &Path) -> Result<PromptTokenizer, TokenizerError> {
    let settings = Settings::read(dir)?;
    let (path, vocabulary) = read_vocabulary(dir)?;

    let (start, end) = (settings.token("bos_token")?, settings.token("eos_token")?);
    let pad = settings.token("pad_token")?;
    let unknown = settings.optional_token("unk_token").unwrap_or(end);
    let id = |role, token: &str| {
        let missing =
            || TokenizerError::MissingToken { path: path.clone(), role, token: Some(token.into()) };
        vocabulary.vocab.get(token).copied().ok_or_else(missing)
    };
    let layout = Layout {
        length: CLIP_LENGTH,
        before: vec![id("bos_token", start)?],
        after: vec![id("eos_token", end)?],
        pad: id("pad_token", pad)?,
        padding_side: settings.padding_side(Side::Right),
        truncation_side: settings.truncation_side(),
    };
    id("unk_token", unknown)?;

    let mut special: Vec<AddedToken> = vec![
        // The official class looks for these two in the cleaned text, too.
        AddedToken::from(start, true).normalized(true),
        AddedToken::from(end, true).normalized(true),
    ];
    for (&number, token) in settings.added_tokens() {
        if vocabulary.vocab.get(&token.content) != Some(&number) {
            let message = format!("added token {:?} is not token {number}", token.content);
            return Err(TokenizerError::malformed(&path, message));
        }
    }
    let plain = [pad, unknown].map(|token| AddedToken::from(token, true));
    for token in settings.added_tokens().values().cloned().chain(plain) {
        if special.iter().all(|other| other.content != token.content) {
            special.push(token);
        }
    }

    let unknown = unknown.to_owned();
    let tokenizer = build(vocabulary, unknown, special)
        .map_err(|error| TokenizerError::malformed(path, error))?;
    PromptTokenizer::new(tokenizer, layout)
}

fn read_vocabulary(dir: &Path) -> Result<(PathBuf, Bpe), TokenizerError> {
    let path = dir.join("tokenizer.json");
    if let Some(bytes) = files::read(&path)? {
        let vocabulary = Bpe::from_tokenizer_json(&path, &bytes)?;
        return Ok((path, vocabulary));
    }
    let (path, merges_path) = (dir.join("vocab.json"), dir.join("merges.txt"));
    let (Some(vocab), Some(merges)) = (files::read(&path)?, files::read(&merges_path)?) else {
        return Err(TokenizerError::NoVocabulary {
            dir: dir.to_owned(),
            expected: "tokenizer.json, or vocab.json and merges.txt",
        });
    };
    let vocabulary = Bpe::from_slow_files((&path, &vocab), (&merges_path, &merges))?;
    Ok((path, vocabulary))
}

fn build(
    vocabulary: Bpe,
    unknown: String,
    special: Vec<AddedToken>,
) -> tokenizers::Result<Tokenizer> {
    let vocab: Vocab = vocabulary.vocab.into_iter().collect();
    let merges: Merges = vocabulary.merges;
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .end_of_word_suffix(END_OF_WORD.to_owned())
        .unk_token(unknown)
        .build()?;
    let (clean, separate_ideographs, strip_accents, lowercase) = (true, true, Some(false), false);
    let clean = BertNormalizer::new(clean, separate_ideographs, strip_accents, lowercase);
    let (keep_words, no_space) = (SplitDelimiterBehavior::Removed, false);
    let words = Split::new(SplitPattern::Regex(WORDS.to_owned()), keep_words, true)?;
    let bytes = ByteLevel::new(no_space, false, false);

    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Normalizers::new(vec![
        clean.into(),
        NFC.into(),
        Lowercase.into(),
    ])))?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    tokenizer.add_special_tokens(special)?;
    Ok(tokenizer)
}
