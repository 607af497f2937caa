use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DataError, Skips};
use crate::run::TrainError;

/// What became of the rows of a data set. Printed, it is a few lines for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReport {
    /// The data set.
    pub path: PathBuf,
    /// All rows.
    pub rows: u64,
    /// What is learned from.
    pub train: PartReport,
    /// What is evaluated on.
    pub validation: PartReport,
    /// Rows of the validation part that were not looked at: an evaluation needs no more.
    pub spare: u64,
    /// Rows that were left out.
    pub skipped: Skips,
    /// Examples whose tokens were made now.
    pub encoded: u64,
    /// Examples whose tokens were in the cache.
    pub cached: u64,
    /// Files of the cache that were damaged, and made again.
    pub damaged_cache_files: u64,
    /// A hash of all examples: their pictures' files, instructions and order.
    pub fingerprint: String,
}

/// The rows on one side of the split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    /// Rows that are used.
    pub rows: u64,
    /// Examples that they make: as many as there are crops of each.
    pub examples: u64,
    /// Rows by category; those without a known one are under `unknown`.
    pub categories: BTreeMap<String, u64>,
}

impl DataReport {
    /// The file of a run's folder that holds it.
    pub const FILE: &str = "data.json";

    /// Leaves the report in the folder of a run.
    ///
    /// # Errors
    /// [`DataError::Changed`] when there is one already, of other data.
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
        write!(f, "  left out: {skipped}")?;
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
