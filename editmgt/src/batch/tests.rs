use std::fs;
use std::path::Path;

use super::*;

fn write(dir: &Path, text: &str) -> std::path::PathBuf {
    let path = dir.join("jobs.jsonl");
    fs::write(&path, text).unwrap();
    path
}

fn entry(job: &BatchJob, status: JobStatus) -> BatchEntry {
    BatchEntry {
        name: job.name.clone(),
        line: job.line,
        sha256: job.sha256.clone(),
        status,
        output: (status == JobStatus::Done).then(|| format!("{}.png", job.name)),
        output_bytes: (status == JobStatus::Done).then_some(RESULT.len() as u64),
        output_sha256: (status == JobStatus::Done).then(|| RESULT_SHA256.to_owned()),
        error: None,
        report: None,
    }
}

const RESULT: &str = "abc";
/// FIPS 180-2, appendix B.1.
const RESULT_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn jobs(n: usize) -> Vec<BatchJob> {
    let dir = tempfile::tempdir().unwrap();
    let line = |i| format!("{{\"photo\": \"p{i}.png\", \"instruction\": \"make it red\"}}\n");
    read_jobs(write(dir.path(), &(0..n).map(line).collect::<String>())).unwrap()
}

#[test]
fn a_line_is_a_photo_a_mask_and_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        r#"{"photo": "a b/c\u00e4t.jpg", "instruction": "make it red", "steps": 3, "hold": "auto"}

           {"photo": "/x/y.png", "mask": "m.png", "name": "Fox-1.v2", "instruction": "no", "seed": 7}
"#,
    );
    let jobs = read_jobs(&path).unwrap();
    assert_eq!((jobs[0].line, jobs[1].line), (1, 3), "as an editor counts");
    assert_eq!((&*jobs[0].name, &*jobs[1].name), ("000001-c_t", "Fox-1.v2"));
    assert_eq!(jobs[0].photo, dir.path().join("a b/cät.jpg"));
    assert_eq!(jobs[1].photo, Path::new("/x/y.png"));
    assert_eq!(jobs[1].mask, Some(dir.path().join("m.png")));
    assert_eq!((jobs[0].request.steps, jobs[1].request.seed), (Some(3), 7));
    assert_ne!(jobs[0].sha256, jobs[1].sha256);
    // The same contents on another line are the same job.
    let other = tempfile::tempdir().unwrap();
    let again = read_jobs(write(other.path(), &fs::read_to_string(&path).unwrap())).unwrap();
    assert_eq!(again[0].sha256, jobs[0].sha256);
}

