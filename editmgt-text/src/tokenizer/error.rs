use std::path::PathBuf;

/// What is wrong with a tokeniser folder, or with a text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// None of the files that can hold the vocabulary is there.
    #[error("{}: no tokeniser here, expected {expected}", dir.display())]
    NoVocabulary {
        /// The folder.
        dir: PathBuf,
        /// The files that would do.
        expected: &'static str,
    },
    /// A file is damaged, or is not the file that its name says.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A special token that the encoder needs is not named, or not in the vocabulary.
    #[error("{}: the {role} {}", path.display(), missing(token))]
    MissingToken {
        /// The file that names special tokens, or the vocabulary.
        path: PathBuf,
        /// What the token is for, as the file calls it: `bos_token`, `eos_token`, `pad_token`.
        role: &'static str,
        /// The token; `None` when no file names it.
        token: Option<String>,
    },
    /// The length leaves no room for text between the special tokens.
    #[error("a tokeniser length of {got}: expected more than its {special} special tokens")]
    Length {
        /// The length.
        got: usize,
        /// Special tokens that are added to every prompt.
        special: usize,
    },
    /// An entry of a closed vocabulary that is no word in lower case, or stands there twice.
    #[error("vocabulary: {word:?} is not one word in lower case, or stands there twice")]
    Word {
        /// The entry.
        word: String,
    },
    /// An instruction with words that a closed vocabulary lacks.
    #[error("this model does not know {}; {}", first_quoted(unknown), knowledge(words, examples))]
    UnknownWords {
        /// The words that it does not know, as they were written.
        unknown: Vec<String>,
        /// All words that it knows.
        words: Vec<String>,
        /// Instructions that it follows.
        examples: Vec<String>,
    },
    /// An instruction that is longer than the sequences of the encoder.
    #[error("an instruction of {got} words: this model reads at most {most}; say it in fewer")]
    TooManyWords {
        /// Its number of words.
        got: usize,
        /// The most that fit.
        most: usize,
    },
    /// The tokeniser library failed on a text.
    #[error("tokenising {text:?}: {message}")]
    Text {
        /// The text.
        text: String,
        /// The library's own words.
        message: String,
    },
}

impl TokenizerError {
    pub(super) fn malformed(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::Malformed { path: path.into(), message: message.to_string() }
    }
}

fn missing(token: &Option<String>) -> String {
    match token {
        Some(token) => format!("{token:?} is not in the vocabulary"),
        None => "is not named; expected its text".to_owned(),
    }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// As [`quoted`], but of many words the first ones.
fn first_quoted(words: &[String]) -> String {
    const SHOWN: usize = 8;
    match words.get(SHOWN..) {
        Some(rest) if !rest.is_empty() => {
            format!("{} and {} more words", quoted(&words[..SHOWN]), rest.len())
        }
        _ => quoted(words),
    }
}

/// What a closed vocabulary is good for.
fn knowledge(words: &[String], examples: &[String]) -> String {
    let words = format!("it knows these words alone: {}", words.join(", "));
    match examples {
        [] => words,
        _ => format!("it follows instructions like {}; {words}", quoted(examples)),
    }
}
