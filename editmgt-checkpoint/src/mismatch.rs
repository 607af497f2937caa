use std::fmt;
use std::path::PathBuf;

/// How a checkpoint's keys differ from the parameters of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The folder.
    pub dir: PathBuf,
    /// Keys that the module needs and no file has.
    pub missing: Vec<String>,
    /// Keys that a file has and the module does not need.
    pub unused: Vec<String>,
    /// Keys with another shape than the module needs.
    pub misshaped: Vec<Misshaped>,
}

/// A key with another shape than the module needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshaped {
    /// The file.
    pub file: PathBuf,
    /// The key.
    pub key: String,
    /// The shape that the module needs, as a checkpoint stores it.
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

/// A message stays readable where a whole model is missing.
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
