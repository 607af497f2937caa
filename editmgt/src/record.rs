use std::path::Path;

use editmgt_store::json;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lora::LoraSource;
use crate::model::{ModelQuantization, ModelSource};
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
    /// The bits of components whose weights were quantised.
    #[serde(default, skip_serializing_if = "ModelQuantization::is_none")]
    pub quantization: ModelQuantization,
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
        read_record(path.as_ref(), ("prompt", "`generate`"))
    }

    /// Differences between the model that made the edit and `model`, a sentence each; empty if the
    /// edit can be repeated with it.
    pub fn differences(&self, model: Option<&ModelSource>) -> Vec<String> {
        Self::model_differences(self.model.as_ref(), &self.loras, self.quantization, model)
    }

    /// Differences between the model of a record with these adapters and `model`.
    pub(crate) fn model_differences(
        recorded: Option<&String>,
        recorded_loras: &[LoraSource],
        recorded_quantization: ModelQuantization,
        model: Option<&ModelSource>,
    ) -> Vec<String> {
        let loras = model.map_or(&[][..], |model| &model.loras);
        let lacks = |all: &[LoraSource], lora: &LoraSource| !all.iter().any(|l| l.is_same(lora));
        let mut differences = Vec::new();
        if recorded != model.map(|model| &model.sha256) {
            differences.push("it was made with another model".to_owned());
        }
        let quantization = model.map(|model| model.quantization).unwrap_or_default();
        if recorded_quantization != quantization {
            differences
                .push(format!("it was made with {recorded_quantization}, not with {quantization}"));
        }
        for lora in recorded_loras.iter().filter(|lora| lacks(loras, lora)) {
            differences.push(format!("it was made with the {lora}, which is not given"));
        }
        for lora in loras.iter().filter(|lora| lacks(recorded_loras, lora)) {
            differences.push(format!("it was made without the {lora}"));
        }
        differences
    }
}

/// The record in the text chunk of a PNG. Records whose settings have the key of `other` are those
/// of another command.
pub(crate) fn read_record<T: DeserializeOwned>(
    path: &Path,
    other: (&str, &str),
) -> Result<T, PhotoError> {
    let (keyword, owned) = (EditRecord::KEYWORD, || path.to_owned());
    let text =
        read_text(path, keyword)?.ok_or_else(|| PhotoError::NoRecord { path: owned(), keyword })?;
    let record = json::parse_object(text.as_bytes()).and_then(json::from_object);
    record.map_err(|problem| {
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let (key, command) = other;
        let cause = serde_json::Error::custom(if value["settings"][key].is_string() {
            format!("it is the record of {command}, which repeats it")
        } else {
            problem
        });
        let version = value["version"].as_str().unwrap_or("unknown").escape_debug().to_string();
        PhotoError::Record { path: owned(), version, cause }
    })
}

impl From<&EditReport> for EditRecord {
    fn from(report: &EditReport) -> Self {
        Self {
            version: report.version.to_owned(),
            model: report.model.as_ref().map(|model| model.sha256.clone()),
            loras: report.model.as_ref().map_or_else(Vec::new, |model| model.loras.clone()),
            quantization: report.model.as_ref().map(|model| model.quantization).unwrap_or_default(),
            request: report.request.clone(),
            settings: report.settings.clone(),
        }
    }
}
