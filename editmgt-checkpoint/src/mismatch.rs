use std::fmt;
use std::path::PathBuf;

/// The differences between a checkpoint's keys and the parameters of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The folder.
    pub dir: PathBuf,
    /// Keys of the module that are in no file.
    pub missing: Vec<String>,
    /// Keys of a file that the module doesn't have.
    pub unused: Vec<String>,
    /// Keys with another shape than in the module.
    pub misshaped: Vec<Misshaped>,
}

/// A key with another shape than in the module.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misshaped {
    /// The file.
    pub file: PathBuf,
    /// The key.
    pub key: String,
    /// The shape in the module, as a checkpoint stores it.
    pub expected: Vec<usize>,
    /// The shape in the file.
    pub got: Vec<usize>,
}

impl fmt::Display for Misshaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, key, expected, got } = self;
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "{key} (expected {expected:?}, got {got:?} in {file})")
    }
}

/// Keys listed per section, so that the message stays readable if a whole model is missing.
const SHOWN: usize = 20;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn section<T: fmt::Display>(
            f: &mut fmt::Formatter<'_>,
            title: &str,
            items: &[T],
        ) -> fmt::Result {
            if items.is_empty() {
                return Ok(());
            }
            write!(f, "; {} {title}: ", items.len())?;
            for (i, item) in items.iter().take(SHOWN).enumerate() {
                write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
            }
            match items.len().saturating_sub(SHOWN) {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        }
        write!(f, "{}: the weights do not match the config", self.dir.display())?;
        section(f, "missing", &self.missing)?;
        section(f, "unused", &self.unused)?;
        section(f, "of another shape", &self.misshaped)
    }
}

impl std::error::Error for Mismatch {}
