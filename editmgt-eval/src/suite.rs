use std::path::Path;

use editmgt::{EditRequest, EditResult, Editor};
use editmgt_train::data::Captions;
use serde_json::{Value, json};

use crate::{EvalError, Panels, Record, RunStore, Shard};

/// Edits to make and to measure.
pub trait Suite {
    /// Everything that its records depend on, as an object: a run is only resumed with the same.
    ///
    /// # Errors
    /// Those of the settings.
    fn identity(&self) -> Result<Value, EvalError>;

    /// How many edits there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the pictures of an edit show, in words, as far as that is known: nothing, unless a
    /// suite says otherwise.
    fn captions(&self, _index: u64) -> Captions {
        Captions::default()
    }

    /// Makes the edit of this index, below [`len`](Self::len), and measures it: the same on every
    /// call.
    ///
    /// # Errors
    /// [`EvalError::Edit`]; those of the data.
    fn measure(&self, index: u64) -> Result<Measured, EvalError>;

    /// Writes what the suite's own format wants of an edit into the run's folder: nothing, unless
    /// it says otherwise.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    fn save(&self, _dir: &Path, _measured: &Measured) -> Result<(), EvalError> {
        Ok(())
    }
}

/// What came of one edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The numbers.
    pub record: Record,
    /// The pictures; `None` for an edit that was left out.
    pub panels: Option<Panels>,
    /// How long the edit took, from the photo to the result; `None` where none was made.
    pub seconds: Option<f64>,
}

/// Does all edits of a suite that a shard has and its store has not, and hands each over. Without
/// a store everything is done. Gives the records of the shard, by index. `progress` gets how many
/// are done and how many there are.
///
/// # Errors
/// Those of the suite and of the store, which keeps what was done before.
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

/// The record of an edit, which is made unless the store has it.
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
    // The pictures first: a record says that the edit is done.
    each(&measured)?;
    if let Some(store) = store {
        store.add(&measured)?;
    }
    Ok(measured.record)
}

/// How long an edit took, all stages together.
pub(crate) fn seconds(edited: &EditResult) -> f64 {
    edited.report.seconds.iter().map(|(_, seconds)| seconds).sum()
}

/// What every edit of a suite by this editor and request depends on.
///
/// # Errors
/// An option out of range.
pub(crate) fn edits_identity(editor: &Editor, request: &EditRequest) -> Result<Value, EvalError> {
    // Each edit has an instruction of its own; a request without one is refused.
    let said = request.clone().instruction("any");
    let settings = editor.settings(&said).map_err(EvalError::edit(0))?;
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
