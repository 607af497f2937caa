//! `editmgt batch` with URLs, on a local S3 server.

use std::fs;
use std::process::Command;

use editmgt_tests::s3::{KEY_ID, S3, SECRET};
use serde_json::{Value, json};

use crate::batch::job;
use crate::program::{CAT, GOLDEN_MODEL, Ran, Scratch, command, finish, root};

fn batch_command(server: &S3, jobs: &str, out: &str, options: &str) -> Command {
    let mut command = command();
    command.args(["batch", "--model", GOLDEN_MODEL, "-q", jobs, "--out", out]);
    command.args(options.split_whitespace()).envs(server.variables());
    command
}

fn batch(server: &S3, jobs: &str, out: &str, options: &str) -> Ran {
    let ran = finish(batch_command(server, jobs, out, options));
    for secret in [KEY_ID, SECRET] {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran:?}");
    }
    ran
}

/// A server with the cat and these jobs.
fn server(jobs: &str) -> S3 {
    let server = S3::start();
    server.insert("photos/in/cat.jpg", fs::read(root().join(CAT)).unwrap());
    server.insert("photos/in/jobs.jsonl", jobs);
    server
}

fn entry(server: &S3, name: &str) -> Value {
    serde_json::from_slice(&server.object(&format!("out/run/manifest/{name}.json")).unwrap())
        .unwrap()
}

const JOBS: &str = "s3://photos/in/jobs.jsonl";
const OUT: &str = "s3://out/run";

#[test]
fn jobs_photos_and_results_by_url_are_those_of_files() {
    let cat = root().join(CAT);
    let lines = [
        job("cat.jpg", json!({"seed": 3})),
        job("none.jpg", json!({})),
        job("s3://photos/in/cat.jpg", json!({"seed": 4, "name": "by-url"})),
        job(cat.to_str().unwrap(), json!({"seed": 5, "name": "by-path"})),
    ];
    let server = server(&lines.concat());
    let ran = batch(&server, JOBS, OUT, "");
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert_eq!(ran.stdout.lines().last(), Some("3 done, 1 failed"), "{ran:?}");
    let keys = server.keys();
    let made: Vec<_> = keys.iter().filter_map(|key| key.strip_prefix("out/run/")).collect();
    let expected = [
        "000001-cat.png",
        "by-path.png",
        "by-url.png",
        "manifest/000001-cat.json",
        "manifest/000002-none.json",
        "manifest/by-path.json",
        "manifest/by-url.json",
    ];
    assert_eq!(made, expected);
    let failed = entry(&server, "000002-none");
    assert_eq!(failed["error"], "s3://photos/in/none.jpg: there is no such object");
    // As the same jobs of files.
    let scratch = Scratch::new();
    let local =
        scratch.write("jobs.jsonl", job(cat.to_str().unwrap(), json!({"seed": 3, "name": "x"})));
    let out = scratch.out("o");
    batch(&server, local.to_str().unwrap(), out.to_str().unwrap(), "").done();
    let result = server.object("out/run/000001-cat.png").unwrap();
    assert!(result == fs::read(out.join("x.png")).unwrap());
    assert_eq!(entry(&server, "000001-cat")["output_bytes"], result.len());
    // Photos by URL, results in a folder.
    let by_url = scratch.write("urls.jsonl", job("s3://photos/in/cat.jpg", json!({"seed": 3})));
    let out = scratch.out("p");
    batch(&server, by_url.to_str().unwrap(), out.to_str().unwrap(), "").done();
    assert!(result == fs::read(out.join("000001-cat.png")).unwrap());
    assert!(out.join("manifest.jsonl").is_file());
}

