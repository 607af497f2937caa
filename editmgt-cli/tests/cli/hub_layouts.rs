//! Tiny models in the layout of each published repository.
//!
//! To add a repository: a row in [`LAYOUTS`], whose function gives the repositories that it needs, with every kind of
//! file that the published one has.

use std::path::Path;

use editmgt_tests::golden;
use editmgt_tests::hub::StubRepository;
use serde_json::json;

use crate::models::init;
use crate::spoil::{change_json, copy_folder, in_half_precision, shard, weights, with_tensor};

/// What the program does with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// `editmgt edit`.
    Edit,
    /// It is loaded, with every weight.
    Load,
}

/// A published repository.
pub(crate) struct Layout {
    /// What `pull` and `--model` are given.
    pub(crate) name: &'static str,
    /// `--variant`.
    pub(crate) variant: Option<&'static str>,
    /// The repositories, in a scratch folder.
    pub(crate) repositories: fn(&Path) -> Vec<StubRepository>,
    /// What it is for.
    pub(crate) job: Job,
}

/// Every published repository whose family this program reads.
pub(crate) const LAYOUTS: [Layout; 6] = [
    Layout { name: "WeiChow/EditMGT", variant: None, repositories: editmgt, job: Job::Edit },
    Layout { name: "meissonic", variant: None, repositories: meissonic_only, job: Job::Load },
    Layout {
        name: "meissonic",
        variant: Some("fp16"),
        repositories: meissonic_only,
        job: Job::Load,
    },
    Layout { name: "monetico", variant: None, repositories: monetico, job: Job::Load },
    Layout { name: "muddit-512", variant: None, repositories: muddit, job: Job::Load },
    Layout { name: "muddit-1024", variant: None, repositories: muddit, job: Job::Load },
];

/// The official folders, with a transformer in f32 and a Gemma in two shards whose config transformers 4.47 wrote.
fn editmgt(scratch: &Path) -> Vec<StubRepository> {
    let dir = scratch.join("editmgt-source");
    init(&dir, "f32");
    shard(&dir.join("llm_encoder"));
    change_json(&dir.join("llm_encoder/config.json"), |config| {
        config["output_hidden_states"] = json!(true);
        config["_attn_implementation_autoset"] = json!(true);
        config["transformers_version"] = json!("4.47.1");
    });
    let repository = StubRepository::new("WeiChow/EditMGT")
        .folder("", &dir)
        .file("README.md", "# EditMGT")
        .file(".gitattributes", "*.safetensors filter=lfs")
        .file("llm_encoder/generation_config.json", "{}")
        .file("llm_encoder/tokenizer.model", vec![0; 2000]);
    vec![StubRepository { licence: Some("cc-by-4.0".into()), ..repository }]
}

/// A part of a golden model, as a part of a repository.
fn part(repository: StubRepository, folder: &str, name: &str) -> StubRepository {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    repository.folder(&prefix, &golden(name).expect("committed"))
}

/// Meissonic's layout: weights in f32; code beside; a tokenizer without `tokenizer.json`; the text encoder of a config
/// that names no architecture or connector.
fn without_variants(name: &str) -> StubRepository {
    let mut repository = StubRepository::new(name);
    for (folder, golden) in [
        ("transformer", "transformer_nodown_none"),
        ("vqvae", "vq3"),
        ("text_encoder", "clip"),
        ("tokenizer", "tokenizers/clip_tokenizer"),
        ("scheduler", "scheduler"),
    ] {
        repository = part(repository, folder, golden);
    }
    repository.files.remove("tokenizer/tokenizer.json").expect("the golden folder has it");
    let mut config: serde_json::Value =
        serde_json::from_slice(&repository.files["transformer/config.json"]).unwrap();
    for key in ["text_encoder_architecture", "connector_type"] {
        config.as_object_mut().unwrap().remove(key).expect("the golden config has it");
    }
    let index = json!({
        "_class_name": "Pipeline", "_diffusers_version": "0.30.2",
        "scheduler": ["scheduler", "Scheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "transformer": ["transformer", "Transformer2DModel"],
        "vqvae": ["diffusers", "VQModel"]
    });
    let repository = repository
        .file("transformer/config.json", config.to_string())
        .file("model_index.json", index.to_string())
        .file("README.md", "# Meissonic")
        .file("transformer/transformer.py", "import torch")
        .file("scheduler/scheduler.py", "import torch");
    StubRepository { licence: Some("apache-2.0".into()), ..repository }
}

fn meissonic() -> StubRepository {
    let mut repository = without_variants("MeissonFlow/Meissonic");
    for (folder, stem) in [
        ("transformer", "diffusion_pytorch_model"),
        ("vqvae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ] {
        let half = in_half_precision(&repository.files[&format!("{folder}/{stem}.safetensors")]);
        repository = repository.file(&format!("{folder}/{stem}.fp16.safetensors"), half);
    }
    repository
}

fn meissonic_only(_scratch: &Path) -> Vec<StubRepository> {
    vec![meissonic()]
}

fn monetico(_scratch: &Path) -> Vec<StubRepository> {
    vec![without_variants("Collov-Labs/Monetico")]
}

/// Transformers of two sizes alone, of another class, with two keys and one weight more; the rest is Meissonic's.
fn muddit(scratch: &Path) -> Vec<StubRepository> {
    let dir = scratch.join("muddit-source");
    copy_folder(&golden("transformer_nodown_none").expect("committed"), &dir);
    change_json(&dir.join("config.json"), |config| {
        config["_class_name"] = json!("SymmetricTransformer2DModel");
        config["t5_dim"] = json!(null);
        config["tokenizer_vocab_size"] = json!(49408);
        for key in ["text_encoder_architecture", "connector_type"] {
            config.as_object_mut().unwrap().remove(key).expect("the golden config has it");
        }
    });
    let file = weights(&dir);
    let more = with_tensor(&std::fs::read(&file).unwrap(), "text_decoder.1.weight", &[100, 64]);
    std::fs::write(&file, more).unwrap();
    let muddit = StubRepository::new("MeissonFlow/Muddit")
        .folder("512/transformer/", &dir)
        .folder("1024/transformer/", &dir)
        .file("1024/mask_token_embedding.pth", vec![0; 2000]);
    vec![muddit, meissonic()]
}
