//! `editmgt eval`.

use std::path::Path;

use serde_json::Value;

use crate::program::{GOLDEN_MODEL, Ran, Scratch, editmgt};

/// A small canvas and one step: the same code as an evaluation in earnest, soon done.
fn world(scratch: &Scratch, options: &[&str]) -> Ran {
    let config = scratch.write("world.json", r#"{"canvas": 80}"#);
    let request = scratch.write("request.json", r#"{"steps": 1, "size": 80, "hold": "auto"}"#);
    let mut args = vec!["eval", "world", "--model", GOLDEN_MODEL];
    args.extend(["--world", config.to_str().unwrap()]);
    if !options.contains(&"--codec-only") && !options.contains(&"--request") {
        args.extend(["--request", request.to_str().unwrap()]);
    }
    args.extend(options);
    editmgt(args)
}

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_that_was_killed_goes_on_and_is_the_same() {
    let scratch = Scratch::new();
    let (whole, killed) = (scratch.out("whole"), scratch.out("killed"));
    let run =
        |out: &Path, n: &str| world(&scratch, &["--n", n, "--out", out.to_str().unwrap()]).done();
    let table = run(&whole, "7");
    assert!(table.contains("| all | 7 | "), "{table}");
    let text = std::fs::read_to_string(whole.join("trials.jsonl")).unwrap();
    let lines = records(&whole.join("trials.jsonl"));
    assert_eq!(lines.len(), 7);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index);
        for metric in ["success", "right", "l1", "psnr", "tokens_held", "score_iou"] {
            assert!(line["metrics"][metric].is_number(), "{metric}: {line}");
        }
    }

    run(&killed, "3");
    let path = killed.join("trials.jsonl");
    let half = std::fs::read_to_string(&path).unwrap() + "{\"index\":3,\"cat";
    std::fs::write(&path, half).unwrap();
    assert_eq!(run(&killed, "7"), table);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    // Another request would mix its edits with these.
    let other = scratch.write("other.json", r#"{"steps": 2, "size": 80, "hold": "auto"}"#);
    let out = killed.to_str().unwrap();
    world(&scratch, &["--n", "7", "--out", out, "--request", other.to_str().unwrap()])
        .refused("another request", &["run.json", "edits.settings.steps"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn parts_make_the_whole_and_runs_are_compared() {
    let scratch = Scratch::new();
    let (whole, parts, codec) = (scratch.out("whole"), scratch.out("parts"), scratch.out("codec"));
    let run = |out: &Path, options: &[&str]| {
        let all = [&["--n", "4", "--out", out.to_str().unwrap()], options].concat();
        world(&scratch, &all).done()
    };
    let table = run(&whole, &[]);
    run(&parts, &["--shard", "1/2"]);
    run(&parts, &["--shard", "2/2"]);
    run(&codec, &["--codec-only"]);
    let json = scratch.out("summary.json");
    let summary = |dir: &Path| {
        let args = [Path::new("eval"), Path::new("summary"), dir, Path::new("--summary"), &json];
        editmgt(args).done()
    };
    assert_eq!(summary(&parts), table);
    let rows: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(rows["rows"].as_array().unwrap().last().unwrap()["edits"], 4);

    let compare =
        |a: &Path, b: &Path| editmgt([Path::new("eval"), Path::new("compare"), a, b]).done();
    let same = compare(&whole, &parts);
    assert!(same.contains("| 1.0000 |  |") && !same.contains("B is"), "{same}");
    let other = compare(&whole, &codec);
    assert!(other.contains("| psnr | 4 | "), "{other}");

    let nothing = scratch.path("nothing");
    std::fs::create_dir(&nothing).unwrap();
    editmgt([Path::new("eval"), Path::new("summary"), &nothing])
        .refused("no run", &["nothing", "expected a run's folder"]);
    world(&scratch, &["--n", "0"]).refused("none", &["--n: expected at least 1"]);
    world(&scratch, &["--shard", "3/2", "--out", "x"]).misused("shard", &["3/2", "I/N"]);
}
