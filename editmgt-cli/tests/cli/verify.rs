//! `editmgt verify` on golden folders, good and bad.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Scratch, editmgt, root};
#[cfg(feature = "pytorch")]
use crate::spoil::{as_pickle, weights};
use crate::spoil::{change_json, change_tensor, copy_folder};

/// Fast folders; the others are for the golden tests.
const FOLDERS: [(&str, &str); 8] = [
    ("clip", "clip"),
    ("gemma2", "gemma2"),
    ("localisation", "localisation"),
    ("preproc", "image_preparation"),
    ("scheduler", "scheduler"),
    ("tokenizers", "tokenizers"),
    ("transformer_down_linear", "transformer"),
    ("vq3", "vq_codec"),
];

fn golden(name: &str) -> String {
    format!("tests/golden/{name}")
}

#[test]
fn golden_folders_pass() {
    let dirs = FOLDERS.map(|(name, _)| golden(name));
    let table = editmgt(["verify"].into_iter().chain(dirs.iter().map(|dir| &**dir))).done();
    for dir in &dirs {
        assert!(table.contains(&format!("{dir} (")), "{table}");
    }
    assert!(table.ends_with("8 of 8 folders pass\n"), "{table}");
    assert!(!table.contains("FAIL"), "{table}");

    let json = ["verify", "--json", "--device", "cpu"];
    let json = editmgt(json.into_iter().chain(dirs.iter().map(|dir| &**dir))).done();
    let json: Vec<Value> = serde_json::from_str(&json).unwrap();
    for (verification, (name, stage)) in json.iter().zip(FOLDERS) {
        assert_eq!(verification["folder"], golden(name));
        assert_eq!(verification["stage"], stage);
        let comparisons = verification["comparisons"].as_array().unwrap();
        assert!(!comparisons.is_empty(), "{name}");
        assert!(comparisons.iter().all(|comparison| comparison["pass"] == true), "{name}");
    }
    assert_eq!(json.len(), FOLDERS.len());
}

#[cfg(feature = "pytorch")]
#[test]
fn weights_of_pytorch_are_verified() {
    let scratch = Scratch::new();
    for (name, pickle) in [("clip", "pytorch_model.bin"), ("vq3", "diffusion_pytorch_model.bin")] {
        let dir = scratch.path(name);
        copy_folder(&root().join(golden(name)), &dir);
        let safetensors = weights(&dir);
        std::fs::write(dir.join(pickle), as_pickle(&std::fs::read(&safetensors).unwrap())).unwrap();
        std::fs::remove_file(safetensors).unwrap();
        let table = editmgt([Path::new("verify"), &dir]).done();
        assert!(table.contains("pass") && !table.contains("FAIL"), "{table}");
    }
}

#[test]
fn a_wrong_number_fails() {
    for (name, tensor, wrong) in [
        ("clip", "text_embeds", f32::to_le_bytes(0.5)),
        ("clip", "text_embeds", f32::to_le_bytes(f32::NAN)),
        ("tokenizers", "prompt3.gemma_ids", i32::to_le_bytes(1)),
    ] {
        let scratch = Scratch::new();
        let dir = scratch.path(name);
        copy_folder(&root().join(golden(name)), &dir);
        change_tensor(&dir.join("golden.safetensors"), tensor, |_, bytes| {
            bytes[..4].copy_from_slice(&wrong);
        });
        let ran = editmgt([Path::new("verify"), &dir, Path::new(&golden("vq3"))]);
        assert_eq!((ran.status, &*ran.stderr), (Some(1), ""), "{name}: {}", ran.stdout);
        let failed: Vec<_> = ran.stdout.lines().filter(|line| line.ends_with("FAIL")).collect();
        let [folder, line] = failed[..] else { panic!("{}", ran.stdout) };
        assert!(folder.contains(name) && line.contains(tensor), "{failed:?}");
        assert!(ran.stdout.ends_with("1 of 2 folders pass\n"), "{}", ran.stdout);

        let ran = editmgt([Path::new("verify"), Path::new("--json"), &dir]);
        assert_eq!(ran.status, Some(1));
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        let comparisons = json[0]["comparisons"].as_array().unwrap();
        assert_eq!(comparisons.iter().filter(|c| c["pass"] == false).count(), 1, "{json}");
    }
}

#[test]
fn rejects_invalid_golden_folders() {
    let scratch = Scratch::new();
    let spoilt = |name: &str, spoil: fn(&Path)| {
        let dir = scratch.path(name);
        copy_folder(&root().join("tests/golden/clip"), &dir);
        spoil(&dir);
        dir
    };
    for (dir, named) in [
        (scratch.path("nowhere"), "no golden.safetensors"),
        (root().join("examples/photos"), "no golden.safetensors"),
        (root().join("Cargo.toml"), "Cargo.toml"),
        (
            spoilt("no manifest", |dir| std::fs::remove_file(dir.join("manifest.json")).unwrap()),
            "no manifest.json",
        ),
        (
            spoilt("bad manifest", |dir| std::fs::write(dir.join("manifest.json"), "{").unwrap()),
            "manifest.json",
        ),
        (
            spoilt("bad golden", |dir| std::fs::write(dir.join("golden.safetensors"), "").unwrap()),
            "golden.safetensors",
        ),
        (
            spoilt("no weights", |dir| {
                std::fs::remove_file(dir.join("model.safetensors")).unwrap();
            }),
            "expected model.safetensors",
        ),
        (
            spoilt("bad config", |dir| {
                change_json(&dir.join("config.json"), |config| config["vocab_size"] = json!(-1));
            }),
            "vocab_size: invalid value: integer `-1`",
        ),
        (
            spoilt("no stage", |dir| std::fs::write(dir.join("config.json"), "{}").unwrap()),
            "docs/golden-format.md",
        ),
    ] {
        let what = dir.to_string_lossy().into_owned();
        editmgt([Path::new("verify"), &dir]).refused(&what, &[&what, named]);
    }
    editmgt(["verify"]).misused("no folder", &["<DIR>"]);
    editmgt(["verify", "tests/golden/clip", "--device", "abacus"])
        .refused("device", &["abacus", "flex"]);
}
