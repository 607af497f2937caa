use std::path::Path;

use editmgt_store::json;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lora::LoraSource;
use crate::model::ModelSource;
use crate::photo::{PhotoError, read_text};
use crate::report::EditReport;
use crate::request::{EditRequest, EditSettings};

/// The record of an edit in a PNG: enough to repeat it, given the photo, the mask, the model and
/// its LoRA adapters.
///
/// ```no_run
/// use editmgt::{EditRecord, EditRequest};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let record = EditRecord::open("black-cat.png")?;
/// println!("made with editmgt {}: {}", record.version, record.settings.instruction);
/// let again: EditRequest = record.settings.into();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EditRecord {
    /// Version of this library.
    pub version: String,
    /// Identity of the model: see [`identity`](crate::identity); `None` for custom parts.
    pub model: Option<String>,
    /// Its LoRA adapters.
    #[serde(default)]
    pub loras: Vec<LoraSource>,
    /// The request: only the explicitly set options.
    pub request: EditRequest,
    /// All effective options, including the seed.
    pub settings: EditSettings,
}

impl EditRecord {
    /// The keyword of the PNG's text chunk.
    pub const KEYWORD: &str = "editmgt";

    /// The text chunk, keyword and JSON, for [`SaveOptions::text`](crate::SaveOptions::text).
    pub fn png_text(&self) -> (String, String) {
        let json = serde_json::to_string(self).expect("a record has names and numbers only");
        (Self::KEYWORD.to_owned(), json)
    }

    /// Reads the record of a PNG.
    ///
    /// # Errors
    /// [`PhotoError::Read`], [`PhotoError::NoText`] for a file that is not a PNG,
    /// [`PhotoError::NoRecord`] for one without a record, [`PhotoError::Record`] for a record of an
    /// unsupported version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        let text = read_text(path, Self::KEYWORD)?
            .ok_or_else(|| PhotoError::NoRecord { path: owned(), keyword: Self::KEYWORD })?;
        let record = json::parse_object(text.as_bytes()).and_then(json::from_object);
        record.map_err(|problem| {
            let source = serde_json::Error::custom(problem);
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            let version = value["version"].as_str().unwrap_or("unknown").escape_debug().to_string();
            PhotoError::Record { path: owned(), version, cause: source }
        })
    }

    /// Differences between the model that made the edit and `model`, a sentence each; empty if the
    /// edit can be repeated with it.
    pub fn differences(&self, model: Option<&ModelSource>) -> Vec<String> {
        let loras = model.map_or(&[][..], |model| &model.loras);
        let lacks = |all: &[LoraSource], lora: &LoraSource| !all.iter().any(|l| l.is_same(lora));
        let mut differences = Vec::new();
        if self.model.as_ref() != model.map(|model| &model.sha256) {
            differences.push("it was made with another model".to_owned());
        }
        for lora in self.loras.iter().filter(|lora| lacks(loras, lora)) {
            differences.push(format!("it was made with the {lora}, which is not given"));
        }
        for lora in loras.iter().filter(|lora| lacks(&self.loras, lora)) {
            differences.push(format!("it was made without the {lora}"));
        }
        differences
    }
}

impl From<&EditReport> for EditRecord {
    fn from(report: &EditReport) -> Self {
        Self {
            version: report.version.to_owned(),
            model: report.model.as_ref().map(|model| model.sha256.clone()),
            loras: report.model.as_ref().map_or_else(Vec::new, |model| model.loras.clone()),
            request: report.request.clone(),
            settings: report.settings.clone(),
        }
    }
}
