//! `editmgt batch`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::{CAT, Edit, GOLDEN_MODEL, Ran, Scratch, command, editmgt, finish, root};

/// A line of jobs: a fast edit, with additional keys.
pub(crate) fn job(photo: &str, more: Value) -> String {
    let mut job = json!({
        "photo": photo, "instruction": "make the cat black", "steps": 2, "size": 48,
    });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("{job}\n")
}

pub(crate) fn cat() -> String {
    root().join(CAT).to_str().unwrap().to_owned()
}

pub(crate) fn batch(jobs: &Path, out: &Path, options: &str) -> Ran {
    let mut args: Vec<OsString> = ["batch", "--model", GOLDEN_MODEL, "-q"].map(Into::into).into();
    args.extend([jobs.into(), "--out".into(), out.into()]);
    args.extend(options.split_whitespace().map(Into::into));
    editmgt(args)
}

fn manifest(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn jobs_are_done_recorded_and_not_done_twice() {
    let scratch = Scratch::new();
    let lines = [
        job(&cat(), json!({"seed": 3})),
        job("nowhere.png", json!({})),
        job(
            &cat(),
            json!({"seed": 4, "name": "Second", "keyword": {"phrases": ["dog"]},
                           "hold": {"threshold": 0.5}}),
        ),
        job(&cat(), json!({"seed": 5, "name": "third"})),
    ];
    let jobs = scratch.write("jobs.jsonl", lines.concat());
    let out = scratch.out("deep/er");
    let ran = batch(&jobs, &out, "");
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(ran.stdout.lines().last(), Some("2 done, 2 failed"), "{ran:?}");
    let entries = manifest(&out.join("manifest.jsonl"));
    let keys: Vec<_> = entries.iter().map(|e| (&e["name"], &e["line"], &e["status"])).collect();
    assert_eq!(
        json!(keys),
        json!([
            ["000001-cat", 1, "done"],
            ["000002-nowhere", 2, "failed"],
            ["Second", 3, "failed"],
            ["third", 4, "done"],
        ])
    );
    assert!(entries[1]["error"].as_str().unwrap().contains("nowhere.png"), "{}", entries[1]);
    assert!(entries[2]["error"].as_str().unwrap().contains("\"dog\""), "{}", entries[2]);
    assert_eq!(entries[0]["report"]["request"]["seed"], json!(3));
    assert_eq!(entries[0]["report"]["seconds"].as_array().unwrap().len(), 4);
    assert_eq!(entries[3]["report"]["seconds"].as_array().unwrap().len(), 2, "the photo is known");
    // As the same edit by itself.
    let alone = Edit::new(scratch.out("alone.png")).quick().with("--seed 3").bytes();
    let result = out.join("000001-cat.png");
    assert!(fs::read(&result).unwrap() == alone);

    batch(&jobs, &out, "").refused("again", &["manifest.jsonl", "earlier run"]);
    // Failed jobs are repeated; finished ones only if the result is missing.
    fs::remove_file(&result).unwrap();
    let ran = batch(&jobs, &out, "--resume");
    assert_eq!(ran.stdout.lines().last(), Some("1 done, 2 failed, 1 done before"), "{ran:?}");
    assert!(fs::read(&result).unwrap() == alone, "the same bytes");
    assert_eq!(manifest(&out.join("manifest.jsonl")).len(), 4 + 3);
    let fixed = scratch.write("jobs.jsonl", [&*lines[0], "\n", "\n", &*lines[3]].concat());
    let printed = batch(&fixed, &out, "--resume").done();
    assert_eq!(printed, "0 done, 0 failed, 2 done before\n");
}

#[test]
fn shards_share_the_work_and_the_folder() {
    let scratch = Scratch::new();
    let lines = (0..3).map(|seed| job(&cat(), json!({"seed": seed}))).collect::<String>();
    let jobs = scratch.write("jobs.jsonl", lines);
    let out = scratch.out("o");
    for (shard, done) in [("1/2", 2), ("2/2", 1)] {
        let printed = batch(&jobs, &out, &format!("--shard {shard} --format bmp")).done();
        assert_eq!(printed.lines().last().unwrap(), format!("{done} done, 0 failed"));
    }
    for name in ["000001-cat.bmp", "000002-cat.bmp", "000003-cat.bmp"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    assert_eq!(manifest(&out.join("manifest-1-of-2.jsonl")).len(), 2);
    batch(&jobs, &out, "--resume").refused("another split", &["manifest-", "split otherwise"]);
    batch(&jobs, &out, "--shard 3/2").misused("shard", &["--shard", "3/2", "I from 1 to N"]);
}

/// Runs a shard of a batch by a scheduler's variables.
fn batch_in(jobs: &Path, out: &Path, options: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = command();
    command.args(["batch", "--model", GOLDEN_MODEL, "-q"]);
    command.arg(jobs).arg("--out").arg(out).args(options.split_whitespace());
    command.envs(variables.iter().copied());
    finish(command)
}

#[test]
fn tasks_of_an_array_do_every_job_once() {
    let scratch = Scratch::new();
    let lines = (0..4).map(|seed| job(&cat(), json!({"seed": seed}))).collect::<String>();
    let jobs = scratch.write("jobs.jsonl", lines);
    let out = scratch.out("o");
    let task = |id| {
        [
            ("SLURM_ARRAY_TASK_ID", id),
            ("SLURM_ARRAY_TASK_COUNT", "2"),
            ("SLURM_ARRAY_TASK_MIN", "4"),
            ("SLURM_ARRAY_TASK_STEP", "3"),
        ]
    };
    for id in ["4", "7"] {
        let printed = batch_in(&jobs, &out, "--shard auto --resume", &task(id)).done();
        assert!(printed.ends_with("2 done, 0 failed, 0 done before\n"), "{printed}");
    }
    // As a resubmitted array, here of another scheduler.
    for index in ["0", "1"] {
        let job = [("JOB_COMPLETION_INDEX", index), ("JOB_PARALLELISM", "2")];
        let printed = batch_in(&jobs, &out, "--shard auto --resume", &job).done();
        assert_eq!(printed, "0 done, 0 failed, 2 done before\n");
    }
    let wrong = [("JOB_COMPLETION_INDEX", "2"), ("JOB_PARALLELISM", "2")];
    let refused = batch_in(&jobs, &scratch.out("other"), "--shard auto", &wrong);
    refused.refused("an index", &["--shard auto", "JOB_COMPLETION_INDEX", "completions"]);
    let refused = batch_in(&jobs, &scratch.out("other"), "--shard auto", &[]);
    refused.refused("no scheduler", &["--shard auto", "SLURM_ARRAY_TASK_ID", "I/N"]);
    assert!(!scratch.out("other").exists());
}

#[test]
#[cfg(not(feature = "cloud"))]
fn urls_name_the_feature_that_they_need() {
    let scratch = Scratch::new();
    let jobs = scratch.write("jobs.jsonl", job("s3://photos/cat.jpg", json!({})));
    for (jobs, out) in [
        (Path::new("s3://photos/jobs.jsonl"), scratch.out("o")),
        (&*jobs, "gs://results".into()),
        (&*jobs, scratch.out("o")),
    ] {
        batch(jobs, &out, "").refused("a URL", &["://", "feature `cloud`"]);
    }
    scratch.assert_nothing_written("URLs");
}

#[test]
fn bad_jobs_are_named_before_anything_runs() {
    let scratch = Scratch::new();
    let good = job(&cat(), json!({}));
    for (line, named) in [
        ("{\"photo\": ".to_owned(), "EOF"),
        (job("a.png", json!({"stpes": 3})), "stpes"),
        (
            job("a.png", json!({"hold": {"threshold": 1.5}})),
            "a number from 0 to 1, budget:SHARE or mask+POLICY, got 1.5",
        ),
        (job("a.png", json!({"name": "a/b"})), "name: expected"),
    ] {
        let jobs = scratch.write("jobs.jsonl", format!("{good}{line}"));
        let out = scratch.out("o");
        batch(&jobs, &out, "").refused(named, &["jobs.jsonl: line 2: ", named]);
        scratch.assert_nothing_written(named);
    }
    let empty = scratch.write("empty.jsonl", "\n");
    batch(&empty, &scratch.out("o"), "").refused("empty", &["empty.jsonl", "an empty file"]);
    batch(&scratch.path("no"), &scratch.out("o"), "").refused("missing", &["/no: "]);
    scratch.assert_nothing_written("jobs");
    // A file in place of the folder.
    let jobs = scratch.write("jobs.jsonl", good);
    batch(&jobs, &jobs, "").refused("a file", &["jobs.jsonl: "]);
}

#[cfg(unix)]
mod processes {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, ChildStderr, Stdio};

    use super::*;

    /// A running batch at its second job, with a given number of steps.
    fn running(scratch: &Scratch, steps: usize) -> (Child, BufReader<ChildStderr>) {
        let lines = [job(&cat(), json!({})), job(&cat(), json!({"steps": steps}))];
        let jobs = scratch.write("jobs.jsonl", lines.concat());
        let mut command = command();
        command.args(["batch", "--model", GOLDEN_MODEL, "--out"]).arg(scratch.out("o"));
        command.arg(jobs).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        for _ in 0..2 {
            line.clear();
            while !line.starts_with("editing") {
                line.clear();
                assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
            }
        }
        (child, lines)
    }

    fn end(mut child: Child, mut lines: BufReader<ChildStderr>) -> Ran {
        let mut stderr = String::new();
        lines.read_to_string(&mut stderr).unwrap();
        let last = stderr.lines().last().unwrap_or_default().to_owned();
        let status = child.wait().unwrap().code();
        Ran { program: "editmgt", status, stdout: String::new(), stderr: last }
    }

    #[test]
    fn a_second_process_is_refused_and_a_killed_one_loses_nothing() {
        let scratch = Scratch::new();
        // More steps than any machine does before the signal arrives.
        let (mut child, lines) = running(&scratch, 4096);
        let (jobs, out) = (scratch.path("jobs.jsonl"), scratch.out("o"));
        batch(&jobs, &out, "--resume").refused("a second one", &["another batch is writing"]);
        batch(&jobs, &out, "--shard 1/2").refused("a shard", &["another batch is writing"]);
        child.kill().unwrap();
        end(child, lines);
        assert_eq!(manifest(&out.join("manifest.jsonl")).len(), 1);
        scratch.write("jobs.jsonl", [job(&cat(), json!({})), job(&cat(), json!({}))].concat());
        let printed = batch(&jobs, &out, "--resume").done();
        assert_eq!(printed.lines().last(), Some("1 done, 0 failed, 1 done before"), "{printed}");
    }

    #[test]
    fn ctrl_c_stops_it_and_the_job_is_not_recorded() {
        let scratch = Scratch::new();
        let (child, lines) = running(&scratch, 4096);
        let pid = child.id().to_string();
        let sent = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        let ran = end(child, lines);
        assert_eq!(ran.status, Some(130), "{ran:?}");
        assert!(ran.stderr.contains("000002-cat: stopped") && ran.stderr.contains("--resume"));
        assert_eq!(manifest(&scratch.out("o/manifest.jsonl")).len(), 1);
        assert!(!scratch.out("o/000002-cat.png").exists());
    }

    #[test]
    fn an_output_folder_that_vanishes_is_an_error() {
        let scratch = Scratch::new();
        // Enough that the folder is gone before the last.
        let (child, lines) = running(&scratch, 300);
        fs::remove_dir_all(scratch.out("o")).unwrap();
        end(child, lines).refused("vanished", &["/o: the output folder vanished"]);
        scratch.assert_nothing_written("vanished");
    }
}
