//! A data set in a JSON Lines file: one object per line.

use std::path::{Path, PathBuf};

use editmgt_store::{TextLines, json};
use serde_json::{Map, Value};

use super::files::{FileReader, ImageFiles};
use super::row::{Listing, Row, Words};
use super::{Columns, Skip, SkipCause, Skips};
use crate::run::TrainError;

type Object = Map<String, Value>;

/// Lists the rows of the file `path`; image paths are relative to its folder.
pub(super) fn list(path: &Path, columns: &Columns) -> Result<Listing, TrainError> {
    let mut lines = TextLines::open(path)?;
    let root = path.parent().unwrap_or(Path::new(""));
    let (mut rows, mut pictures, mut skips) = (Vec::new(), Vec::new(), Skips::default());
    while let Some((number, line)) = lines.next()? {
        let name = format!("line {number}");
        match row(line, &name, root, columns) {
            Ok((row, files)) => {
                rows.push(row);
                pictures.push(files);
            }
            Err(skip) => skips.add(&name, &skip),
        }
    }
    Ok(Listing { rows, skips, pictures: Box::new(FileReader(pictures)) })
}

/// The images named by the lines; unreadable lines name none.
pub(super) fn pictures(path: &Path, columns: &Columns) -> Vec<PathBuf> {
    let root = path.parent().unwrap_or(Path::new(""));
    let names: Vec<&String> =
        [&columns.before, &columns.after].into_iter().chain(&columns.mask).collect();
    let mut found = Vec::new();
    let Ok(mut lines) = TextLines::open(path) else { return found };
    while let Ok(Some((_, line))) = lines.next() {
        let Ok(object) = json::parse_object(line) else { continue };
        let object: Object = object;
        let named = names.iter().filter_map(|name| object.get(*name)?.as_str());
        found.extend(named.map(|name| root.join(name)));
    }
    found
}

fn row(line: &[u8], name: &str, root: &Path, columns: &Columns) -> Result<(Row, ImageFiles), Skip> {
    let object: Object =
        json::parse_object(line).map_err(|e| Skip::new(SkipCause::Malformed, e))?;
    let picture = |column: &str| {
        let missing = || Skip::new(SkipCause::MissingColumn, format!("no {column}"));
        Ok(root.join(text(&object, column)?.ok_or_else(missing)?))
    };
    let optional =
        |column: &Option<String>| column.as_ref().map_or(Ok(None), |column| text(&object, column));
    let words = Words {
        instruction: text(&object, &columns.instruction)?.map(str::to_owned),
        category: optional(&columns.category)?.map(str::to_owned),
        group: columns.group.as_ref().map_or(Ok(None), |column| label(&object, column))?,
        caption_before: optional(&columns.caption_before)?.map(str::to_owned),
        caption_after: optional(&columns.caption_after)?.map(str::to_owned),
    };
    let files = ImageFiles {
        before: picture(&columns.before)?,
        after: picture(&columns.after)?,
        mask: optional(&columns.mask)?.map(|path| root.join(path)),
    };
    let row = words.into_row(name.to_owned(), files.stamp()?, columns)?;
    Ok((row, files))
}

/// A text; `None` where there is none.
fn text<'a>(object: &'a Object, column: &str) -> Result<Option<&'a str>, Skip> {
    match object.get(column) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(column, "a text", other)),
    }
}

/// A text or a number.
fn label(object: &Object, column: &str) -> Result<Option<String>, Skip> {
    match object.get(column) {
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        _ => Ok(text(object, column)?.map(str::to_owned)),
    }
}

fn wrong(column: &str, expected: &str, got: &Value) -> Skip {
    let got: String = got.to_string().chars().take(40).collect();
    Skip::new(SkipCause::WrongType, format!("{column}: expected {expected}, got {got}"))
}
