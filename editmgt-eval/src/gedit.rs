//! GEdit-Bench: real photos and user instructions without true results, scored by a rater.

use std::collections::BTreeSet;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use editmgt::{EditRequest, Editor, Photo};
use editmgt_world::{Category, Metrics};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::metrics::Differences;
use crate::suite::{edits_identity, seconds};
use crate::world::{localised, maps};
use crate::{EvalError, Measured, Panels, Record, Suite, lines, panels};

/// File name of the list.
const LIST: &str = "info.jsonl";
/// Suffix of a photo's file name.
const PHOTO: &str = "_SRCIMG.png";

/// The photos and instructions of GEdit-Bench in a folder: `info.jsonl`, with a `key`, `task_type`,
/// `instruction` and `instruction_language` per line, and a `KEY_SRCIMG.png` for each.
/// `scripts/gedit_folder.py` creates one from the published data set.
#[derive(Debug, Clone)]
pub struct GeditData {
    folder: PathBuf,
    rows: Vec<Row>,
    sha256: String,
}

/// A line of the list. Other keys are for the rater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Row {
    task_type: String,
    instruction_language: String,
    key: String,
    instruction: String,
}

impl Row {
    /// Its name and output path: `TASK/LANGUAGE/KEY`.
    fn name(&self) -> String {
        format!("{}/{}/{}", self.task_type, self.instruction_language, self.key)
    }
}

impl GeditData {
    /// Opens a folder; selects the instructions in `language` (`en`, `cn`), or all.
    ///
    /// # Errors
    /// [`EvalError::Io`], [`EvalError::Malformed`] for a line that is invalid, names a file in
    /// another folder, or is a duplicate; [`EvalError::NoRecords`] when no instruction is left.
    pub fn open(folder: &Path, language: Option<&str>) -> Result<Self, EvalError> {
        let path = folder.join(LIST);
        let text = std::fs::read(&path).map_err(EvalError::io(&path))?;
        let rows: Vec<Row> = lines::parse(&path, &text)?;
        let mut names = BTreeSet::new();
        for row in &rows {
            let parts = [&row.task_type, &row.instruction_language, &row.key];
            let plain = |part: &&String| {
                !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\\'])
            };
            if let Some(bad) = parts.into_iter().find(|part| !plain(part)) {
                let problem = format!("expected names of files, got {bad:?}");
                return Err(EvalError::malformed(&path, problem));
            }
            if !names.insert(row.name()) {
                let problem = format!("{} is a duplicate", row.name());
                return Err(EvalError::malformed(&path, problem));
            }
        }
        let wanted = |row: &Row| language.is_none_or(|name| row.instruction_language == name);
        let rows: Vec<Row> = rows.into_iter().filter(wanted).collect();
        if rows.is_empty() {
            let problem = match language {
                Some(language) => format!("expected instructions in {language}, got none"),
                None => "expected instructions, got none".to_owned(),
            };
            return Err(EvalError::NoRecords { path, problem });
        }
        let sha256 = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder: folder.to_owned(), rows, sha256 })
    }

    /// The input files: the list, and the photos of the selected instructions.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let photos = self.rows.iter().map(|row| self.photo(row));
        photos.chain([self.folder.join(LIST)])
    }

    fn photo(&self, row: &Row) -> PathBuf {
        self.folder.join(format!("{}{PHOTO}", row.key))
    }
}

/// The edits of GEdit-Bench. Without true results only the amount of change is measured; the images
/// are written where the official rating scripts expect them.
pub struct GeditSuite<'a> {
    /// The editor.
    pub editor: &'a Editor,
    /// The request; the instruction is each row's own.
    pub request: EditRequest,
    /// The photos and instructions.
    pub data: &'a GeditData,
    /// Number of rows to use, from the first; `None` for all.
    pub n: Option<u64>,
}