#[test]
fn every_bad_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (line, named) in [
        ("{", "EOF"),
        ("[1]", "expected a JSON object a line, got an array"),
        ("\"photo\"", "expected a JSON object"),
        (r#"{"instruction": "x"}"#, "photo: expected a path, got none"),
        (r#"{"photo": 3, "instruction": "x"}"#, "photo: expected some text, got 3"),
        (r#"{"photo": "a.png"}"#, "instruction: expected some words"),
        (r#"{"photo": "a.png", "instruction": "x", "stpes": 3}"#, "stpes"),
        (r#"{"photo": "a.png", "instruction": "x", "steps": 0}"#, "steps: expected 1 to 4096"),
        (r#"{"photo": "a.png", "instruction": "x", "hold": {"threshold": 2}}"#, "hold: expected"),
        (r#"{"photo": "a.png", "instruction": "x", "name": "../a"}"#, "name: expected"),
        (r#"{"photo": "a.png", "instruction": "x", "name": ".a"}"#, "name: expected"),
        (r#"{"photo": "a.png", "instruction": "x", "name": "GOOD"}"#, "name: line 1 has"),
        ("\u{fffd}", "expected value"),
    ] {
        let good = r#"{"photo": "a.png", "instruction": "x", "name": "good"}"#;
        let path = write(dir.path(), &format!("{good}\n\n{line}\n"));
        let error = read_jobs(path).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("jobs.jsonl: line 3: ") && message.contains(named), "{message}");
        assert!(matches!(error, BatchError::Lines { lines, .. } if lines.len() == 1));
    }
    let error = read_jobs(write(dir.path(), &"{\n".repeat(12))).unwrap_err().to_string();
    assert!(error.contains("line 10: ") && error.ends_with("and 2 more bad lines"), "{error}");
    assert!(matches!(read_jobs(write(dir.path(), "\n \n")), Err(BatchError::NoJobs { .. })));
    assert!(matches!(read_jobs(dir.path().join("no")), Err(BatchError::Io { .. })));
}

#[test]
fn jobs_are_split_by_line() {
    let jobs = jobs(10);
    for of in [1, 2, 3, 7, 12] {
        let shards: Vec<Shard> = (1..=of).map(|i| Shard::new(i, of).unwrap()).collect();
        for job in &jobs {
            assert_eq!(shards.iter().filter(|shard| job.is_in(**shard)).count(), 1, "{of}");
        }
    }
}

#[test]
fn modified_result_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let (out, jobs) = (dir.path().join("out"), jobs(1));
    let mut folder = BatchFolder::open(&out, Shard::ALL, false).unwrap();
    let result = out.join("000001-p0.png");
    fs::write(&result, RESULT).unwrap();
    let mut made = entry(&jobs[0], JobStatus::Failed);
    made.set_output(&out, "000001-p0.png".to_owned()).unwrap();
    assert_eq!(made, entry(&jobs[0], JobStatus::Done));
    folder.record(made).unwrap();
    assert!(folder.is_done(&jobs[0]));
    for other in ["", "ab", "abd", "abcd"] {
        fs::write(&result, other).unwrap();
        assert!(!folder.is_done(&jobs[0]), "{other:?}");
    }
    fs::write(&result, RESULT).unwrap();
    assert!(folder.is_done(&jobs[0]));
    // A manifest without hashes is not trusted.
    let unproven = BatchEntry { output_sha256: None, ..entry(&jobs[0], JobStatus::Done) };
    folder.record(unproven).unwrap();
    assert!(!folder.is_done(&jobs[0]));
}

#[test]
fn jobs_of_other_programs_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let plain = r#"{"photo": "a.png", "instruction": "make it red", "steps": 7, "seed": 3}"#;
    let expected = read_jobs(write(dir.path(), plain)).unwrap();
    for text in [
        format!("\u{feff}{plain}\r\n"),
        format!("{plain}\r\n\r\n"),
        plain.replace('7', "7.0").replace('3', "3.0"),
        plain.replace('}', r#", "mask": null, "name": null, "hold": null, "feather": null}"#),
    ] {
        assert_eq!(read_jobs(write(dir.path(), &text)).unwrap(), expected, "{text}");
    }
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let path = dir.path().join("jobs.jsonl");
    fs::write(&path, utf16).unwrap();
    let error = read_jobs(&path).unwrap_err().to_string();
    assert!(error.contains("expected UTF-8, got UTF-16"), "{error}");
    for (line, named) in [
        (plain.replace('7', "7.5"), "line 2: steps: "),
        (plain.replace("\"a.png\"", "null"), "line 2: photo: expected a path"),
        (plain.replace('3', "\"x\""), "line 2: seed: "),
        (plain.replace('}', r#", "hold": {"threshold": "x"}}"#), "line 2: hold"),
        (format!("// {plain}"), "line 2: expected a JSON object, got a comment"),
    ] {
        let error = read_jobs(write(dir.path(), &format!("{plain}\n{line}"))).unwrap_err();
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn reads_manifest_saved_by_a_text_editor_and_names_wrong_types() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = jobs(2);
    let line = |job| serde_json::to_string(&entry(job, JobStatus::Done)).unwrap();
    let (first, second) = (line(&jobs[0]), line(&jobs[1]));
    fs::write(dir.path().join(format!("{}.png", jobs[0].name)), RESULT).unwrap();
    let manifest = dir.path().join("manifest.jsonl");
    for text in [
        format!("\u{feff}{first}\r\n{second}\r\n"),
        format!("{first}\n{second}\n").replace(r#""line":1"#, r#""line":1.0"#),
    ] {
        fs::write(&manifest, &text).unwrap();
        let folder = BatchFolder::open(dir.path(), Shard::ALL, true).unwrap();
        assert!(folder.is_done(&jobs[0]), "{text}");
    }
    for (bad, named) in [
        (first.replace(r#""line":1"#, r#""line":"x""#), "line"),
        (first.replace(r#""status":"done""#, r#""status":7"#), "status"),
        (first.replace(r#""name":""#, r#""nmae":""#), "name"),
    ] {
        fs::write(&manifest, format!("{bad}\n{second}\n")).unwrap();
        let error = BatchFolder::open(dir.path(), Shard::ALL, true).unwrap_err().to_string();
        assert!(error.contains("manifest.jsonl") && error.contains(named), "{named}: {error}");
    }
}

#[test]
fn done_jobs_are_recorded_and_have_a_result() {
    let dir = tempfile::tempdir().unwrap();
    let (out, jobs) = (dir.path().join("out"), jobs(3));
    let mut folder = BatchFolder::open(&out, Shard::ALL, false).unwrap();
    folder.record(entry(&jobs[0], JobStatus::Failed)).unwrap();
    folder.record(entry(&jobs[0], JobStatus::Done)).unwrap();
    folder.record(entry(&jobs[1], JobStatus::Done)).unwrap();
    folder.record(entry(&jobs[2], JobStatus::Failed)).unwrap();
    drop(folder);
    fs::write(out.join("000001-p0.png"), RESULT).unwrap();
    let manifest = out.join("manifest.jsonl");
    assert!(matches!(BatchFolder::open(&out, Shard::ALL, false), Err(BatchError::Begun { .. })));

    // A run that was killed while it wrote a line.
    let whole = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{whole}{{\"name\": \"00")).unwrap();
    let mut folder = BatchFolder::open(&out, Shard::ALL, true).unwrap();
    let done: Vec<bool> = jobs.iter().map(|job| folder.is_done(job)).collect();
    assert_eq!(done, [true, false, false], "failed later, without a file, failed");
    let changed = BatchJob { sha256: "another".into(), ..jobs[0].clone() };
    assert!(!folder.is_done(&changed));
    assert_eq!(fs::read_to_string(&manifest).unwrap(), whole);
    folder.record(entry(&jobs[2], JobStatus::Done)).unwrap();
    drop(folder);
    assert_eq!(fs::read_to_string(&manifest).unwrap().lines().count(), 5);

    fs::write(&manifest, format!("nonsense\n{whole}")).unwrap();
    let error = BatchFolder::open(&out, Shard::ALL, true).unwrap_err();
    assert!(error.to_string().contains("manifest.jsonl: line 1: "), "{error}");
}

#[test]
fn concurrent_batches_must_be_shards_of_one_split() {
    let dir = tempfile::tempdir().unwrap();
    let open = |shard: &str| BatchFolder::open(dir.path(), shard.parse().unwrap(), true);
    let whole = open("1/1").unwrap();
    for shard in ["1/1", "1/2"] {
        assert!(matches!(open(shard), Err(BatchError::InUse { .. })), "{shard}");
    }
    drop(whole);
    assert!(matches!(open("1/2"), Err(BatchError::OtherShards { .. })), "there is a manifest");
    fs::remove_file(dir.path().join("manifest.jsonl")).unwrap();
    let shards = [open("1/2").unwrap(), open("2/2").unwrap()];
    for shard in ["1/1", "1/2", "2/2"] {
        assert!(matches!(open(shard), Err(BatchError::InUse { .. })), "{shard}");
    }
    assert!(matches!(open("1/3"), Err(BatchError::OtherShards { .. })));
    drop(shards);
    open("2/2").unwrap();
}

#[test]
fn deleted_folder_is_an_error_and_is_not_recreated() {
    let dir = tempfile::tempdir().unwrap();
    let (out, jobs) = (dir.path().join("out"), jobs(1));
    let mut folder = BatchFolder::open(&out, Shard::ALL, false).unwrap();
    folder.check().unwrap();
    fs::remove_dir_all(&out).unwrap();
    for error in [folder.check(), folder.record(entry(&jobs[0], JobStatus::Done))] {
        let message = error.unwrap_err().to_string();
        assert!(message.contains("the output folder vanished"), "{message}");
    }
    assert!(!out.exists());
}
