use std::path::PathBuf;

use super::{SkipCause, Skips};

/// Why a data set can't be learned from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// There is no row at all.
    #[error("{}: expected rows, found none", path.display())]
    NoRows {
        /// The data set.
        path: PathBuf,
    },
    /// No row can be used.
    #[error("{}: no row is left for {part}; left out: {skips}{}", path.display(), first(skips))]
    NothingLeft {
        /// The data set.
        path: PathBuf,
        /// What the rows are for.
        part: &'static str,
        /// The rows that were left out.
        skips: Skips,
    },
    /// The split leaves one side without rows.
    #[error(
        "{}: none of its {groups} group(s) of rows is left for {part} at a share of {share}; name \
         another share, or a data set of its own by `validation.path`", path.display()
    )]
    EmptyPart {
        /// The data set.
        path: PathBuf,
        /// The side without rows.
        part: &'static str,
        /// The groups that there are.
        groups: usize,
        /// `validation.share`.
        share: f64,
    },
    /// A run can only go on with the data that it began with.
    #[error(
        "{}: the data are no longer those that the run began with; restore them or begin a new run",
        path.display()
    )]
    Changed {
        /// The report of the data that the run began with.
        path: PathBuf,
    },
    /// Parquet is a feature.
    #[error("parquet files need a build with the feature `parquet`")]
    NoParquet,
}

/// One row that shows what is wrong, of the most frequent cause.
fn first(skips: &Skips) -> String {
    let most = skips.iter().max_by_key(|(_, rows)| rows.count);
    let example = |(cause, rows): (SkipCause, &super::SkippedRows)| {
        rows.examples.first().map(|example| format!(" ({cause}, {example})"))
    };
    most.and_then(example).unwrap_or_default()
}
