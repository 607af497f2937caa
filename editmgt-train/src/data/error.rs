use std::path::PathBuf;

use super::{SkipCause, Skips};

/// Why a data set cannot be used for training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The data set has no rows.
    #[error("{}: expected rows, found none", path.display())]
    NoRows {
        /// The data set.
        path: PathBuf,
    },
    /// No row is usable.
    #[error("{}: no row is left for {part}; skipped: {skips}{}", path.display(), first(skips))]
    NothingLeft {
        /// The data set.
        path: PathBuf,
        /// The split that needs rows.
        part: &'static str,
        /// The skipped rows.
        skips: Skips,
    },
    /// A split leaves one side without rows.
    #[error(
        "{}: none of its {groups} group(s) of rows is left for {part} at a share of {share}; name \
         another share, or a data set of its own by `validation.path`", path.display()
    )]
    EmptyPart {
        /// The data set.
        path: PathBuf,
        /// The side without rows.
        part: &'static str,
        /// The number of groups.
        groups: usize,
        /// `validation.share`.
        share: f64,
    },
    /// A run can only be resumed with its original data.
    #[error(
        "{}: the data are no longer those that the run began with; restore them or begin a new run",
        path.display()
    )]
    Changed {
        /// The data report saved when the run began.
        path: PathBuf,
    },
    /// Parquet is an optional feature.
    #[error("parquet files need a build with the feature `parquet`")]
    NoParquet,
}

/// One example of the most frequent cause.
fn first(skips: &Skips) -> String {
    let most = skips.iter().max_by_key(|(_, rows)| rows.count);
    let example = |(cause, rows): (SkipCause, &super::SkippedRows)| {
        rows.examples.first().map(|example| format!(" ({cause}, {example})"))
    };
    most.and_then(example).unwrap_or_default()
}
