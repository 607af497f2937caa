//! A model with its own default options.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::models::init;
use crate::program::{Edit, Scratch, editmgt};

/// A miniature model whose folder has these `defaults`.
fn model(scratch: &Scratch, defaults: &str) -> PathBuf {
    let model = scratch.path("model");
    if !model.is_dir() {
        init(&model, "bf16");
    }
    std::fs::write(model.join("edit_defaults.json"), defaults).unwrap();
    model
}

fn edit(scratch: &Scratch, model: &Path) -> Edit {
    let mut edit = Edit::new(scratch.out("o.png"));
    edit.model = model.to_owned();
    edit
}

#[test]
fn unset_options_use_the_models_defaults() {
    let scratch = Scratch::new();
    let defaults = json!({
        "version": 1, "size": 128, "steps": 2, "negative_prompt": "", "guidance_scale": 1.5,
        "hold": {"budget": 0.5}, "keyword": "auto", "blocks": [2],
    });
    let model = model(&scratch, &defaults.to_string());
    let plain = edit(&scratch, &model).report();
    for (key, value) in defaults.as_object().unwrap() {
        if key != "version" {
            assert_eq!(plain["settings"][key], *value, "{key}");
            assert_eq!(plain["request"].get(key), None, "{key}: the user did not say so");
        }
    }
    assert_eq!(plain["settings"]["reference_strength"], json!(1.1), "the official default");
    assert!(plain["tokens_held"].as_f64().unwrap() >= 0.5);

    let printed = edit(&scratch, &model).with("--steps 1 --hold off --no-keyword").report();
    assert_eq!(printed["settings"]["steps"], json!(1));
    assert_eq!(printed["settings"]["hold"], json!("off"));
    assert_eq!(printed["settings"]["size"], json!(128));
    assert_eq!(printed["tokens_held"], json!(0.0));
}

#[test]
fn inspect_shows_the_defaults() {
    let scratch = Scratch::new();
    let model = model(&scratch, r#"{"version": 1, "hold": "auto", "size": 128}"#);
    let table = editmgt([Path::new("inspect"), &model]).done();
    assert!(table.contains(r#"{"size":128,"hold":"auto"}"#), "{table}");
    let summary = editmgt([Path::new("inspect"), &model, Path::new("--json")]).done();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["defaults"], json!({"size": 128, "hold": "auto"}));
    std::fs::remove_file(model.join("edit_defaults.json")).unwrap();
    let table = editmgt([Path::new("inspect"), &model]).done();
    assert!(table.contains("official defaults"), "{table}");
}

#[test]
fn invalid_defaults_are_refused_before_loading() {
    let scratch = Scratch::new();
    for (text, named) in [
        ("", "EOF"),
        (r#"{"steps": 8}"#, "version: expected 1"),
        (r#"{"version": 7}"#, "version: expected 1, got 7"),
        (r#"{"version": 1, "stpes": 8}"#, "stpes"),
        (r#"{"version": 1, "steps": 0}"#, "steps: expected 1 to 4096, got 0"),
        (r#"{"version": 1, "hold": "mask"}"#, "hold: expected a policy that needs no mask"),
        (r#"{"version": 1, "blocks": [99]}"#, "blocks: expected below"),
        (r#"{"version": 1, "size": 3}"#, "size: expected"),
    ] {
        let model = model(&scratch, text);
        edit(&scratch, &model).run().refused(text, &["edit_defaults.json", named]);
        scratch.assert_nothing_written(text);
    }
}
