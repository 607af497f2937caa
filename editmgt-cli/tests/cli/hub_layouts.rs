//! Tiny models in the layout of each published repository.
//!
//! To add a repository: a row in [`LAYOUTS`], whose function gives the repositories that it needs,
//! with every kind of file that the published one has.

use std::path::Path;

use editmgt_diagnostics::init::{InitRequest, Preset};
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
    /// `editmgt generate`.
    Generate,
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

/// Every published model.
pub(crate) const LAYOUTS: [Layout; 9] = [
    Layout { name: "WeiChow/EditMGT", variant: None, repositories: editmgt, job: Job::Edit },
    base("meissonic", None, meissonic_only),
    base("meissonic", Some("fp16"), meissonic_only),
    base("monetico", None, monetico),
    base("muddit-512", None, muddit),
    base("muddit-1024", None, muddit),
    base("amused-512", None, amused_512),
    base("amused/amused-512", Some("fp16"), amused_512),
    base("amused-256", None, amused_256),
];

/// A base that was not trained to edit.
const fn base(
    name: &'static str,
    variant: Option<&'static str>,
    repositories: fn(&Path) -> Vec<StubRepository>,
) -> Layout {
    Layout { name, variant, repositories, job: Job::Generate }
}

/// The official folders, with a transformer in f32 and a Gemma in two shards whose config
/// transformers 4.47 wrote.
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

/// Meissonic's layout: weights in f32; code beside; a tokenizer without `tokenizer.json`; the text
/// encoder of a config that names no architecture or connector.
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
    with_halves(without_variants("MeissonFlow/Meissonic"))
}

/// Half-precision weights beside those in f32.
fn with_halves(mut repository: StubRepository) -> StubRepository {
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

/// Transformers of two sizes alone, of another class, with two keys and one weight more; the rest
/// is Meissonic's.
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

/// Meissonic's layout; another transformer and scheduler, of diffusers' own classes, so that no
/// code lies beside.
fn amused(name: &str, dir: &Path) -> Vec<StubRepository> {
    let (preset, dtype) = (Preset::AmusedTiny, "f32".parse().unwrap());
    editmgt_diagnostics::init::init(dir, &InitRequest { preset, dtype, seed: 0 }).unwrap();
    let repository = StubRepository::new(name).folder("", dir).file("README.md", "# aMUSEd");
    let repository = StubRepository { licence: Some("openrail++".into()), ..repository };
    vec![with_halves(repository)]
}

fn amused_512(scratch: &Path) -> Vec<StubRepository> {
    amused("amused/amused-512", &scratch.join("amused-512-source"))
}

fn amused_256(scratch: &Path) -> Vec<StubRepository> {
    amused("amused/amused-256", &scratch.join("amused-256-source"))
}
