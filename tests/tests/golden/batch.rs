//! Batches with a panicking job, and with another model.

use std::path::Path;

use editmgt::batch::{Batch, BatchError, BatchFolder, BatchJob, JobStatus, Shard, read_jobs};
use editmgt::{EditEvent, EditObserver, Editor, Flow, Silent};
use serde_json::json;

use crate::defaults::{photo, small};

/// Stops at an event, the first being 0.
struct StopsAt {
    event: usize,
    seen: usize,
}

impl EditObserver for StopsAt {
    fn event(&mut self, _: &EditEvent<'_>) -> Flow {
        self.seen += 1;
        if self.seen > self.event { Flow::Stop } else { Flow::Continue }
    }

    fn wants_preview(&mut self, _: usize, _: usize) -> bool {
        true
    }
}

/// `jobs` jobs of `steps` steps, of one photo in `dir`.
fn jobs(dir: &Path, count: usize, steps: usize) -> Vec<BatchJob> {
    photo(40, 30).save(dir.join("p.png")).unwrap();
    let job = json!({
        "photo": "p.png", "instruction": "make it red", "size": 40, "steps": steps, "anyway": true
    });
    let path = dir.join("jobs.jsonl");
    std::fs::write(&path, format!("{job}\n").repeat(count)).unwrap();
    read_jobs(path).unwrap()
}

#[test]
fn stopping_at_any_event_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path(), 1, 2);
    for event in 0.. {
        let out = dir.path().join(event.to_string());
        let mut folder = BatchFolder::open(&out, Shard::ALL, false).unwrap();
        let mut batch = Batch::new(Editor::new(small()).unwrap(), &mut folder).unwrap();
        let ended = batch.edit(&jobs[0], &mut StopsAt { event, seen: 0 });
        let done = ended.is_ok();
        let expected: &[&str] = match ended {
            Ok(_) => &["000001-p.png", "batch.lock", "manifest.jsonl"],
            Err(BatchError::Stopped(_)) => &["batch.lock", "manifest.jsonl"],
            Err(error) => panic!("{error}"),
        };
        assert_eq!(names(&out), expected, "event {event}");
        let lines = std::fs::read_to_string(out.join("manifest.jsonl")).unwrap().lines().count();
        assert_eq!(lines, usize::from(done), "event {event}");
        if done {
            // Start and end of each stage, two steps with a preview each.
            assert_eq!(event, 4 * 2 + 2 * 2);
            break;
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Simulates a backend that runs out of memory.
struct Panics;

impl EditObserver for Panics {
    fn event(&mut self, _: &EditEvent<'_>) -> Flow {
        panic!("out of {}", "cheese");
    }
}

#[test]
fn panicking_job_fails_and_the_rest_run() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(dir.path(), 2, 1);
    let out = dir.path().join("out");
    let mut folder = BatchFolder::open(&out, Shard::ALL, false).unwrap();
    let mut batch = Batch::new(Editor::new(small()).unwrap(), &mut folder).unwrap();

    let failed = batch.edit(&jobs[0], &mut Panics).unwrap();
    assert_eq!(failed.status, JobStatus::Failed);
    let error = failed.error.unwrap();
    assert!(error.starts_with("internal error: out of cheese; "), "{error}");
    let done = batch.edit(&jobs[1], &mut Silent).unwrap();
    assert_eq!(done.status, JobStatus::Done);
    drop(folder);
    let manifest = std::fs::read_to_string(out.join("manifest.jsonl")).unwrap();
    assert_eq!(manifest.lines().count(), 2, "both are recorded");
    assert_eq!(names(&out), ["000002-p.png", "batch.lock", "manifest.jsonl"]);

    // Another model cannot resume it, unless no result is left.
    let other = || {
        let mut model = small();
        model.source.as_mut().unwrap().sha256 = "0123456789abcdef".into();
        Editor::new(model).unwrap()
    };
    let mut folder = BatchFolder::open(&out, Shard::ALL, true).unwrap();
    assert!(Batch::new(Editor::new(small()).unwrap(), &mut folder).unwrap().is_done(&jobs[1]));
    let error = Batch::new(other(), &mut folder).err().unwrap();
    assert!(matches!(&error, BatchError::OtherModel { job, .. } if job == "000002-p"), "{error}");
    assert!(error.to_string().contains("got model 0123456789ab; "), "{error}");
    drop(folder);
    // Nor can another shard.
    let shard = |name: &str| out.join(format!("manifest{name}.jsonl"));
    std::fs::rename(shard(""), shard("-2-of-2")).unwrap();
    let mut folder = BatchFolder::open(&out, Shard::new(1, 2).unwrap(), false).unwrap();
    let error = Batch::new(other(), &mut folder).err().unwrap();
    let theirs = shard("-2-of-2");
    assert!(matches!(&error, BatchError::OtherModel { manifest, .. } if *manifest == theirs));
    std::fs::remove_file(out.join("000002-p.png")).unwrap();
    assert!(Batch::new(other(), &mut folder).is_ok());
}
