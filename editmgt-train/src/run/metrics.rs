use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use editmgt_world::Metrics;
use serde::{Deserialize, Serialize};

use super::TrainError;

/// The log's file name in the folder of a run.
pub(super) const METRICS: &str = "metrics.jsonl";

/// Kind of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Train,
    Evaluation,
}

/// `metrics.jsonl`: a line per logged step and per evaluation.
pub(super) struct MetricsLog {
    path: PathBuf,
    file: File,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Steps done.
    step: u64,
    kind: Kind,
    #[serde(flatten)]
    metrics: &'a Metrics,
}

#[derive(Deserialize)]
struct Step {
    step: u64,
}

impl MetricsLog {
    /// Opens the log after `step` steps: lines of later steps, written by a killed run, are
    /// removed, because those steps are repeated.
    pub(super) fn open(root: &Path, step: u64) -> Result<Self, TrainError> {
        let path = root.join(METRICS);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.map_err(TrainError::io(&path))?;
        let mut keep = 0;
        let mut lines = BufReader::new(&file);
        let mut line = String::new();
        loop {
            line.clear();
            let length = lines.read_line(&mut line).map_err(TrainError::io(&path))?;
            let known = serde_json::from_str::<Step>(&line).is_ok_and(|line| line.step <= step);
            // A last line without its line end was interrupted.
            if length == 0 || !known || !line.ends_with('\n') {
                break;
            }
            keep += length as u64;
        }
        file.set_len(keep).map_err(TrainError::io(&path))?;
        let log = Self { path, file };
        log.sync()?;
        editmgt_store::sync_folder(root)?;
        Ok(log)
    }

    /// Syncs the log to disk, where the file system can: a checkpoint must not outlive the lines of
    /// its steps after a system crash.
    pub(super) fn sync(&self) -> Result<(), TrainError> {
        Ok(editmgt_store::sync_log(&self.path, &self.file)?)
    }

    /// Appends a line immediately.
    pub(super) fn write(
        &mut self,
        step: u64,
        kind: Kind,
        metrics: &Metrics,
    ) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(&Line { step, kind, metrics })
            .expect("names and numbers are JSON");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(TrainError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_repeated_steps_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let loss = |loss: f64| Metrics::default().with("loss", loss);
        let mut log = MetricsLog::open(dir.path(), 0).unwrap();
        for step in 1..=4 {
            log.write(step, Kind::Train, &loss(step as f64 + 0.5)).unwrap();
        }
        log.write(4, Kind::Evaluation, &loss(f64::NAN)).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().next(), Some(r#"{"step":1,"kind":"train","loss":1.5}"#));
        assert_eq!(whole.lines().last(), Some(r#"{"step":4,"kind":"evaluation","loss":null}"#));
        std::fs::write(&path, format!("{whole}{{\"step\":4,\"ki")).unwrap();
        MetricsLog::open(dir.path(), 4).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        let mut log = MetricsLog::open(dir.path(), 2).unwrap();
        log.write(3, Kind::Train, &loss(3.5)).unwrap();
        let lines: Vec<_> = whole.lines().take(3).collect();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), lines.join("\n") + "\n");
    }
}
