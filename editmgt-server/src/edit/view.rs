//! An edit, as clients see it.

use std::collections::BTreeMap;

use editmgt::{EditResult, PhotoNote};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{Edit, Outcome, State, Status};
use crate::error::ErrorBody;
use crate::sync::lock;

impl Edit {
    pub(crate) fn view(&self) -> EditView {
        self.view_of(&lock(&self.state))
    }

    pub(super) fn view_of(&self, state: &State) -> EditView {
        EditView {
            id: self.id.clone(),
            photo: self.photo.id.clone(),
            model: self.model_name.clone(),
            width: self.size().width,
            height: self.size().height,
            base: self.base.as_ref().map(|base| base.id.clone()),
            parent: self.parent.clone(),
            mask: self.mask.as_ref().map(|mask| mask.id.clone()),
            look: self.look,
            instruction: self.request.instruction.clone(),
            options: self.options.clone(),
            status: state.status,
            position: if state.status == Status::Queued { state.position } else { 0 },
            completed: state.completed,
            total: state.total,
            preview: state.preview.is_some(),
            words: state.maps.as_ref().map_or_else(Vec::new, |maps| maps.words()),
            notes: match &state.outcome {
                Some(Outcome::Live(result)) => notes_of(result),
                Some(Outcome::Archived(archive)) => archive.notes.clone(),
                None => Vec::new(),
            },
            report: state.outcome.clone().map(ReportOf),
            error: state.error.as_ref().map(|error| ErrorBody::clone(&error.body)),
        }
    }
}

/// The remarks of the report as sentences.
pub(crate) fn notes_of(result: &EditResult) -> Vec<String> {
    let report = &result.report;
    let mut notes = sentences(&report.notes);
    notes.extend(report.mask_notes.iter().map(|note| format!("mask: {note}")));
    notes.extend(report.prompts_cut().map(ToString::to_string));
    notes.extend(report.composite.note.clone());
    notes
}

/// Remarks on an image as sentences.
pub(crate) fn sentences(notes: &[PhotoNote]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

/// An edit, as clients see it.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Edit)]
pub(crate) struct EditView {
    id: String,
    photo: String,
    /// Name of the model.
    model: String,
    /// Of the result, in pixels: larger than the photo for an outpainting.
    width: usize,
    height: usize,
    base: Option<String>,
    parent: Option<String>,
    mask: Option<String>,
    look: bool,
    instruction: String,
    options: BTreeMap<String, String>,
    pub(crate) status: Status,
    /// Edits before it; 0 unless it is queued.
    position: usize,
    /// Steps that are done.
    completed: usize,
    total: usize,
    /// Whether there is a preview.
    preview: bool,
    /// Words whose own maps are kept.
    words: Vec<String>,
    /// The `EditReport`; null but for a done edit with a result.
    #[schema(value_type = Option<Object>)]
    report: Option<ReportOf>,
    notes: Vec<String>,
    error: Option<ErrorBody>,
}

/// The report of a result.
#[derive(Clone)]
pub(crate) struct ReportOf(pub(crate) Outcome);

impl Serialize for ReportOf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Outcome::Live(result) => result.report.serialize(serializer),
            Outcome::Archived(archive) => archive.report.serialize(serializer),
        }
    }
}
