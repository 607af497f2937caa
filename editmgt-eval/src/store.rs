//! The folder of a run.

use std::collections::BTreeMap;
use std::path::Path;

use editmgt_store::{Locking, differences};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lines::{self, Lines};
use crate::{EvalError, Measured, Record, Shard};

const RUN: &str = "run.json";

/// The records of a run: `run.json` identifies it, `trials.jsonl` (or, in shards,
/// `trials-I-of-N.jsonl`) has a line per edit, written when it is done, and `seconds.jsonl` has the
/// times, which depend on the machine.
///
/// A killed run resumes where it stopped: at most the line being written is lost. Each shard has
/// one writer process at a time.
#[derive(Debug)]
pub struct RunStore {
    trials: Lines,
    seconds: Lines,
    done: BTreeMap<u64, Record>,
    times: BTreeMap<u64, f64>,
}

/// A line of `seconds.jsonl`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Time {
    index: u64,
    seconds: f64,
}

impl RunStore {
    /// Opens the shard `shard` of the run in `dir`, which is created if needed. `identity` is an
    /// object of everything that the records depend on.
    ///
    /// # Errors
    /// [`EvalError::OtherRun`] naming the keys in which the existing run differs;
    /// [`EvalError::InUse`], [`EvalError::Malformed`], [`EvalError::Io`].
    pub fn open(dir: &Path, identity: &Value, shard: Shard) -> Result<Self, EvalError> {
        Self::open_with(dir, identity, shard, Locking::Required)
    }

    /// As [`open`](Self::open), optionally on a file system without locks.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(
        dir: &Path,
        identity: &Value,
        shard: Shard,
        locking: Locking,
    ) -> Result<Self, EvalError> {
        std::fs::create_dir_all(dir).map_err(EvalError::io(dir))?;
        editmgt_store::remove_stale(dir);
        check_identity(&dir.join(RUN), identity)?;
        let (trials, records) = Lines::open::<Record>(dir.join(shard.file("trials")), locking)?;
        let (seconds, times) = Lines::open::<Time>(dir.join(shard.file("seconds")), locking)?;
        Ok(Self {
            trials,
            seconds,
            done: records.into_iter().map(|record| (record.index, record)).collect(),
            times: times.into_iter().map(|time| (time.index, time.seconds)).collect(),
        })
    }

    /// The record of an edit, if it is done.
    pub fn get(&self, index: u64) -> Option<&Record> {
        self.done.get(&index)
    }

    /// The seconds of an edit, if it was timed.
    pub fn seconds(&self, index: u64) -> Option<f64> {
        self.times.get(&index).copied()
    }

    /// Saves the record of an edit immediately.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    pub fn add(&mut self, measured: &Measured) -> Result<(), EvalError> {
        let index = measured.record.index;
        // The time first: a record marks the edit as done.
        if let Some(seconds) = measured.seconds {
            self.seconds.add(&Time { index, seconds })?;
            self.times.insert(index, seconds);
        }
        self.trials.add(&measured.record)?;
        self.done.insert(index, measured.record.clone());
        Ok(())
    }
}

/// All records of the run in `dir`, of every shard, by index.
///
/// # Errors
/// [`EvalError::NoRecords`] when there are none; [`EvalError::Malformed`] for an invalid line, or
/// an edit in two shards; [`EvalError::Io`].
pub fn read_records(dir: &Path) -> Result<Vec<Record>, EvalError> {
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(EvalError::io(dir))? {
        let path = entry.map_err(EvalError::io(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with("trials") && name.ends_with(".jsonl")) {
            continue;
        }
        for record in lines::read::<Record>(&path)? {
            let index = record.index;
            if records.insert(index, record).is_some() {
                let problem = format!("edit {index} is also in another shard of the run");
                return Err(EvalError::malformed(&path, problem));
            }
        }
    }
    if records.is_empty() {
        let problem = "expected a run's folder with trials, got none".to_owned();
        return Err(EvalError::NoRecords { path: dir.to_owned(), problem });
    }
    Ok(records.into_values().collect())
}

pub(crate) fn check_identity(path: &Path, identity: &Value) -> Result<(), EvalError> {
    if !path.exists() {
        return Ok(editmgt_store::write(path, format!("{identity:#}\n"))?);
    }
    let text = std::fs::read(path).map_err(EvalError::io(path))?;
    let started: Value =
        serde_json::from_slice(&text).map_err(|e| EvalError::malformed(path, e))?;
    fn entries(value: &Value) -> Option<BTreeMap<&str, &Value>> {
        Some(value.as_object()?.iter().map(|(key, value)| (key.as_str(), value)).collect())
    }
    let keys = differences(&started, identity, &entries);
    if keys.is_empty() { Ok(()) } else { Err(EvalError::OtherRun { path: path.to_owned(), keys }) }
}

#[cfg(test)]
mod tests {
    use editmgt_world::Metrics;
    use serde_json::json;

    use super::*;

    fn measured(index: u64) -> Measured {
        let seconds = (index > 0).then_some(0.5 * index as f64);
        Measured { record: record(index), panels: None, seconds }
    }

    fn record(index: u64) -> Record {
        Record {
            index,
            name: None,
            category: None,
            kind: None,
            instruction: "make it red".into(),
            metrics: Metrics::default().with("l1", 0.1 + index as f64),
            skipped: None,
        }
    }

    #[test]
    fn killed_run_resumes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trials.jsonl");
        let open = || RunStore::open(dir.path(), &json!({"n": 1}), Shard::default());
        let mut store = open().unwrap();
        assert!(matches!(open(), Err(EvalError::InUse { .. })));
        store.add(&measured(0)).unwrap();
        store.add(&measured(4)).unwrap();
        drop(store);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"index\":7,\"instr")).unwrap();
        // A concurrent reader sees the complete lines.
        assert_eq!(read_records(dir.path()).unwrap(), [record(0), record(4)]);
        let mut store = open().unwrap();
        assert_eq!((store.get(0), store.get(4)), (Some(&record(0)), Some(&record(4))));
        assert_eq!(store.get(7), None);
        assert_eq!([0, 4, 7].map(|index| store.seconds(index)), [None, Some(2.0), None]);
        store.add(&measured(7)).unwrap();
        drop(store);
        assert_eq!(read_records(dir.path()).unwrap(), [record(0), record(4), record(7)]);

        std::fs::write(&path, format!("{whole}nothing\n{whole}")).unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.contains("trials.jsonl: line 3: "), "{error}");
    }

    #[test]
    fn a_run_is_not_mixed_with_another() {
        let dir = tempfile::tempdir().unwrap();
        let open = |identity: Value| RunStore::open(dir.path(), &identity, Shard::default());
        open(json!({"model": "a", "settings": {"steps": 8, "seed": 1}})).unwrap();
        let error = open(json!({"model": "a", "settings": {"steps": 9}, "split": "test"}));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("another settings.seed, settings.steps, split;"), "{error}");
    }

    #[test]
    fn parts_are_read_together() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_records(dir.path()), Err(EvalError::NoRecords { .. })));
        let part =
            |shard: &str| RunStore::open(dir.path(), &json!({}), shard.parse().unwrap()).unwrap();
        part("2/2").add(&measured(1)).unwrap();
        part("1/2").add(&measured(2)).unwrap();
        assert_eq!(read_records(dir.path()).unwrap(), [record(1), record(2)]);
        part("1/3").add(&measured(2)).unwrap();
        let error = read_records(dir.path()).unwrap_err().to_string();
        assert!(error.contains("edit 2 is also in another shard"), "{error}");
    }
}
