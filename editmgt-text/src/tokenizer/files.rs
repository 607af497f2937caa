//! Reads the files of a tokeniser folder.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::AddedToken;

use super::TokenizerError;

/// Reads a file; `None` when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(TokenizerError::Io { path: path.to_owned(), cause }),
    }
}

/// Reads JSON of a known form.
pub(super) fn json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, TokenizerError> {
    serde_json::from_slice(bytes).map_err(|error| TokenizerError::malformed(path, error))
}

/// On which side something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Left,
    Right,
}

/// What `tokenizer_config.json` says, completed by `special_tokens_map.json`, which older folders
/// name their tokens in.
#[derive(Debug)]
pub(super) struct Settings {
    /// The file to name when something is missing.
    path: PathBuf,
    /// Special tokens by role.
    names: HashMap<&'static str, String>,
    config: ConfigFile,
}

/// The keys that matter; the files carry many more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    pad_token: Option<TokenName>,
    unk_token: Option<TokenName>,
    padding_side: Option<Side>,
    truncation_side: Option<Side>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    added_tokens_decoder: BTreeMap<u32, AddedToken>,
}

impl ConfigFile {
    fn names(&mut self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let named = [
            ("bos_token", self.bos_token.take()),
            ("eos_token", self.eos_token.take()),
            ("pad_token", self.pad_token.take()),
            ("unk_token", self.unk_token.take()),
        ];
        named.into_iter().filter_map(|(role, name)| Some((role, name?.text())))
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenName {
    Plain(String),
    Detailed { content: String },
}

impl TokenName {
    fn text(self) -> String {
        let (Self::Plain(text) | Self::Detailed { content: text }) = self;
        text
    }
}

impl Settings {
    pub(super) fn read(dir: &Path) -> Result<Self, TokenizerError> {
        let file = |name: &str| {
            let path = dir.join(name);
            let bytes = read(&path)?;
            bytes.map_or(Ok(ConfigFile::default()), |bytes| json(&path, &bytes))
        };
        let mut older = file("special_tokens_map.json")?;
        let mut config = file("tokenizer_config.json")?;
        let names = older.names().chain(config.names()).collect();
        Ok(Self { path: dir.join("tokenizer_config.json"), names, config })
    }

    /// The token of a role that the encoder can't do without.
    pub(super) fn token(&self, role: &'static str) -> Result<&str, TokenizerError> {
        let missing =
            || TokenizerError::MissingToken { path: self.path.clone(), role, token: None };
        self.optional_token(role).ok_or_else(missing)
    }

    /// The token of a role, where the files name one.
    pub(super) fn optional_token(&self, role: &'static str) -> Option<&str> {
        self.names.get(role).map(String::as_str)
    }

    /// Which side padding goes, when the file doesn't say so the `default` of the class.
    pub(super) fn padding_side(&self, default: Side) -> Side {
        self.config.padding_side.unwrap_or(default)
    }

    /// Which side is cut off; right in every class.
    pub(super) fn truncation_side(&self) -> Side {
        self.config.truncation_side.unwrap_or(Side::Right)
    }

    /// Whether prompts start with the start token and end with the end token.
    pub(super) fn added_around(&self, start: bool, end: bool) -> (bool, bool) {
        let config = &self.config;
        (config.add_bos_token.unwrap_or(start), config.add_eos_token.unwrap_or(end))
    }

    /// Tokens that are split off before anything else, by id.
    pub(super) fn added_tokens(&self) -> &BTreeMap<u32, AddedToken> {
        &self.config.added_tokens_decoder
    }
}

/// A byte-pair vocabulary.
#[derive(Debug, Deserialize)]
pub(super) struct Bpe {
    /// Older files leave the type out.
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    pub(super) vocab: HashMap<String, u32>,
    #[serde(deserialize_with = "merges")]
    pub(super) merges: Vec<(String, String)>,
}

/// The part of a `tokenizer.json` that holds the vocabulary.
#[derive(Deserialize)]
struct TokenizerFile {
    model: Bpe,
}

/// Merges come as `"a b"` or, in newer files, as `["a", "b"]`.
fn merges<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<(String, String)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merge {
        Pair(String, String),
        Line(String),
    }
    let merges = Vec::<Merge>::deserialize(d)?.into_iter().map(|merge| match merge {
        Merge::Pair(a, b) => Ok((a, b)),
        Merge::Line(line) => split_merge(&line).map_err(serde::de::Error::custom),
    });
    merges.collect()
}

fn split_merge(line: &str) -> Result<(String, String), String> {
    match line.split_once(' ') {
        Some((a, b)) if !b.contains(' ') => Ok((a.to_owned(), b.to_owned())),
        _ => Err(format!("merge {line:?}: expected two tokens with a space between them")),
    }
}

impl Bpe {
    /// From the bytes of a `tokenizer.json`.
    pub(super) fn from_tokenizer_json(path: &Path, bytes: &[u8]) -> Result<Self, TokenizerError> {
        let TokenizerFile { model } = json(path, bytes)?;
        if let Some(kind) = model.kind.as_deref().filter(|kind| *kind != "BPE") {
            let message = format!("model type: expected BPE, got {kind}");
            return Err(TokenizerError::malformed(path, message));
        }
        model.check(path)?;
        Ok(model)
    }

    /// From the bytes of a `vocab.json` and the lines of a `merges.txt`.
    pub(super) fn from_slow_files(
        (vocab_path, vocab): (&Path, &[u8]),
        (merges_path, merges): (&Path, &[u8]),
    ) -> Result<Self, TokenizerError> {
        let error = |error: String| TokenizerError::malformed(merges_path, error);
        let lines = std::str::from_utf8(merges).map_err(|e| error(e.to_string()))?;
        // Some programs begin UTF-8 with a byte order mark.
        let lines = lines.strip_prefix('\u{feff}').unwrap_or(lines).lines();
        let merges = lines
            .filter(|line| !line.is_empty() && !line.starts_with("#version"))
            .map(|line| split_merge(line).map_err(error))
            .collect::<Result<_, _>>()?;
        let vocab = json(vocab_path, vocab)?;
        let bpe = Self { kind: None, continuing_subword_prefix: None, vocab, merges };
        bpe.check(merges_path)?;
        Ok(bpe)
    }

    /// The library trusts merges to stay within the vocabulary, and panics where they don't.
    fn check(&self, path: &Path) -> Result<(), TokenizerError> {
        if self.continuing_subword_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty()) {
            let message = "continuing_subword_prefix: expected none";
            return Err(TokenizerError::malformed(path, message));
        }
        for (a, b) in &self.merges {
            let merged = format!("{a}{b}");
            for token in [a, b, &merged] {
                if !self.vocab.contains_key(token) {
                    let message = format!("merge {a:?} {b:?}: {token:?} is not in the vocabulary");
                    return Err(TokenizerError::malformed(path, message));
                }
            }
        }
        Ok(())
    }
}
