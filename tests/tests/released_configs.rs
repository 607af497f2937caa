//! Config files as transformers and diffusers write them, of all versions in `tests/data/configs`
//! (made by `scripts/make_config_table.py`): what they say is read, and what this program does not
//! compute is refused by its name.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;

use editmgt_core::config::{ConfigError, UnknownKeys};
use editmgt_sampler::SchedulerConfig;
use editmgt_text::{ClipTextConfig, Gemma2Config};
use editmgt_transformer::{MgtConfig, TransformerConfig, UVit2DConfig};
use editmgt_vq::{CodecConfig, VqConfig};
use serde_json::{Value, json};

/// Version and content of every file of this name.
fn table(library: &str, name: &str, at_least: usize) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("data/configs").unwrap() {
        let path = entry.unwrap().path();
        let version = path.file_name().unwrap().to_string_lossy().into_owned();
        let file: PathBuf = path.join(name).with_extension("json");
        if version.starts_with(library) {
            let text = fs::read_to_string(file).unwrap();
            found.push((version, serde_json::from_str(&text).unwrap()));
        }
    }
    assert!(found.len() >= at_least, "{library}, {name}: only {} files", found.len());
    found
}

const TRANSFORMERS: usize = 6;
const DIFFUSERS: usize = 3;

/// A parser without its result: what all components have in common.
type Parse = fn(&str, UnknownKeys) -> Result<(), ConfigError>;

fn clip(text: &str, unknown: UnknownKeys) -> Result<(), ConfigError> {
    ClipTextConfig::from_json_with(text, unknown).map(drop)
}

fn gemma(text: &str, unknown: UnknownKeys) -> Result<(), ConfigError> {
    Gemma2Config::from_json_with(text, unknown).map(drop)
}

fn transformer(text: &str, unknown: UnknownKeys) -> Result<(), ConfigError> {
    TransformerConfig::from_json_with(text, unknown).map(drop)
}

fn codec(text: &str, unknown: UnknownKeys) -> Result<(), ConfigError> {
    CodecConfig::from_json_with(text, unknown).map(drop)
}

fn scheduler(text: &str, unknown: UnknownKeys) -> Result<(), ConfigError> {
    SchedulerConfig::from_json_with(text, unknown).map(drop)
}

/// Library, file, parser.
const COMPONENTS: [(&str, &str, Parse); 13] = [
    ("transformers", "text_encoder", clip),
    ("transformers", "text_encoder_legacy_end", clip),
    ("transformers", "clip", clip),
    ("transformers", "llm_encoder", gemma),
    ("diffusers", "vqvae", codec),
    ("diffusers", "scheduler", scheduler),
    ("diffusers", "scheduler_amused", scheduler),
    ("diffusers", "transformer_editmgt", transformer),
    ("diffusers", "transformer_meissonic", transformer),
    ("diffusers", "transformer_monetico", transformer),
    ("diffusers", "transformer_muddit", transformer),
    ("diffusers", "transformer_amused_512", transformer),
    ("diffusers", "transformer_amused_256", transformer),
];

fn versions(library: &str) -> usize {
    if library == "transformers" { TRANSFORMERS } else { DIFFUSERS }
}

#[test]
fn every_version_says_what_the_official_models_are() {
    let official_clip =
        |eos_token_id| ClipTextConfig { eos_token_id, ..ClipTextConfig::official() };
    for (name, eos) in [("text_encoder", 49407), ("text_encoder_legacy_end", 2), ("clip", 49407)] {
        for (version, config) in table("transformers", name, TRANSFORMERS) {
            let read = ClipTextConfig::from_json(&config.to_string());
            assert_eq!(read.unwrap(), official_clip(eos), "{version}/{name}");
        }
    }
    for (version, config) in table("transformers", "llm_encoder", TRANSFORMERS) {
        assert_eq!(config["output_hidden_states"], true, "{version}");
        let read = Gemma2Config::from_json(&config.to_string());
        assert_eq!(read.unwrap(), Gemma2Config::official(), "{version}");
    }
    for (version, config) in table("diffusers", "vqvae", DIFFUSERS) {
        let read = VqConfig::from_json(&config.to_string());
        assert_eq!(read.unwrap(), VqConfig::official(), "{version}");
    }
    for (version, config) in table("diffusers", "transformer_editmgt", DIFFUSERS) {
        let read = TransformerConfig::from_json(&config.to_string());
        let official = TransformerConfig::Meissonic(MgtConfig::official());
        assert_eq!(read.unwrap(), official, "{version}");
    }
    for (name, official) in [
        ("transformer_amused_512", UVit2DConfig::amused_512()),
        ("transformer_amused_256", UVit2DConfig::amused_256()),
    ] {
        for (version, config) in table("diffusers", name, DIFFUSERS) {
            let read = TransformerConfig::from_json(&config.to_string());
            assert_eq!(read.unwrap(), TransformerConfig::Amused(official.clone()), "{version}");
        }
    }
    for name in ["transformer_meissonic", "transformer_monetico", "transformer_muddit"] {
        for (version, config) in table("diffusers", name, DIFFUSERS) {
            let read = TransformerConfig::from_json(&config.to_string()).unwrap();
            let (read, is_muddit) = match read {
                TransformerConfig::Meissonic(read) => (read, false),
                TransformerConfig::Muddit(read) => (read, true),
                other => panic!("{other:?}"),
            };
            assert_eq!(read.downsample, name != "transformer_monetico", "{version}/{name}");
            assert_eq!(is_muddit, name == "transformer_muddit", "{version}/{name}");
        }
    }
    for name in ["scheduler", "scheduler_amused"] {
        for (version, config) in table("diffusers", name, DIFFUSERS) {
            let read = SchedulerConfig::from_json(&config.to_string());
            assert_eq!(read.unwrap().mask_token_id, 8255, "{version}/{name}");
        }
    }
}

