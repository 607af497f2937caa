//! Batches: what a job that panics and another model do to the rest.

use editmgt::batch::{Batch, BatchError, BatchFolder, JobStatus, Shard, read_jobs};
use editmgt::{EditEvent, EditObserver, Editor, Flow, Silent};

use crate::defaults::{photo, small};

/// As a backend that runs out of memory.
struct Panics;

impl EditObserver for Panics {
    fn event(&mut self, _: &EditEvent<'_>) -> Flow {
        panic!("out of {}", "cheese");
    }
}

#[test]
fn a_job_that_panics_has_failed_and_the_rest_go_on() {
    let dir = tempfile::tempdir().unwrap();
    photo(40, 30).save(dir.path().join("p.png"), &Default::default()).unwrap();
    let line = r#"{"photo": "p.png", "instruction": "make it red", "size": 40, "steps": 1}"#;
    let path = dir.path().join("jobs.jsonl");
    std::fs::write(&path, format!("{line}\n{line}\n")).unwrap();
    let jobs = read_jobs(path).unwrap();
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
    let mut names: Vec<_> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["000002-p.png", "batch.lock", "manifest.jsonl"]);

    // Another model can't go on with it, unless nothing of the first is there any more.
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
    std::fs::remove_file(out.join("000002-p.png")).unwrap();
    assert!(Batch::new(other(), &mut folder).is_ok());
}
