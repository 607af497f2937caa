//! `editmgt edit --lora`.

use std::path::Path;

use editmgt::lora::{LoraConfig, LoraFactors, LoraFile, LoraStreams};
use serde_json::Value;

use crate::program::{Edit, GOLDEN_MODEL, Scratch, root};

/// Writes an adapter of two layers of the golden model.
fn adapter(dir: &Path, layers: [&str; 2]) {
    let path = root().join(GOLDEN_MODEL).join("../transformer_nodown_none/config.json");
    let config: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let width = number("num_attention_heads") * number("attention_head_dim");
    let values = |step: f32| (0..2 * width).map(|i| (i as f32 * step).sin()).collect();
    let factors = LoraFactors { rank: 2, a: values(0.7), b: values(1.1) };
    let layers = layers.map(|name| (name.to_owned(), factors.clone()));
    let config = LoraConfig { rank: 2, alpha: 4.0, rank_stabilised: false, dropout: 0.0 };
    LoraFile::new(config, LoraStreams::Both, layers.into()).save(dir).unwrap();
}

const LAYERS: [&str; 2] =
    ["transformer_blocks.0.attn.to_v", "single_transformer_blocks.0.attn.to_q"];

#[test]
fn an_adapter_changes_the_edit_as_much_as_it_is_told() {
    let scratch = Scratch::new();
    let dir = scratch.path("adapter");
    adapter(&dir, LAYERS);
    let edit = |choice: &str| {
        let edit = Edit::new(scratch.out("o.png")).quick();
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
fn what_is_no_adapter_of_the_model_is_refused() {
    let scratch = Scratch::new();
    let other = scratch.path("other");
    adapter(&other, ["transformer_blocks.9.attn.to_v", LAYERS[1]]);
    let edit = |choice: &str| {
        Edit::new(scratch.out("o.png")).quick().with(&format!("--lora {choice}")).run()
    };
    edit(&format!("{}", other.display())).refused("layers", &["transformer_blocks.9.attn.to_v"]);
    edit("nowhere:0.5").refused("no folder", &["nowhere", "adapter_config.json"]);
    edit(":2").misused("no path", &["PATH[:SCALE[:STREAMS]]"]);
}
