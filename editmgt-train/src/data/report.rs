use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DataError, Skips};
use crate::run::TrainError;

/// Counts of a data set's used and skipped rows; its `Display` is a summary in a few lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReport {
    /// The data set.
    pub path: PathBuf,
    /// Number of all rows.
    pub rows: u64,
    /// The training split.
    pub train: PartReport,
    /// The validation split.
    pub validation: PartReport,
    /// Unread rows of the validation split, beyond those that an evaluation needs.
    pub spare: u64,
    /// Skipped rows.
    pub skipped: Skips,
    /// Examples encoded now.
    pub encoded: u64,
    /// Examples read from the cache.
    pub cached: u64,
    /// Damaged cache files, encoded again.
    pub damaged_cache_files: u64,
    /// A hash of all examples: their image files, instructions and order.
    pub fingerprint: String,
}

/// Counts of one split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    /// Used rows.
    pub rows: u64,
    /// Examples: rows times crops.
    pub examples: u64,
    /// Rows by category; those without a known one are under `unknown`.
    pub categories: BTreeMap<String, u64>,
}

impl DataReport {
    /// The report's file in a run's folder.
    pub const FILE: &str = "data.json";

    /// Saves the report in the folder of a run.
    ///
    /// # Errors
    /// [`DataError::Changed`] when the folder has a report of other data.
    pub fn save(&self, run: &Path) -> Result<(), TrainError> {
        let path = run.join(Self::FILE);
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
            let began: Self =
                serde_json::from_str(&text).map_err(|e| TrainError::malformed(&path, e))?;
            return if began.fingerprint == self.fingerprint {
                Ok(())
            } else {
                Err(DataError::Changed { path }.into())
            };
        }
        let text =
            serde_json::to_string_pretty(self).map_err(|e| TrainError::malformed(&path, e))?;
        Ok(editmgt_store::write(&path, text + "\n")?)
    }
}

impl fmt::Display for DataReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, rows, train, validation, spare, skipped, .. } = self;
        writeln!(f, "{}: {rows} rows", path.display())?;
        let examples = |part: &PartReport| {
            if part.examples == part.rows {
                part.rows.to_string()
            } else {
                format!("{} ({} crops)", part.rows, part.examples)
            }
        };
        write!(f, "  training {}, validation {}", examples(train), examples(validation))?;
        if *spare > 0 {
            write!(f, ", {spare} more than are evaluated")?;
        }
        writeln!(f, "\n  tokens: {} made, {} from the cache", self.encoded, self.cached)?;
        if self.damaged_cache_files > 0 {
            writeln!(f, "  damaged files of the cache: {}", self.damaged_cache_files)?;
        }
        write!(f, "  skipped: {skipped}")?;
        for (cause, rows) in skipped.iter() {
            for example in &rows.examples {
                write!(f, "\n    {cause}: {example}")?;
            }
            if rows.count > rows.examples.len() as u64 {
                write!(f, "\n    {cause}: and {} more", rows.count - rows.examples.len() as u64)?;
            }
        }
        Ok(())
    }
}
