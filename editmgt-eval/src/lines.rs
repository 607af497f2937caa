//! Files of JSON lines that survive a kill.

use std::path::{Path, PathBuf};

use editmgt_store::{FolderLock, Locking, json};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::EvalError;

/// A file that lines are added to, by one process at a time.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    _lock: FolderLock,
}

impl Lines {
    /// Opens or makes the file, cuts off a last line that was not written to its end, and gives
    /// what is there.
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

    /// Writes a line; it is on the disk when this returns.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    pub(crate) fn add(&mut self, value: &impl Serialize) -> Result<(), EvalError> {
        let line = serde_json::to_string(value).expect("lines are JSON");
        Ok(editmgt_store::append_line(&self.path, line)?)
    }
}

/// What the complete lines of a file say; it may be written to meanwhile.
///
/// # Errors
/// [`EvalError::Malformed`], [`EvalError::Io`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, EvalError> {
    editmgt_store::read_log(path, |number, line| value(path, number, line))
}

/// What the lines of a list that people made say, as any program writes it; its last line may lack
/// its end.
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
