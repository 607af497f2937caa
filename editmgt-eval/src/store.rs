//! The folder of a run.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{EvalError, Record, Shard, files};

const RUN: &str = "run.json";

/// Where a run keeps its records: `run.json` says what is measured, `trials.jsonl` (or, in shards,
/// `trials-I-of-N.jsonl`) has a line for each edit, written as soon as it is done.
///
/// A run that was killed goes on where it was: at most the line that was being written is lost.
/// One process at a time writes a part; the lock is the system's and goes with the process.
#[derive(Debug)]
pub struct RunStore {
    path: PathBuf,
    file: File,
    done: BTreeMap<u64, Record>,
}

impl RunStore {
    /// Opens the part `shard` of the run in `dir`, which is made where it is missing. `identity`
    /// is everything that the records depend on: an object.
    ///
    /// # Errors
    /// [`EvalError::OtherRun`] naming the keys in which the run that is there differs;
    /// [`EvalError::InUse`], [`EvalError::Malformed`], [`EvalError::Io`].
    pub fn open(dir: &Path, identity: &Value, shard: Shard) -> Result<Self, EvalError> {
        std::fs::create_dir_all(dir).map_err(EvalError::io(dir))?;
        check_identity(&dir.join(RUN), identity)?;
        let path = dir.join(shard.file());
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = file.map_err(EvalError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EvalError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(EvalError::Io { path, source }),
        }
        let (records, complete) = read(&path, &file)?;
        // A last line without its end was cut off in the middle of writing.
        file.set_len(complete).map_err(EvalError::io(&path))?;
        file.seek(SeekFrom::End(0)).map_err(EvalError::io(&path))?;
        let done = records.into_iter().map(|record| (record.index, record)).collect();
        Ok(Self { path, file, done })
    }

    /// What was measured for an edit, if it is done.
    pub fn get(&self, index: u64) -> Option<&Record> {
        self.done.get(&index)
    }

    /// Keeps a record, at once.
    ///
    /// # Errors
    /// [`EvalError::Io`].
    pub fn add(&mut self, record: Record) -> Result<(), EvalError> {
        let mut line = serde_json::to_string(&record).expect("a record is JSON");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(EvalError::io(&self.path))?;
        self.done.insert(record.index, record);
        Ok(())
    }
}

/// All records of the run in `dir`, of every part, by their index.
///
/// # Errors
/// [`EvalError::NoRecords`] when there are none; [`EvalError::Malformed`] for a line that is no
/// record, or an edit that two parts have; [`EvalError::Io`].
pub fn read_records(dir: &Path) -> Result<Vec<Record>, EvalError> {
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(EvalError::io(dir))? {
        let path = entry.map_err(EvalError::io(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with("trials") && name.ends_with(".jsonl")) {
            continue;
        }
        let file = File::open(&path).map_err(EvalError::io(&path))?;
        for record in read(&path, &file)?.0 {
            let index = record.index;
            if records.insert(index, record).is_some() {
                let problem = format!("edit {index} is also in another part of the run");
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

/// The records of the complete lines, and how many bytes those have.
fn read(path: &Path, file: &File) -> Result<(Vec<Record>, u64), EvalError> {
    let mut lines = BufReader::new(file);
    let (mut records, mut complete, mut line) = (Vec::new(), 0, Vec::new());
    for number in 1.. {
        line.clear();
        let length = lines.read_until(b'\n', &mut line).map_err(EvalError::io(path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        let record = serde_json::from_slice(&line)
            .map_err(|e| EvalError::malformed(path, format!("line {number}: {e}")))?;
        records.push(record);
        complete += length as u64;
    }
    Ok((records, complete))
}

fn check_identity(path: &Path, identity: &Value) -> Result<(), EvalError> {
    if !path.exists() {
        return files::write(path, format!("{identity:#}\n").as_bytes());
    }
    let text = std::fs::read(path).map_err(EvalError::io(path))?;
    let started: Value =
        serde_json::from_slice(&text).map_err(|e| EvalError::malformed(path, e))?;
    let mut keys = Vec::new();
    differences(&started, identity, "", &mut keys);
    match keys.is_empty() {
        true => Ok(()),
        false => Err(EvalError::OtherRun { path: path.to_owned(), keys }),
    }
}

/// The dotted names of all keys that differ.
fn differences(one: &Value, other: &Value, name: &str, keys: &mut Vec<String>) {
    let (Value::Object(a), Value::Object(b)) = (one, other) else {
        if one != other {
            keys.push(name.to_owned());
        }
        return;
    };
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in names {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned();
        differences(&value(a).unwrap_or_default(), &value(b).unwrap_or_default(), &name, keys);
    }
}

#[cfg(test)]
mod tests {
    use editmgt_train::run::Metrics;
    use serde_json::json;

    use super::*;

    fn record(index: u64) -> Record {
        Record {
            index,
            name: None,
            category: None,
            instruction: "make it red".into(),
            metrics: Metrics::default().with("l1", 0.1 + index as f64),
            skipped: None,
        }
    }

    #[test]
    fn a_killed_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trials.jsonl");
        let open = || RunStore::open(dir.path(), &json!({"n": 1}), Shard::default());
        let mut store = open().unwrap();
        assert!(matches!(open(), Err(EvalError::InUse { .. })));
        store.add(record(0)).unwrap();
        store.add(record(4)).unwrap();
        drop(store);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"index\":7,\"instr")).unwrap();
        // Whoever looks meanwhile sees what is complete.
        assert_eq!(read_records(dir.path()).unwrap(), [record(0), record(4)]);
        let mut store = open().unwrap();
        assert_eq!((store.get(0), store.get(4)), (Some(&record(0)), Some(&record(4))));
        assert_eq!(store.get(7), None);
        store.add(record(7)).unwrap();
        drop(store);
        assert_eq!(read_records(dir.path()).unwrap(), [record(0), record(4), record(7)]);

        std::fs::write(&path, format!("{whole}nothing\n")).unwrap();
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
        part("2/2").add(record(1)).unwrap();
        part("1/2").add(record(2)).unwrap();
        assert_eq!(read_records(dir.path()).unwrap(), [record(1), record(2)]);
        part("1/3").add(record(2)).unwrap();
        let error = read_records(dir.path()).unwrap_err().to_string();
        assert!(error.contains("edit 2 is also in another part"), "{error}");
    }
}