/// A pipeline is loaded and saved by several versions in turn: a file may have the keys of all.
#[test]
fn generic_keys_of_every_version_change_nothing() {
    for (version, generic) in table("transformers", "generic", TRANSFORMERS) {
        for (library, name, parse) in COMPONENTS {
            let (_, mut config) = table(library, name, versions(library)).remove(0);
            for (key, value) in generic.as_object().unwrap() {
                let config = config.as_object_mut().unwrap();
                config.entry(key).or_insert_with(|| value.clone());
            }
            // Where it stands for the kind of model, the component's own is there.
            if config["model_type"] == "" {
                config.as_object_mut().unwrap().remove("model_type");
            }
            let read = parse(&config.to_string(), UnknownKeys::Refuse);
            assert!(read.is_ok(), "{version} in {name}: {}", read.unwrap_err());
        }
    }
}

#[test]
fn unknown_keys_are_refused_by_name_unless_they_are_accepted() {
    for (library, name, parse) in COMPONENTS {
        for (version, mut config) in table(library, name, versions(library)) {
            config["mixture_of_experts"] = json!(8);
            let text = config.to_string();
            let error = parse(&text, UnknownKeys::Refuse).unwrap_err();
            let what = format!("{version}/{name}: {error}");
            assert!(
                matches!(&error, ConfigError::UnknownKeys { keys, .. } if *keys == ["mixture_of_experts"]),
                "{what}"
            );
            assert!(what.contains("--accept-unknown-keys"), "{what}");
            assert!(what.contains("LoadOptions::accept_unknown_keys"), "{what}");
            parse(&text, UnknownKeys::Accept).unwrap();
        }
    }
}

#[test]
fn other_meanings_are_refused_by_name() {
    let full = json!(vec!["full_attention"; 26]);
    let swapped: Vec<_> = (0..26).map(|i| ["full_attention", "sliding_attention"][i % 2]).collect();
    let short: Vec<_> = (0..25).map(|i| ["sliding_attention", "full_attention"][i % 2]).collect();
    let yarn = json!({"rope_theta": 10000.0, "rope_type": "yarn", "factor": 2.0});
    let by_layer = json!({"full_attention": {"rope_theta": 10000.0, "rope_type": "default"}});
    for (file, key, value) in [
        (3, "layer_types", full),
        (3, "layer_types", json!(swapped)),
        (3, "layer_types", json!(short)),
        (3, "rope_parameters", yarn),
        (3, "rope_parameters", by_layer),
        (3, "rope_scaling", json!({"type": "linear", "factor": 2.0})),
        (3, "use_bidirectional_attention", json!(true)),
        (3, "attention_bias", json!(true)),
        (3, "attn_logit_softcapping", json!(0.0)),
        (3, "attn_logit_softcapping", json!("off")),
        (3, "hidden_act", json!("silu")),
        (3, "hidden_activation", json!("silu")),
        (3, "model_type", json!("gemma3_text")),
        (3, "pruned_heads", json!({"3": [0]})),
        (3, "quantization_config", json!({"quant_method": "bitsandbytes"})),
        (0, "hidden_act", json!("relu")),
        (0, "model_type", json!("clip_vision_model")),
        (0, "quantization_config", json!({"quant_method": "gptq"})),
        (4, "_class_name", json!("AutoencoderKL")),
        (4, "lookup_from_codebook", json!(false)),
        (4, "mid_block_add_attention", json!(true)),
        (4, "norm_type", json!("spatial")),
        (5, "masking_schedule", json!("sqrt")),
        (7, "connector_type", json!("qformer")),
        (7, "guidance_embeds", json!(true)),
        (7, "text_encoder_architecture", json!("T5_1024")),
        (10, "t5_dim", json!(1024)),
        (11, "use_bias", json!(true)),
        (11, "ln_elementwise_affine", json!(false)),
        (11, "upsample", json!(false)),
        (12, "micro_cond_embed_dim", json!(1024)),
        (12, "_class_name", json!("UVit3DModel")),
    ] {
        let (library, name, parse) = COMPONENTS[file];
        for (version, mut config) in table(library, name, versions(library)) {
            config[key] = value.clone();
            // Unknown keys are another matter: these are known.
            let message = parse(&config.to_string(), UnknownKeys::Accept).unwrap_err().to_string();
            assert!(message.contains(key), "{version}/{name}, {key}: {message}");
        }
    }
}
