//! A data set of folders: a sub-folder for each column, the files of one stem for each row.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use editmgt_store::is_sidecar;

use super::files::{FileReader, ImageFiles};
use super::row::{Listing, Row, Words};
use super::{Columns, Skip, SkipCause, Skips};
use crate::run::TrainError;

/// The files of a column by their stems.
type Column = BTreeMap<String, Vec<PathBuf>>;

/// Lists the rows of the folder `root`.
pub(super) fn list(root: &Path, columns: &Columns) -> Result<Listing, TrainError> {
    // A missing data set is an error, not an empty one.
    std::fs::read_dir(root).map_err(TrainError::io(root))?;
    let files = Files {
        columns,
        before: column(root, Some(&columns.before))?,
        after: column(root, Some(&columns.after))?,
        instruction: column(root, Some(&columns.instruction))?,
        mask: column(root, columns.mask.as_ref())?,
        category: column(root, columns.category.as_ref())?,
        group: column(root, columns.group.as_ref())?,
        caption_before: column(root, columns.caption_before.as_ref())?,
        caption_after: column(root, columns.caption_after.as_ref())?,
    };
    let stems = files.before.keys().chain(files.after.keys()).chain(files.instruction.keys());
    let stems: BTreeSet<&String> = stems.collect();
    let (mut rows, mut pictures, mut skips) = (Vec::new(), Vec::new(), Skips::default());
    for stem in stems {
        match files.row(stem) {
            Ok((row, files)) => {
                rows.push(row);
                pictures.push(files);
            }
            Err(skip) => skips.add(stem, &skip),
        }
    }
    Ok(Listing { rows, skips, pictures: Box::new(FileReader(pictures)) })
}

struct Files<'a> {
    columns: &'a Columns,
    before: Column,
    after: Column,
    instruction: Column,
    mask: Column,
    category: Column,
    group: Column,
    caption_before: Column,
    caption_after: Column,
}

impl Files<'_> {
    fn row(&self, stem: &str) -> Result<(Row, ImageFiles), Skip> {
        let picture = |column: &Column, name: &str| {
            let missing = || Skip::new(SkipCause::MissingImage, format!("no {name}/{stem}.*"));
            only(column, stem)?.cloned().ok_or_else(missing)
        };
        let text = |column: &Column| only(column, stem)?.map(|path| read(path)).transpose();
        let words = Words {
            instruction: text(&self.instruction)?,
            category: text(&self.category)?,
            group: text(&self.group)?.map(|group| group.trim().to_owned()),
            caption_before: text(&self.caption_before)?,
            caption_after: text(&self.caption_after)?,
        };
        let files = ImageFiles {
            before: picture(&self.before, &self.columns.before)?,
            after: picture(&self.after, &self.columns.after)?,
            mask: only(&self.mask, stem)?.cloned(),
        };
        let row = words.into_row(stem.to_owned(), files.stamp()?, self.columns)?;
        Ok((row, files))
    }
}

fn column(root: &Path, name: Option<&String>) -> Result<Column, TrainError> {
    let mut column = Column::new();
    let Some(name) = name else { return Ok(column) };
    let dir = root.join(name);
    let entries = match std::fs::read_dir(&dir) {
        // Optional columns may be missing; rows without a required one are counted.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(column),
        entries => entries.map_err(TrainError::io(&dir))?,
    };
    for entry in entries {
        let path = entry.map_err(TrainError::io(&dir))?.path();
        if path.file_name().is_some_and(is_sidecar) {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(stem) = stem.filter(|_| path.is_file()) {
            column.entry(stem.to_owned()).or_default().push(path);
        }
    }
    Ok(column)
}

fn only<'a>(column: &'a Column, stem: &str) -> Result<Option<&'a PathBuf>, Skip> {
    match column.get(stem).map(Vec::as_slice) {
        None => Ok(None),
        Some([path]) => Ok(Some(path)),
        Some(paths) => {
            let detail = format!("{} files for one value, as {}", paths.len(), paths[0].display());
            Err(Skip::new(SkipCause::Malformed, detail))
        }
    }
}

fn read(path: &Path) -> Result<String, Skip> {
    editmgt_store::read_text(path).map_err(|e| Skip::new(SkipCause::WrongType, e))
}
