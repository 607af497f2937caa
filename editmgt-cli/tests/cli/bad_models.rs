//! Model folders with one fault each.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::models::init;
use crate::program::{Edit, Scratch};
use crate::spoil::{change_json, change_tensor, copy_folder, fill, shard, weights};

/// Name, fault, and what the message must contain.
type Case<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

/// Damages a copy of a good model for each case, and expects the edit to be refused.
fn refuse(cases: &[Case<'_>]) {
    let scratch = Scratch::new();
    let good = scratch.path("good");
    init(&good, "f32");
    let edit = |model: &Path| {
        let mut edit = Edit::new(scratch.out("o.png")).with("--steps 1 --size 128");
        edit.model = model.to_owned();
        edit.run()
    };
    edit(&good).done();
    fs::remove_file(scratch.out("o.png")).unwrap();
    for (what, spoil, named) in cases {
        let model = scratch.path("bad");
        copy_folder(&good, &model);
        spoil(&model);
        edit(&model).refused(what, named);
        scratch.assert_nothing_written(what);
        if model.is_dir() {
            fs::remove_dir_all(model).unwrap();
        } else if model.exists() {
            fs::remove_file(model).unwrap();
        }
    }
}

fn remove(path: &Path) {
    if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
}

fn config(model: &Path, component: &str, change: impl FnOnce(&mut Value)) {
    change_json(&model.join(component).join("config.json"), change);
}

fn take(value: &mut Value, key: &str) {
    assert!(value.as_object_mut().unwrap().remove(key).is_some(), "no {key}");
}

fn truncate(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn folders() {
    let pipeline = |model: &Path, text: &str| fs::write(model.join("pipeline.json"), text).unwrap();
    refuse(&[
        ("missing", &remove, &["bad", "No such file"]),
        (
            "a file",
            &|m| {
                remove(m);
                fs::write(m, "").unwrap()
            },
            &["bad", "Not a directory"],
        ),
        (
            "empty",
            &|m| {
                remove(m);
                fs::create_dir(m).unwrap()
            },
            &[
                "not a model folder",
                "editmgt/ or transformer/",
                "vqvae/",
                "tokenizer/",
                "scheduler/",
            ],
        ),
        ("no codec", &|m| remove(&m.join("vqvae")), &["not a model folder", "lacks vqvae/"]),
        ("no LLM", &|m| remove(&m.join("llm_encoder")), &["Gemma2", "there is no llm_encoder"]),
        ("no config", &|m| remove(&m.join("vqvae/config.json")), &["vqvae/config.json", "No such"]),
        (
            "no schedule",
            &|m| remove(&m.join("scheduler/scheduler_config.json")),
            &["scheduler_config.json", "No such file"],
        ),
        ("cut pipeline", &|m| pipeline(m, r#"{"components": "#), &["pipeline.json", "EOF"]),
        ("other pipeline", &|m| pipeline(m, "[]"), &["pipeline.json", "expected struct"]),
        ("no components", &|m| pipeline(m, "{}"), &["pipeline.json", "components"]),
        (
            "empty pipeline",
            &|m| pipeline(m, r#"{"components": {}}"#),
            &["lacks transformer of pipeline.json"],
        ),
        (
            "pipeline to nowhere",
            &|m| {
                let components = json!({
                    "transformer": "editmgt", "vqvae": "vqvae", "text_encoder": "text_encoder",
                    "tokenizer": "tokenizer", "scheduler": "scheduler", "llm_encoder": "nowhere",
                });
                pipeline(m, &json!({"components": components}).to_string());
            },
            &["lacks llm_encoder of pipeline.json"],
        ),
    ]);
}

#[test]
fn weights_files() {
    let codec = |model: &Path| weights(&model.join("vqvae"));
    let bias = "decoder.conv_in.bias";
    refuse(&[
        ("none", &|m| remove(&codec(m)), &["vqvae", "expected model.safetensors"]),
        ("cut", &|m| truncate(&codec(m), 100_000), &["truncated", "expected", "got"]),
        ("cut header", &|m| truncate(&codec(m), 500), &["truncated", "500 bytes"]),
        ("empty", &|m| truncate(&codec(m), 0), &["not a safetensors file", "0 bytes"]),
        (
            "huge header",
            &|m| fs::write(codec(m), [&(1u64 << 62).to_le_bytes()[..], b"{}"].concat()).unwrap(),
            &["a header of 4611686018427387904 bytes", "at most"],
        ),
        (
            "a pointer",
            &|m| fs::write(codec(m), "version https://git-lfs.github.com/spec/v1").unwrap(),
            &["not a safetensors file", "perhaps a pointer"],
        ),
        (
            "no JSON",
            &|m| fs::write(codec(m), [&4u64.to_le_bytes()[..], b"{{{{"].concat()).unwrap(),
            &["malformed header"],
        ),
        ("shard gone", &|m| remove(&shard(&m.join("vqvae"))[1]), &["index.json", "is missing"]),
        (
            "shard cut",
            &|m| truncate(&shard(&m.join("vqvae"))[0], 20_000),
            &["00001-of-00002", "truncated"],
        ),
        (
            "another shape",
            &|m| change_tensor(&codec(m), bias, |shape, _| shape.push(1)),
            &["do not match the config", "1 of another shape", bias, "expected [16], got [16, 1]"],
        ),
        (
            "another model's",
            &|m| {
                fs::copy(weights(&m.join("text_encoder")), codec(m)).unwrap();
            },
            &["do not match the config", "189 missing", "53 unused", "and 169 more"],
        ),
    ]);
}

#[test]
fn configs() {
    refuse(&[
        (
            "unknown key",
            &|m| config(m, "vqvae", |c| c["colour"] = json!("red")),
            &["vqvae/config.json", "unknown key \"colour\""],
        ),
        (
            "missing key",
            &|m| config(m, "editmgt", |c| take(c, "num_attention_heads")),
            &["editmgt/config.json", "missing field `num_attention_heads`"],
        ),
        (
            "missing key of CLIP",
            &|m| config(m, "text_encoder", |c| take(c, "hidden_size")),
            &["text_encoder/config.json", "hidden_size"],
        ),
        (
            "text for a number",
            &|m| config(m, "editmgt", |c| c["num_layers"] = json!("2")),
            &["editmgt/config.json", "num_layers: invalid type: string", "expected usize"],
        ),
        (
            "zero",
            &|m| config(m, "vqvae", |c| c["latent_channels"] = json!(0)),
            &["vqvae/config.json", "latent_channels"],
        ),
        (
            "absurd",
            &|m| config(m, "vqvae", |c| c["num_vq_embeddings"] = json!(1u64 << 60)),
            &["vqvae/config.json", "num_vq_embeddings"],
        ),
        (
            "heads that don't divide",
            &|m| config(m, "text_encoder", |c| c["num_attention_heads"] = json!(7)),
            &["text_encoder/config.json", "num_attention_heads", "7"],
        ),
        (
            "cut",
            &|m| fs::write(m.join("llm_encoder/config.json"), "{\"a\":").unwrap(),
            &["llm_encoder/config.json", "EOF"],
        ),
        (
            "unknown schedule",
            &|m| {
                let path = m.join("scheduler/scheduler_config.json");
                change_json(&path, |c| c["masking_schedule"] = json!("sideways"));
            },
            &["scheduler_config.json", "masking_schedule", "sideways"],
        ),
        (
            "a size that the weights don't have",
            &|m| config(m, "vqvae", |c| c["num_vq_embeddings"] = json!(32)),
            &["do not match the config", "expected [32, 8], got [64, 8]"],
        ),
    ]);
}

#[test]
fn components_of_several_models() {
    refuse(&[
        (
            "codebook",
            &|m| {
                config(m, "vqvae", |c| c["num_vq_embeddings"] = json!(32));
                change_tensor(&weights(&m.join("vqvae")), "quantize.embedding", |shape, bytes| {
                    shape[0] /= 2;
                    bytes.truncate(bytes.len() / 2);
                });
            },
            &["codebook size", "the transformer has 64", "the codec has 32"],
        ),
        (
            "mask token",
            &|m| {
                let path = m.join("scheduler/scheduler_config.json");
                change_json(&path, |c| c["mask_token_id"] = json!(3));
            },
            &["mask token", "the transformer has 71", "the scheduler has 3"],
        ),
        (
            "pooled width",
            &|m| {
                config(m, "text_encoder", |c| c["projection_dim"] = json!(32));
                let file = weights(&m.join("text_encoder"));
                change_tensor(&file, "text_projection", |shape, bytes| {
                    shape[0] /= 2;
                    bytes.truncate(bytes.len() / 2);
                });
            },
            &["pooled text width", "the transformer has 64", "the text encoder has 32"],
        ),
    ]);
}

#[test]
fn tokenizers() {
    let vocabulary = |model: &Path| model.join("tokenizer/vocab.json");
    let gemma = |model: &Path| model.join("llm_encoder/tokenizer.json");
    refuse(&[
        (
            "no start token",
            &|m| change_json(&vocabulary(m), |v| take(v, "<|startoftext|>")),
            &["vocab.json", "bos_token", "<|startoftext|>", "not in the vocabulary"],
        ),
        (
            "no end token",
            &|m| change_json(&vocabulary(m), |v| take(v, "<|endoftext|>")),
            &["vocab.json", "eos_token", "<|endoftext|>", "not in the vocabulary"],
        ),
        (
            "none named",
            &|m| {
                remove(&m.join("tokenizer/special_tokens_map.json"));
                remove(&m.join("tokenizer/tokenizer_config.json"));
            },
            &["tokenizer", "bos_token is not named"],
        ),
        ("cut", &|m| fs::write(vocabulary(m), "{").unwrap(), &["vocab.json", "EOF"]),
        ("gone", &|m| remove(&vocabulary(m)), &["tokenizer", "no tokeniser here, expected"]),
        (
            "no start token of Gemma",
            &|m| {
                change_json(&gemma(m), |t| {
                    t["added_tokens"] = json!([]);
                    take(&mut t["model"]["vocab"], "<bos>");
                });
            },
            &["llm_encoder/tokenizer.json", "bos_token", "<bos>", "not in the vocabulary"],
        ),
        ("no Gemma", &|m| remove(&gemma(m)), &["llm_encoder", "expected tokenizer.json"]),
    ]);
}

#[test]
fn nan_weights_are_refused() {
    let nan = |component: &'static str, named: &'static str, value| {
        move |model: &Path| fill(&weights(&model.join(component)), named, value)
    };
    let logits = &["logits", "damaged weights"][..];
    refuse(&[
        ("transformer", &nan("editmgt", "", f32::NAN), logits),
        ("one block", &nan("editmgt", "single_transformer_blocks.0.", f32::NAN), logits),
        ("infinite transformer", &nan("editmgt", "", f32::INFINITY), logits),
        ("overflow", &nan("editmgt", "", f32::MAX), logits),
        ("CLIP", &nan("text_encoder", "", f32::NAN), logits),
        ("Gemma2", &nan("llm_encoder", "", f32::NAN), logits),
        ("encoder", &nan("vqvae", "encoder.", f32::NAN), &["encoded image", "NaN"]),
        ("decoder", &nan("vqvae", "decoder.", f32::NAN), &["decoded image", "NaN"]),
        ("codebook", &nan("vqvae", "quantize", f32::NAN), &["NaN"]),
    ]);
}
