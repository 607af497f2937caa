//! The formats of data sets.

use std::path::Path;

use super::row::Listing;
use super::{Columns, PairFormat};
use crate::run::TrainError;

/// Lists the rows of the data set at `path`.
pub(super) fn list(
    format: PairFormat,
    path: &Path,
    columns: &Columns,
) -> Result<Listing, TrainError> {
    match format {
        PairFormat::Folder => super::folder::list(path, columns),
        PairFormat::Jsonl => super::jsonl::list(path, columns),
        #[cfg(feature = "parquet")]
        PairFormat::Parquet => super::parquet::list(path, columns),
        #[cfg(not(feature = "parquet"))]
        PairFormat::Parquet => Err(super::DataError::NoParquet.into()),
    }
}