impl Suite for GeditSuite<'_> {
    fn identity(&self) -> Result<Value, EvalError> {
        let edits = edits_identity(self.editor, &self.request)?;
        let rows = self.data.rows.iter().map(|row| &*row.instruction_language);
        let languages: BTreeSet<&str> = rows.collect();
        let data = json!({"sha256": self.data.sha256, "languages": languages});
        Ok(json!({"suite": "gedit", "data": data, "edits": edits}))
    }

    fn len(&self) -> u64 {
        let rows = self.data.rows.len() as u64;
        self.n.map_or(rows, |n| n.min(rows))
    }

    fn measure(&self, index: u64) -> Result<Measured, EvalError> {
        // `index` is below the number of rows, which are in memory.
        let row = &self.data.rows[index as usize];
        let mut record = Record {
            index,
            name: Some(row.name()),
            category: category(&row.task_type),
            kind: Some(row.task_type.clone()),
            instruction: row.instruction.clone(),
            metrics: Metrics::default(),
            skipped: None,
        };
        let photo = match Photo::open(self.data.photo(row)) {
            Ok(photo) => photo,
            Err(why) => {
                // The local path is not part of the record.
                let folder = format!("{}{MAIN_SEPARATOR}", self.data.folder.display());
                record.skipped = Some(why.to_string().replace(&folder, ""));
                return Ok(Measured { record, panels: None, seconds: None });
            }
        };
        let request = self.request.clone().instruction(row.instruction.clone());
        let edited = self.editor.edit(&photo, &request).map_err(EvalError::edit(index))?;
        let (before, after) = (photo.rgb(), edited.image.rgb());
        let kept = Differences::between(after, before, None)?.whole;
        record.metrics = Metrics::default()
            .with("pixels_changed", kept.changed)
            .with("l1_from_photo", kept.l1)
            .and(&localised(&edited, None)?);
        let (map, held) = maps(&edited);
        let panels =
            Panels { before: before.clone(), truth: None, map, held, after: after.clone() };
        Ok(Measured { record, panels: Some(panels), seconds: Some(seconds(&edited)) })
    }

    /// `fullset/TASK/LANGUAGE/KEY.png` is the result, `KEY_SRCIMG.png` beside it the photo.
    fn save(&self, dir: &Path, measured: &Measured) -> Result<(), EvalError> {
        let Some(Panels { before, after, .. }) = &measured.panels else { return Ok(()) };
        let name = measured.record.name.as_deref().expect("every row has a name");
        let (photo, result) = pictures(dir, name);
        let folder = result.parent().expect("the path was joined");
        std::fs::create_dir_all(folder).map_err(EvalError::io(folder))?;
        editmgt_store::write(photo, panels::png(before))?;
        Ok(editmgt_store::write(result, panels::png(after))?)
    }
}

/// Paths of the photo and the result in the official layout.
pub(crate) fn pictures(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let path = |end: &str| dir.join("fullset").join(format!("{name}{end}"));
    (path(PHOTO), path(".png"))
}

/// The matching category, if there is one.
fn category(task: &str) -> Option<Category> {
    Some(match task {
        "background_change" => Category::Background,
        "color_alter" => Category::Colour,
        "motion_change" => Category::Motion,
        "style_change" => Category::Style,
        "subject-add" => Category::Add,
        "subject-remove" => Category::Remove,
        "subject-replace" => Category::Replace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(list: &str, language: Option<&str>) -> Result<GeditData, EvalError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LIST), list).unwrap();
        GeditData::open(dir.path(), language)
    }

    fn line(task: &str, language: &str, key: &str) -> String {
        json!({
            "key": key, "task_type": task, "instruction": "add a hat",
            "instruction_language": language, "Intersection_exist": true,
        })
        .to_string()
            + "\n"
    }

    #[test]
    fn a_list_is_read_in_one_language_or_all() {
        let list = line("subject-add", "en", "a") + &line("subject-add", "cn", "a");
        assert_eq!(open(&list, None).unwrap().rows.len(), 2);
        let english = open(&list, Some("en")).unwrap();
        assert_eq!(english.rows[0].name(), "subject-add/en/a");
        assert_eq!((english.rows.len(), english.sha256.len()), (1, 64));
        // The last line may lack its end.
        assert_eq!(open(list.trim_end(), None).unwrap().rows.len(), 2);
    }

    #[test]
    fn rejects_invalid_lists() {
        let good = line("text_change", "en", "a");
        for (list, language, expected) in [
            (good.clone() + &good, None, "text_change/en/a is a duplicate"),
            (line("..", "en", "a"), None, "expected names of files, got \"..\""),
            (line("text_change", "en", "../a"), None, "expected names of files, got \"../a\""),
            (good.clone() + "{}\n", None, "line 2: missing field"),
            (good, Some("cn"), "expected instructions in cn, got none"),
            (String::new(), None, "expected instructions, got none"),
        ] {
            let error = open(&list, language).unwrap_err().to_string();
            assert!(error.contains(LIST) && error.contains(expected), "{error}");
        }
    }
}
