//! `--low-memory`.

use std::fs;

use serde_json::json;

use crate::batch::{batch, cat, job};
use crate::models::init;
use crate::program::{Edit, Scratch};
use crate::spoil::weights;

#[test]
fn edits_are_the_same() {
    let scratch = Scratch::new();
    let edit = |options: &str| Edit::new(scratch.out("o.png")).quick().with(options).bytes();
    for options in ["", "--hold 0.5 --keyword cat", "--strength 0 --guidance 1", "--seed 3"] {
        assert!(edit(options) == edit(&format!("{options} --low-memory")), "{options}");
    }
}

#[cfg(feature = "embedded")]
#[test]
fn refused_for_the_model_in_the_program() {
    let scratch = Scratch::new();
    let output = scratch.out("scene.png");
    let args =
        ["edit", "examples/scenes/scene.png", "make the red car blue", "--low-memory", "-qo"];
    let args = args.into_iter().chain([output.to_str().unwrap()]);
    crate::program::editmgt(args).refused("no folder", &["low_memory", "a model folder"]);
    scratch.assert_nothing_written("no folder");
}

#[test]
fn low_memory_batches_are_equal() {
    let scratch = Scratch::new();
    let lines = [job(&cat(), json!({"seed": 3})), job(&cat(), json!({"instruction": "a dog"}))];
    let jobs = scratch.write("jobs.jsonl", lines.concat());
    let results = ["", "--low-memory"].map(|option| {
        let out = scratch.out(&format!("results{option}"));
        batch(&jobs, &out, option).done();
        ["000001-cat.png", "000002-cat.png"].map(|name| fs::read(out.join(name)).unwrap())
    });
    assert!(results[0] == results[1]);
}

#[test]
fn unloadable_component_fails_the_edit_without_output() {
    let scratch = Scratch::new();
    let model = scratch.path("model");
    init(&model, "f32");
    let edit = || {
        let mut edit = Edit::new(scratch.out("o.png")).with("--steps 1 --size 128 --dtype f16");
        edit.model = model.clone();
        edit.with("--low-memory").run()
    };
    // Headers reveal everything except whether a weight fits the dtype: that fails when it is read,
    // after the text was encoded.
    let file = weights(&model.join("editmgt"));
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&1e30f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    edit().refused("a weight too large", &["editmgt", "f16"]);
    scratch.assert_nothing_written("a weight too large");
}

#[test]
fn low_memory_edit_reports_peak_memory() {
    let scratch = Scratch::new();
    let summary = Edit::new(scratch.out("o.png")).quick().run().done();
    assert_eq!(summary.contains(", peak memory "), cfg!(target_os = "linux"), "{summary}");
}
