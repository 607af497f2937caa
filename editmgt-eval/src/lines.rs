//! Crash-safe JSON Lines files.

use std::path::{Path, PathBuf};

use editmgt_store::{FolderLock, Locking, json};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::EvalError;

/// An append-only file of lines, with one writer process at a time.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    _lock: FolderLock,
}

impl Lines {
    /// Opens or creates the file, truncates an incomplete last line, and returns the existing
    /// lines.
    ///
    /// # Errors
    /// [`EvalError::InUse`], [`EvalError::Malformed`], [`EvalError::Io`].
    pub(crate) fn open<T: DeserializeOwned>(
        path: PathBuf,
        locking: Locking,
    ) -> Result<(Self, Vec<T>), EvalError> {
        let lock = FolderLock::exclusive(path.with_extension("lock"), locking)?;
        let values = editmgt_store::open_log(&path, |number, line| value(&path, number, line))?;
        Ok((Self { path, _lock: lock }, values))
    }

    /// Appends a line, which is synced to disk when this returns.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    pub(crate) fn add(&mut self, value: &impl Serialize) -> Result<(), EvalError> {
        let line = serde_json::to_string(value).expect("lines are JSON");
        Ok(editmgt_store::append_line(&self.path, line)?)
    }
}

/// Reads the complete lines of a file, which may have a concurrent writer.
///
/// # Errors
/// [`EvalError::Malformed`], [`EvalError::Io`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, EvalError> {
    editmgt_store::read_log(path, |number, line| value(path, number, line))
}

/// Parses a list written by people or other programs; its last line may lack the line end.
///
/// # Errors
/// [`EvalError::Malformed`].
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<Vec<T>, EvalError> {
    let text = editmgt_store::decode_text(text).map_err(|got| {
        EvalError::malformed(path, format!("expected UTF-8, got {got}; save it as UTF-8"))
    })?;
    let lines = (1..).zip(text.split('\n'));
    let full = lines.filter(|(_, line)| !line.trim().is_empty());
    full.map(|(number, line)| {
        let object = json::parse_object(line.as_bytes()).and_then(json::from_object);
        object.map_err(|e| EvalError::malformed(path, format!("line {number}: {e}")))
    })
    .collect()
}

fn value<T: DeserializeOwned>(path: &Path, number: usize, line: &[u8]) -> Result<T, EvalError> {
    let error = |e| EvalError::malformed(path, format!("line {number}: {e}"));
    serde_json::from_slice(line).map_err(error)
}
