//! Files of JSON lines that survive a kill.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::EvalError;

/// A file that lines are added to, by one process at a time; the lock is the system's and goes
/// with the process.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Opens or makes the file, cuts off a last line that was not written to its end, and gives
    /// what is there.
    ///
    /// # Errors
    /// [`EvalError::InUse`], [`EvalError::Malformed`], [`EvalError::Io`].
    pub(crate) fn open<T: DeserializeOwned>(path: PathBuf) -> Result<(Self, Vec<T>), EvalError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = file.map_err(EvalError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EvalError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(EvalError::Io { path, source }),
        }
        let (values, complete) = complete(&path, &file)?;
        file.set_len(complete).map_err(EvalError::io(&path))?;
        file.seek(SeekFrom::End(0)).map_err(EvalError::io(&path))?;
        Ok((Self { path, file }, values))
    }

    /// Writes a line, at once.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    pub(crate) fn add(&mut self, value: &impl Serialize) -> Result<(), EvalError> {
        let mut line = serde_json::to_string(value).expect("lines are JSON");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(EvalError::io(&self.path))
    }
}

/// What the complete lines of a file say; it may be written to meanwhile.
///
/// # Errors
/// [`EvalError::Malformed`], [`EvalError::Io`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, EvalError> {
    let file = File::open(path).map_err(EvalError::io(path))?;
    Ok(complete(path, &file)?.0)
}

/// What the lines of a list that people made say; its last line may lack its end.
///
/// # Errors
/// [`EvalError::Malformed`].
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<Vec<T>, EvalError> {
    let lines = (1..).zip(text.split(|&byte| byte == b'\n'));
    let full = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    full.map(|(number, line)| value(path, number, line)).collect()
}

fn value<T: DeserializeOwned>(path: &Path, number: usize, line: &[u8]) -> Result<T, EvalError> {
    let error = |e| EvalError::malformed(path, format!("line {number}: {e}"));
    serde_json::from_slice(line).map_err(error)
}

/// The values of the complete lines, and how many bytes those have.
fn complete<T: DeserializeOwned>(path: &Path, file: &File) -> Result<(Vec<T>, u64), EvalError> {
    let mut lines = BufReader::new(file);
    let (mut values, mut complete, mut line) = (Vec::new(), 0, Vec::new());
    for number in 1.. {
        line.clear();
        let length = lines.read_until(b'\n', &mut line).map_err(EvalError::io(path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        values.push(value(path, number, &line)?);
        complete += length as u64;
    }
    Ok((values, complete))
}
