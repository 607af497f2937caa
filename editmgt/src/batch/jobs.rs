use std::collections::HashMap;
use std::path::{Path, PathBuf};

use editmgt_store::{Shard, TextLines, json};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{BadLine, BatchError};
use crate::model::identity::{digits, part};
use crate::photo::MaskReading;
use crate::request::EditRequest;

/// Longest name of a job in bytes.
const MAX_NAME: usize = 100;

/// One edit of a batch.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BatchJob {
    /// The number of its line, from 1.
    pub line: usize,
    /// The name of its result, without extension.
    pub name: String,
    /// The photo.
    pub photo: PathBuf,
    /// White where the photo may change.
    pub mask: Option<PathBuf>,
    /// The channel of the mask; the key `mask_reads`.
    pub mask_reads: MaskReading,
    /// The edit request.
    pub request: EditRequest,
    /// Identity of the job: a SHA-256 of its line's contents.
    pub sha256: String,
}

/// Reads a file of jobs, UTF-8 with or without a byte order mark: a JSON object per line, with
/// `photo`, optional `mask` (paths relative to the file's folder, or URLs for programs that
/// download them) and `name`, and the keys of an [`EditRequest`]. Empty lines and keys with the
/// value `null` are ignored; `7.0` is the integer 7.
///
/// The name (letters, digits, `.`, `-` and `_`) is that of the result; by default it is the line's
/// number and the photo's name, for instance `000012-cat`. Names must be unique, ignoring case.
///
/// # Errors
/// [`BatchError::Io`], [`BatchError::Lines`] with all invalid lines, [`BatchError::NoJobs`].
pub fn read_jobs(path: impl AsRef<Path>) -> Result<Vec<BatchJob>, BatchError> {
    let path = path.as_ref();
    let mut lines = TextLines::open(path)?;
    let root = path.parent().unwrap_or(Path::new(""));
    let (mut jobs, mut bad, mut names) = (Vec::new(), Vec::new(), HashMap::new());
    while let Some((line, text)) = lines.next()? {
        match BatchJob::parse(line, text, root) {
            Ok(job) => match names.insert(job.name.to_lowercase(), line) {
                None => jobs.push(job),
                Some(other) => {
                    let problem = format!("name: line {other} has {:?}, too", job.name);
                    bad.push(BadLine { line, problem });
                }
            },
            Err(problem) => bad.push(BadLine { line, problem }),
        }
    }
    match (bad.is_empty(), jobs.is_empty()) {
        (false, _) => Err(BatchError::Lines { path: path.to_owned(), lines: bad }),
        (_, true) => Err(BatchError::NoJobs { path: path.to_owned() }),
        _ => Ok(jobs),
    }
}

impl BatchJob {
    /// Whether it is in this shard: every N-th line.
    pub fn is_in(&self, shard: Shard) -> bool {
        // Lines are counted from 1.
        shard.has(self.line as u64 - 1)
    }

    fn parse(line: usize, text: &[u8], root: &Path) -> Result<Self, String> {
        let mut object = json::parse_object(text)?;
        let mut word = |key: &str| match object.remove(key) {
            None => Ok(None),
            Some(Value::String(word)) if !word.is_empty() => Ok(Some(word)),
            Some(other) => Err(format!("{key}: expected some text, got {other}")),
        };
        let photo = word("photo")?.ok_or("photo: expected a path, got none")?;
        let (mask, name) = (word("mask")?, word("name")?);
        let mask_reads = match word("mask_reads")? {
            None => MaskReading::Auto,
            Some(how) => serde_json::from_value(Value::String(how))
                .map_err(|e| format!("mask_reads: {e}"))?,
        };
        let request: EditRequest = json::from_object(object)?;
        request.check().map_err(|e| e.to_string())?;
        request.check_mask(mask.is_some()).map_err(|e| e.to_string())?;
        let name = match name {
            Some(name) => checked(name)?,
            None => format!("{line:06}-{}", readable(Path::new(&photo))),
        };
        let words = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
        let mut hash = Sha256::new();
        part(&mut hash, photo.as_bytes());
        part(&mut hash, mask.as_deref().unwrap_or_default().as_bytes());
        part(&mut hash, &words);
        if mask_reads != MaskReading::Auto {
            part(&mut hash, format!("{mask_reads:?}").as_bytes());
        }
        Ok(Self {
            line,
            name,
            photo: place(root, photo),
            mask: mask.map(|mask| place(root, mask)),
            mask_reads,
            request,
            sha256: digits(hash),
        })
    }
}

/// A path relative to the file's folder; a URL as it is.
fn place(root: &Path, text: String) -> PathBuf {
    if text.contains("://") { text.into() } else { root.join(text) }
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_')
}

fn checked(name: String) -> Result<String, String> {
    if name.chars().all(is_plain) && !name.starts_with('.') && name.len() <= MAX_NAME {
        return Ok(name);
    }
    Err(format!(
        "name: expected up to {MAX_NAME} letters, digits, '.', '-' and '_', no '.' first, got {name:?}"
    ))
}

/// The photo's name, valid on any file system.
fn readable(photo: &Path) -> String {
    let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
    let plain = |letter| if is_plain(letter) { letter } else { '_' };
    stem.chars().map(plain).take(MAX_NAME / 2).collect()
}
