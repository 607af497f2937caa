//! The files read by a data set, and those written by its token cache.

use std::path::Path;

use editmgt_store::{FileRoles, StoreError};

use super::{Columns, DataOptions, PairFormat, ValidationPart, cache};

impl PairFormat {
    /// Declares the files of the data set at `path` as inputs. Unreadable ones are ignored here and
    /// refused when the data set is opened.
    pub fn declare_inputs(self, path: &Path, columns: &Columns, roles: &mut FileRoles) {
        const WHAT: &str = "data";
        match self {
            Self::Folder => {
                for column in columns.names() {
                    roles.input_tree(WHAT, path.join(column));
                }
            }
            Self::Jsonl => {
                roles.input(WHAT, path);
                for picture in super::jsonl::pictures(path, columns) {
                    roles.input(WHAT, picture);
                }
            }
            #[cfg(feature = "parquet")]
            Self::Parquet => {
                for file in super::parquet::files(path).unwrap_or_default() {
                    roles.input(WHAT, file);
                }
            }
            #[cfg(not(feature = "parquet"))]
            Self::Parquet => roles.input_tree(WHAT, path),
        }
    }
}

impl DataOptions {
    /// Declares the files of the data sets as inputs, as [`PairFormat::declare_inputs`].
    pub fn declare_inputs(&self, roles: &mut FileRoles) {
        let Some((format, pairs)) = self.format().zip(self.pairs()) else { return };
        let Ok(columns) = pairs.columns() else { return };
        format.declare_inputs(&pairs.path, &columns, roles);
        if let ValidationPart::Path(path) = &pairs.validation {
            format.declare_inputs(path, &columns, roles);
        }
    }

    /// Declares the files of the token cache as outputs.
    ///
    /// # Errors
    /// [`StoreError::OverInput`].
    pub fn declare_outputs(&self, roles: &mut FileRoles) -> Result<(), StoreError> {
        let Some(pairs) = self.pairs() else { return Ok(()) };
        cache::folders(&pairs.cache)
            .into_iter()
            .try_for_each(|folder| roles.output_tree("token cache", folder))
    }
}
