//! `editmgt edit --lora`.

use std::path::Path;

use editmgt::Photo;
use editmgt::lora::{LoraConfig, LoraFactors, LoraFile, LoraStreams};
use serde_json::{Value, json};

use crate::batch::{batch, cat, job};
use crate::program::{CAT, Edit, GOLDEN_MODEL, Ran, Scratch, editmgt, root};

/// Writes an adapter of two layers of the golden model.
fn adapter(dir: &Path, layers: [&str; 2]) {
    let path = root().join(GOLDEN_MODEL).join("../transformer_nodown_none/config.json");
    let config: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let width = number("num_attention_heads") * number("attention_head_dim");
    let values = |step: f32| (0..2 * width).map(|i| (i as f32 * step).sin()).collect();
    let factors = LoraFactors { rank: 2, a: values(0.7), b: values(1.1) };
    let layers = layers.map(|name| (name.to_owned(), factors.clone()));
    let config = LoraConfig::new(2, 4.0);
    LoraFile::new(config, LoraStreams::Both, layers.into()).save(dir).unwrap();
}

const LAYERS: [&str; 2] =
    ["transformer_blocks.0.attn.to_v", "single_transformer_blocks.0.attn.to_q"];

#[test]
fn adapter_scale_controls_its_effect() {
    let scratch = Scratch::new();
    let dir = scratch.path("adapter");
    adapter(&dir, LAYERS);
    let edit = |choice: &str| {
        // A record would name the adapter.
        let edit = Edit::new(scratch.out("o.png")).quick().with("--no-record");
        match choice {
            "none" => edit.bytes(),
            choice => edit.with(&format!("--lora {}{choice}", dir.display())).bytes(),
        }
    };
    let (none, whole) = (edit("none"), edit(""));
    assert!(none != whole, "the adapter has no effect");
    assert!(none == edit(":0"), "an adapter of scale 0 has one");
    assert!(whole == edit(":1:both"));
    for other in [":3", ":1:reference", ":1:image"] {
        assert!(whole != edit(other), "{other}");
    }
}

#[test]
fn png_record_names_its_adapters() {
    let scratch = Scratch::new();
    let (style, other) = (scratch.path("style"), scratch.path("other"));
    adapter(&style, LAYERS);
    adapter(&other, [LAYERS[0], "transformer_blocks.0.attn.to_k"]);
    let made = scratch.out("a.png");
    Edit::new(made.clone()).quick().with_path("--lora", &style).run().done();
    let shown = editmgt(["show".into(), made.clone()]).done();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let lora = &shown["loras"][0];
    assert_eq!(lora["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(
        (&lora["name"], &lora["scale"], &lora["streams"]),
        (&json!("style"), &json!(1.0), &json!("both"))
    );

    let again = scratch.out("b.png");
    let like = |lora: Option<&str>| -> Ran {
        let (made, again) = (made.to_str().unwrap(), again.to_str().unwrap());
        let args = ["edit", CAT, "--like", made, "-o", again, "--model", GOLDEN_MODEL, "-q"];
        editmgt(args.into_iter().chain(lora.into_iter().flat_map(|lora| ["--lora", lora])))
    };
    let (style, other) = (style.display().to_string(), other.display().to_string());
    like(Some(&style)).done();
    // The records differ: the second one states the model's defaults explicitly.
    let pixels = |path| Photo::open(path).unwrap().rgb().clone();
    assert!(pixels(&made) == pixels(&again), "the same edit");
    let missing =
        "made with the LoRA adapter \"style\" (scale 1, streams both), which is not given";
    let half = format!("{style}:0.5");
    for (lora, named) in [
        (None, &[missing][..]),
        (Some(&*half), &[missing, "made without the LoRA adapter \"style\" (scale 0.5,"]),
        (Some(&*other), &[missing, "made without the LoRA adapter \"other\" (scale 1,"]),
    ] {
        let Ran { status, stderr, .. } = like(lora);
        assert_eq!((status, stderr.lines().count()), (Some(0), named.len()), "{stderr}");
        for (line, part) in stderr.lines().zip(named) {
            assert!(line.starts_with("note: ") && line.contains(part), "{part}: {line}");
        }
    }
}

#[test]
fn batch_resumes_only_with_the_same_adapters() {
    let scratch = Scratch::new();
    let style = scratch.path("style");
    adapter(&style, LAYERS);
    let jobs = scratch.write("jobs.jsonl", job(&cat(), json!({})));
    let (out, lora) = (scratch.out("o"), format!("--resume --lora {}", style.display()));
    batch(&jobs, &out, &lora).done();
    let printed = batch(&jobs, &out, &lora).done();
    assert_eq!(printed.lines().last(), Some("0 done, 0 failed, 1 done before"), "{printed}");
    let named = ["manifest.jsonl: expected model ", "\"style\"", "000001-cat", "got model "];
    batch(&jobs, &out, "--resume").refused("without", &named);
}

#[test]
fn rejects_adapters_of_other_models() {
    let scratch = Scratch::new();
    let other = scratch.path("other");
    adapter(&other, ["transformer_blocks.9.attn.to_v", LAYERS[1]]);
    let edit = |choice: &str| {
        Edit::new(scratch.out("o.png")).quick().with(&format!("--lora {choice}")).run()
    };
    edit(&format!("{}", other.display())).refused("layers", &["transformer_blocks.9.attn.to_v"]);
    edit("nowhere:0.5").refused("no folder", &["nowhere", "No such file"]);
    edit(":2").misused("no path", &["PATH[:SCALE[:STREAMS]]"]);
}