#[test]
fn resumed_run_does_what_is_missing_only() {
    let lines = (0..3).map(|seed| job("cat.jpg", json!({"seed": seed}))).collect::<String>();
    let server = server(&lines);
    batch(&server, JOBS, OUT, "").done();
    batch(&server, JOBS, OUT, "").refused("again", &["s3://out/run/000001-cat.png", "--resume"]);
    let result = server.object("out/run/000002-cat.png").unwrap();
    // A result that was lost, one that was cut short, and a run that was killed before its entry
    // was put.
    server.remove("out/run/000001-cat.png");
    server.insert("out/run/000002-cat.png", &result[..100]);
    server.remove("out/run/manifest/000003-cat.json");
    server.requests();
    let printed = batch(&server, JOBS, OUT, "--resume").done();
    assert_eq!(printed.lines().last(), Some("3 done, 0 failed, 0 done before"));
    assert!(server.object("out/run/000002-cat.png").unwrap() == result);
    server.requests();
    let printed = batch(&server, JOBS, OUT, "--resume").done();
    assert_eq!(printed, "0 done, 0 failed, 3 done before\n");
    let requests = server.requests();
    assert!(requests.iter().all(|request| !request.starts_with("PUT")), "{requests:?}");
    assert!(!requests.iter().any(|request| request.ends_with("cat.jpg")), "{requests:?}");
    // Another model.
    let mut other = command();
    other.args(["batch", "-q", JOBS, "--out", OUT, "--resume"]).envs(server.variables());
    finish(other).refused("another model", &["s3://out/run/manifest/", "use that model"]);
}

#[test]
fn shards_do_every_job_once() {
    let lines = (0..3).map(|seed| job("cat.jpg", json!({"seed": seed}))).collect::<String>();
    let server = server(&lines);
    for (index, done) in [("1", 1), ("0", 2)] {
        let mut command = batch_command(&server, JOBS, OUT, "--shard auto --resume");
        command.envs([("JOB_COMPLETION_INDEX", index), ("JOB_PARALLELISM", "2")]);
        let printed = finish(command).done();
        assert!(printed.ends_with(&format!("{done} done, 0 failed, 0 done before\n")), "{printed}");
    }
    let puts: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|r| r.starts_with("PUT") && r.ends_with(".png"))
        .collect();
    assert_eq!(puts.len(), 3, "{puts:?}");
}

#[test]
fn bad_urls_and_jobs_are_refused_before_anything_runs() {
    let server = server(&job("cat.jpg", json!({"stpes": 3})));
    batch(&server, JOBS, OUT, "")
        .refused("a line", &["s3://photos/in/jobs.jsonl: line 1: ", "stpes"]);
    batch(&server, "s3://photos/none.jsonl", OUT, "").refused("no jobs", &["no such object"]);
    server.insert("photos/in/jobs.jsonl", job("cat.jpg", json!({"name": "cat"})));
    for (out, named) in [
        ("ftp://host/x", "expected s3://"),
        ("https://host/x", "not to an HTTP server"),
        ("s3://a:secret@b/x", "no name or password"),
    ] {
        batch(&server, JOBS, out, "").refused(out, &[named]);
    }
    let over = batch(&server, JOBS, "s3://photos/in", "--format jpg");
    over.refused("a photo", &["s3://photos/in/cat.jpg", "would replace"]);
    let line = job("../cat.jpg", json!({}));
    server.insert("photos/in/jobs.jsonl", line);
    batch(&server, JOBS, OUT, "").refused("a path outside", &["line 1", "\"..\""]);
    assert!(!server.keys().iter().any(|key| key.starts_with("out/")), "{:?}", server.keys());
}

#[test]
fn store_that_refuses_is_an_error_without_its_credentials() {
    let server = server(&job("cat.jpg", json!({})));
    let mut command = batch_command(&server, JOBS, OUT, "");
    command.env("AWS_ACCESS_KEY_ID", "AKIAOTHER");
    let ran = finish(command);
    ran.refused(
        "other credentials",
        &["s3://photos/in/jobs.jsonl", "refuses access", "AWS_ACCESS_KEY_ID"],
    );
    assert!(!ran.stderr.contains("AKIAOTHER") && !ran.stderr.contains(SECRET), "{ran:?}");
}
