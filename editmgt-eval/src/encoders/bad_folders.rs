//! Malformed model folders.

use std::fs;
use std::path::{Path, PathBuf};

use editmgt::ModelError;
use editmgt_checkpoint::CheckpointError;
use editmgt_text::TokenizerError;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::tests::{device, folder};
use super::{Clip, Dino};

/// A copy of a folder, to be damaged.
struct Copy(TempDir);

impl Copy {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(folder(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn without(name: &str, files: &[&str]) -> Self {
        let copy = Self::of(name);
        files.iter().for_each(|file| fs::remove_file(copy.path(file)).unwrap());
        copy
    }

    /// Sets another value at a JSON pointer in a file.
    fn with(name: &str, file: &str, pointer: &str, value: Value) -> Self {
        let copy = Self::of(name);
        let path = copy.path(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        json.pointer_mut(parent).unwrap()[key] = value;
        fs::write(&path, json.to_string()).unwrap();
        copy
    }
}

fn clip(dir: &Path) -> ModelError {
    Clip::open(dir, &device()).err().expect("a bad folder")
}

fn dino(dir: &Path) -> ModelError {
    Dino::open(dir, &device()).err().expect("a bad folder")
}

const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const WEIGHTS: &str = "model.safetensors";

#[test]
fn files_that_are_missing_are_named() {
    for (name, file) in [("clip", CONFIG), ("clip", PREPROCESSOR)] {
        let error = clip(Copy::without(name, &[file]).0.path());
        assert!(matches!(error, ModelError::Io { .. }), "{error}");
        assert!(error.to_string().contains(file), "{error}");
    }
    for (name, file) in [("vit", CONFIG), ("dinov2", PREPROCESSOR)] {
        let error = dino(Copy::without(name, &[file]).0.path());
        assert!(matches!(error, ModelError::Io { .. }), "{error}");
        assert!(error.to_string().contains(file), "{error}");
    }
    let error = clip(Copy::without("clip", &[WEIGHTS]).0.path());
    assert!(matches!(error, ModelError::Weights(CheckpointError::NoWeights { .. })), "{error}");
    let error = clip(Copy::without("clip_old", &["model-00002-of-00002.safetensors"]).0.path());
    assert!(matches!(error, ModelError::Weights(CheckpointError::MissingShard { .. })), "{error}");
    let error = dino(Copy::without("vit", &[WEIGHTS]).0.path());
    assert!(error.to_string().contains("expected model.safetensors"), "{error}");

    let error = clip(Copy::without("clip", &["tokenizer.json"]).0.path());
    assert!(matches!(error, ModelError::Tokenizer(TokenizerError::NoVocabulary { .. })), "{error}");
    let error = clip(Copy::without("clip_old", &["special_tokens_map.json"]).0.path());
    assert!(matches!(error, ModelError::Tokenizer(TokenizerError::MissingToken { .. })), "{error}");
    let error = dino(Path::new("nowhere"));
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
}

#[test]
fn another_kind_of_model_is_named() {
    for (error, named) in [
        (clip(&folder("dinov2")), "model_type: expected clip, got \"dinov2\""),
        (dino(&folder("clip")), "model_type: expected vit or dinov2, got \"clip\""),
        (clip(Copy::with("clip", CONFIG, "/model_type", Value::Null).0.path()), "got none"),
    ] {
        assert!(matches!(error, ModelError::Config { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(named) && error.contains(CONFIG), "{error}");
    }
}

#[test]
fn rejects_unsupported_configs() {
    for (name, file, pointer, value, named) in [
        ("clip", CONFIG, "/vision_config/rotary", json!(true), "rotary"),
        ("clip", CONFIG, "/text_config/rotary", json!(true), "rotary"),
        ("clip", CONFIG, "/rotary", json!(true), "rotary"),
        ("clip", CONFIG, "/vision_config/hidden_act", json!("relu"), "hidden_act"),
        ("clip", CONFIG, "/vision_config/num_attention_heads", json!(3), "num_attention_heads"),
        ("clip", CONFIG, "/vision_config/patch_size", json!(0), "patch_size"),
        ("clip", CONFIG, "/vision_config/patch_size", json!(33), "patch_size"),
        ("clip", CONFIG, "/vision_config/num_channels", json!(4), "num_channels"),
        ("clip", CONFIG, "/vision_config/layer_norm_eps", json!(0), "layer_norm_eps"),
        ("clip", CONFIG, "/vision_config/num_hidden_layers", json!(1u64 << 40), "hidden_layers"),
        ("clip", CONFIG, "/projection_dim", json!(0), "projection_dim"),
        ("vit", CONFIG, "/hidden_size", json!(0), "hidden_size"),
        ("dinov2", CONFIG, "/use_swiglu_ffn", json!(true), "use_swiglu_ffn"),
        ("dinov2", CONFIG, "/mlp_ratio", json!(-1), "intermediate_size"),
        ("clip", PREPROCESSOR, "/size", json!({"longest_edge": 3}), "shortest_edge"),
        ("clip", PREPROCESSOR, "/size", json!({"shortest_edge": 31}), "crop_size"),
        ("clip", PREPROCESSOR, "/size", json!(1 << 20), "size"),
        ("clip", PREPROCESSOR, "/do_resize", json!(false), "do_resize"),
        ("clip", PREPROCESSOR, "/do_center_crop", json!(false), "do_center_crop"),
        ("clip", PREPROCESSOR, "/resample", json!(0), "resample"),
        ("clip", PREPROCESSOR, "/image_std", json!([1, 0, 1]), "image_std"),
        ("clip", PREPROCESSOR, "/image_mean", json!([1, 2]), "image_mean"),
        ("clip", PREPROCESSOR, "/rescale_factor", json!(0), "rescale_factor"),
        ("clip", PREPROCESSOR, "/do_pad", json!(true), "do_pad"),
        ("clip", PREPROCESSOR, "/image_processor_type", json!("SamImageProcessor"), "Sam"),
        ("vit", PREPROCESSOR, "/do_center_crop", json!(true), "do_center_crop"),
        ("vit", PREPROCESSOR, "/size", json!({"shortest_edge": 32}), "height and width"),
    ] {
        let copy = Copy::with(name, file, pointer, value);
        let error = if name == "clip" { clip(copy.0.path()) } else { dino(copy.0.path()) };
        assert!(matches!(error, ModelError::Config { .. }), "{pointer}: {error}");
        let error = error.to_string();
        assert!(error.contains(named) && error.contains(file), "{pointer}: {error}");
    }
    // Towers with a fixed size.
    let crop = |name| Copy::with(name, PREPROCESSOR, "/size", json!({"height": 40, "width": 32}));
    let copy = crop("vit");
    let error = dino(copy.0.path());
    assert!(
        matches!(error, ModelError::Disagree { left_value: 32, right_value: 40, .. }),
        "{error}"
    );
    let copy = Copy::with("clip", PREPROCESSOR, "/crop_size/width", json!(24));
    let error = clip(copy.0.path());
    assert!(
        matches!(error, ModelError::Disagree { left_value: 32, right_value: 24, .. }),
        "{error}"
    );
    let copy = Copy::with("dinov2", PREPROCESSOR, "/crop_size/width", json!(6));
    let error = dino(copy.0.path());
    assert!(matches!(error, ModelError::Disagree { left_value: 7, right_value: 6, .. }), "{error}");
}

#[test]
fn mismatched_weights_are_listed() {
    for (name, pointer, value, named) in [
        ("clip", "/vision_config/intermediate_size", json!(28), "of another shape: vision_model"),
        ("clip", "/text_config/intermediate_size", json!(28), "of another shape: text_model"),
        ("clip", "/vision_config/num_hidden_layers", json!(3), "vision_model.encoder.layers.2"),
        ("clip", "/vision_config/num_hidden_layers", json!(1), "unused: vision_model"),
        ("clip", "/projection_dim", json!(8), "text_projection.weight (expected [8, 16], got [12"),
        ("vit", "/qkv_bias", json!(true), "missing: encoder.layer.0.attention.attention.key.bias"),
        ("vit", "/num_hidden_layers", json!(1), "unused: encoder.layer.1"),
        ("dinov2", "/image_size", json!(49), "embeddings.position_embeddings"),
        ("dinov2", "/mlp_ratio", json!(3), "mlp.fc1"),
    ] {
        let copy = Copy::with(name, CONFIG, pointer, value);
        let error = if name == "clip" { clip(copy.0.path()) } else { dino(copy.0.path()) };
        let is_mismatch = matches!(error, ModelError::Weights(CheckpointError::Mismatch(_)));
        assert!(is_mismatch && error.to_string().contains(named), "{pointer}: {error}");
    }
    let copy = Copy::of("vit");
    let bytes = fs::read(copy.path(WEIGHTS)).unwrap();
    fs::write(copy.path(WEIGHTS), &bytes[..bytes.len() - 9]).unwrap();
    let error = dino(copy.0.path());
    assert!(matches!(error, ModelError::Weights(CheckpointError::Header { .. })), "{error}");
}

/// The identity covers what determines the features, but not the folder's path.
#[test]
fn checkpoints_have_distinct_identities() {
    let clip = |dir: &Path| Clip::open(dir, &device()).unwrap().sha256().to_owned();
    let first = clip(&folder("clip"));
    assert_eq!((first.len(), clip(Copy::of("clip").0.path()) == first), (64, true));
    let other = Copy::with("clip", PREPROCESSOR, "/resample", json!(2));
    assert_ne!(clip(other.0.path()), first);
    let other = Copy::with("clip", "tokenizer.json", "/version", json!("2.0"));
    assert_ne!(clip(other.0.path()), first);
    let other = Copy::of("vit");
    let mut bytes = fs::read(other.path(WEIGHTS)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(other.path(WEIGHTS), bytes).unwrap();
    let dino = |dir: &Path| Dino::open(dir, &device()).unwrap().sha256().to_owned();
    assert_ne!(dino(other.0.path()), dino(&folder("vit")));
}
