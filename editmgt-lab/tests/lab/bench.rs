//! `editmgt-lab bench`.

use serde_json::Value;

use crate::program::{Scratch, lab};

const STAGES: [&str; 7] =
    ["vq-encode", "vq-decode", "clip", "gemma2", "transformer", "capture", "step"];

#[test]
fn numbers_of_every_stage_go_to_the_file_and_the_screen() {
    let scratch = Scratch::new();
    let file = scratch.out("bench.json");
    let args = "bench --preset tiny --size 64 --repeat 2 --warmup 0 --threads 1 --json";
    let table = lab(args.split(' ').chain([file.to_str().unwrap()])).done();
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let rows: Vec<_> = table.lines().skip(1).filter_map(first).collect();
    assert_eq!(rows, STAGES);

    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let facts = ["preset", "size", "threads"].map(|key| json[key].to_string());
    assert_eq!(facts, ["\"tiny\"", "64", "1"]);
    let stages = json["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| &stage["stage"]).collect::<Vec<_>>(), STAGES);
    for stage in stages {
        assert_eq!(stage["seconds"].as_array().unwrap().len(), 2, "{stage}");
        for key in ["median_seconds", "min_seconds", "max_seconds"] {
            assert!(stage[key].as_f64().unwrap() > 0.0, "{key}: {stage}");
        }
    }
}

#[test]
fn loading_is_measured_when_asked_for() {
    let scratch = Scratch::new();
    let (file, dir) = (scratch.out("bench.json"), scratch.path(""));
    let args = "bench --preset tiny --stages load --repeat 1 --warmup 0 --scratch";
    let paths = [dir.to_str().unwrap(), "--json", file.to_str().unwrap()];
    let table = lab(args.split(' ').chain(paths)).done();
    for pair in ["f32 as f32", "bf16 as f32", "bf16 as bf16"] {
        assert!(table.contains(pair), "{table}");
    }
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for stage in json["stages"].as_array().unwrap() {
        assert!(stage["reading"]["ratio"].as_f64().unwrap() > 0.0, "{stage}");
    }
}

#[test]
fn rejects_invalid_loads() {
    for (options, named) in [
        ("--stages clip,vq", &["stages", "vq-encode", "got vq"][..]),
        ("--preset small", &["preset", "full, tiny"]),
        ("--size 100", &["size", "32", "100"]),
        ("--repeat 0", &["repeat", "1 or more"]),
        ("--threads 0", &["--threads", "1 or more"]),
        ("--dtype f8", &["f8"]),
        ("--json no/such/folder.json", &["no/such", "does not exist"]),
        ("--stages load --scratch no/such", &["no/such", "No such file"]),
    ] {
        let args = format!("bench --preset tiny --stages clip {options}");
        // A repeated list replaces the first.
        let args = if options.starts_with("--stages") || options.starts_with("--preset") {
            format!("bench {options}")
        } else {
            args
        };
        lab(args.split(' ')).refused(options, named);
    }
}
