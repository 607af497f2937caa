use std::path::Path;

use editmgt::{EditRequest, EditResult, Editor};
use editmgt_train::data::Captions;
use serde_json::{Value, json};

use crate::{EvalError, Panels, Record, RunStore, Shard};

/// A set of edits to make and to measure.
pub trait Suite {
    /// Everything that its records depend on, as an object: a run is only resumed with the same.
    ///
    /// # Errors
    /// Those of the settings.
    fn identity(&self) -> Result<Value, EvalError>;

    /// Number of edits.
    fn len(&self) -> u64;

    /// Whether there are no edits.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Captions of an edit's images, if known; none by default.
    fn captions(&self, _index: u64) -> Captions {
        Captions::default()
    }

    /// Makes the edit of this index, below [`len`](Self::len), and measures it. Deterministic.
    ///
    /// # Errors
    /// [`EvalError::Edit`]; those of the data.
    fn measure(&self, index: u64) -> Result<Measured, EvalError>;

    /// Writes an edit in the suite's own format into the run's folder; does nothing by default.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    fn save(&self, _dir: &Path, _measured: &Measured) -> Result<(), EvalError> {
        Ok(())
    }
}

/// Result of one edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The metrics.
    pub record: Record,
    /// The images; `None` for a skipped edit.
    pub panels: Option<Panels>,
    /// Seconds of the edit, from the photo to the result; `None` if none was made.
    pub seconds: Option<f64>,
}

/// Runs the edits of a shard that its store does not have, and passes each to `each`. Without a
/// store all are run. Returns the shard's records by index. `progress` gets the number done and the
/// total.
///
/// # Errors
/// Those of the suite and of the store, which keeps earlier records.
pub fn run(
    suite: &dyn Suite,
    shard: Shard,
    mut store: Option<&mut RunStore>,
    each: &mut dyn FnMut(&Measured) -> Result<(), EvalError>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<Record>, EvalError> {
    let indices: Vec<u64> = (0..suite.len()).filter(|&index| shard.has(index)).collect();
    let mut records = Vec::with_capacity(indices.len());
    for &index in &indices {
        records.push(one(suite, index, store.as_deref_mut(), each)?);
        progress(records.len() as u64, indices.len() as u64);
    }
    Ok(records)
}

/// The record of an edit, from the store or newly made.
pub(crate) fn one(
    suite: &dyn Suite,
    index: u64,
    store: Option<&mut RunStore>,
    each: &mut dyn FnMut(&Measured) -> Result<(), EvalError>,
) -> Result<Record, EvalError> {
    if let Some(known) = store.as_ref().and_then(|store| store.get(index)) {
        return Ok(known.clone());
    }
    let measured = suite.measure(index)?;
    // The images first: a record marks the edit as done.
    each(&measured)?;
    if let Some(store) = store {
        store.add(&measured)?;
    }
    Ok(measured.record)
}

/// Seconds of an edit, the sum of all stages.
pub(crate) fn seconds(edited: &EditResult) -> f64 {
    edited.report.seconds.iter().map(|(_, seconds)| seconds).sum()
}

/// Identity of the edits of a suite by this editor and request.
///
/// # Errors
/// An option out of range.
pub(crate) fn edits_identity(editor: &Editor, request: &EditRequest) -> Result<Value, EvalError> {
    // Each edit has its own instruction; a request without one is refused.
    let with_instruction = request.clone().instruction("any");
    let settings = editor.settings(&with_instruction).map_err(EvalError::edit(0))?;
    let mut settings = serde_json::to_value(settings).expect("settings are JSON");
    if let Some(settings) = settings.as_object_mut() {
        settings.remove("instruction");
    }
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": editor.model().source,
        "settings": settings,
    }))
}
