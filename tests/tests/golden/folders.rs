//! Model folders as they are published and downloaded: they edit as the same weights in a plain
//! folder do.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use editmgt::{Dtype, EditError, EditResult, Editor, EditorBuilder, ModelError};
use editmgt_checkpoint::{CheckpointError, TensorSpec, WeightFiles, WeightsName, WriteOptions};
use editmgt_diagnostics::init::{InitRequest, Preset, init};
use serde_json::{Value, json};

use crate::defaults::{photo, request};
use crate::half_precision::copy;
#[cfg(unix)]
use crate::half_precision::stored_as;

fn tiny(root: &Path, name: &str, seed: u64) -> PathBuf {
    let dir = root.join(name);
    init(&dir, &InitRequest { preset: Preset::Tiny, dtype: Dtype::F32, seed }).unwrap();
    dir
}

fn edit(builder: EditorBuilder) -> EditResult {
    let words = request(64).instruction("make the red car blue");
    builder.build().unwrap().edit(&photo(50, 40), &words).unwrap()
}

/// The error of a folder that is refused.
fn refused(builder: EditorBuilder) -> EditError {
    builder.build().err().expect("the folder is refused")
}

fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[cfg(unix)]
const COMPONENTS: [(&str, &str); 4] = [
    ("editmgt", "diffusion_pytorch_model"),
    ("vqvae", "diffusion_pytorch_model"),
    ("text_encoder", "model"),
    ("llm_encoder", "model"),
];

#[cfg(unix)]
fn name_variant(model: &Path, component: &str, stem: &str) {
    let dir = model.join(component);
    let names = [format!("{stem}.safetensors"), format!("{stem}.fp16.safetensors")];
    fs::rename(dir.join(&names[0]), dir.join(&names[1])).unwrap();
}

/// Puts the files of a model into the hub's cache layout and returns the snapshot, in which all
/// files are links.
#[cfg(unix)]
fn cached(model: &Path, cache: &Path) -> PathBuf {
    fn link(from: &Path, to: &Path, blobs: &Path, up: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                link(&entry.path(), &to.join(entry.file_name()), blobs, &up.join(".."));
            } else {
                let blob = fs::read_dir(blobs).unwrap().count().to_string();
                fs::copy(entry.path(), blobs.join(&blob)).unwrap();
                let target = up.join("blobs").join(blob);
                std::os::unix::fs::symlink(target, to.join(entry.file_name())).unwrap();
            }
        }
    }

    let repository = cache.join("models--WeiChow--EditMGT");
    let blobs = repository.join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let snapshot = repository.join("snapshots/0a00f14ea159728fb76ac99ed741f9deca5fee28");
    link(model, &snapshot, &blobs, Path::new("../.."));
    snapshot
}

/// Everything at once that a download of today has and a folder of `init` has not.
#[cfg(unix)]
#[test]
fn snapshot_with_half_precision_only_and_the_keys_of_all_versions_edits_alike() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let plain = stored_as(DType::F16, &tiny(root, "tiny", 1), root.join("plain"));
    let model = root.join("published");
    copy(&plain, &model);
    for (component, stem) in COMPONENTS {
        name_variant(&model, component, stem);
        for sidecar in [format!("._{stem}.safetensors"), ".DS_Store".into(), "config.py".into()] {
            fs::write(model.join(component).join(sidecar), "not weights").unwrap();
        }
    }
    change_json(&model.join("llm_encoder/config.json"), |config| {
        let layers = config["num_hidden_layers"].as_u64().unwrap() as usize;
        let types = ["sliding_attention", "full_attention"];
        let theta = config.as_object_mut().unwrap().remove("rope_theta").unwrap();
        config["layer_types"] = (0..layers).map(|layer| types[layer % 2]).collect();
        config["rope_parameters"] = json!({"rope_theta": theta, "rope_type": "default"});
        config["dtype"] = json!("float16");
        config["output_hidden_states"] = json!(true);
        config["_attn_implementation_autoset"] = json!(true);
    });
    let index = json!({
        "_class_name": "EditMGTPipeline", "_diffusers_version": "0.32.1",
        "editmgt": ["transformer", "Transformer2DModel"], "vqvae": ["diffusers", "VQModel"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "llm_encoder": ["transformers", "Gemma2ForCausalLM"], "scheduler": ["scheduler", "Scheduler"],
    });
    fs::write(model.join("model_index.json"), index.to_string()).unwrap();
    for file in ["README.md", ".gitattributes"] {
        fs::write(model.join(file), "text").unwrap();
    }
    let snapshot = cached(&model, root);
    let expected = edit(Editor::builder(&plain));
    for builder in [
        Editor::builder(&snapshot),
        Editor::builder(&snapshot).variant("fp16"),
        Editor::builder(&snapshot).low_memory(true),
    ] {
        let got = edit(builder);
        assert_eq!(got.tokens, expected.tokens);
        assert_eq!(got.image, expected.image);
    }

    let weights = snapshot.join("vqvae/diffusion_pytorch_model.fp16.safetensors");
    fs::remove_file(weights.canonicalize().unwrap()).unwrap();
    let error = refused(Editor::builder(&snapshot));
    assert!(
        matches!(
            &error,
            EditError::Model(ModelError::Weights(CheckpointError::BrokenLink { path, .. }))
                if *path == weights
        ),
        "{error}"
    );
}

#[test]
fn plain_weights_win_and_a_variant_is_read_where_a_component_has_it() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let first = tiny(root, "first", 1);
    let second = tiny(root, "second", 2);
    // The first model with the transformer of the second.
    let mixed = root.join("mixed");
    copy(&first, &mixed);
    let file = "editmgt/diffusion_pytorch_model.safetensors";
    fs::copy(second.join(file), mixed.join(file)).unwrap();
    let both = root.join("both");
    copy(&first, &both);
    fs::copy(second.join(file), both.join("editmgt/diffusion_pytorch_model.fp16.safetensors"))
        .unwrap();

    let [plain, variant] = [&first, &mixed].map(|model| edit(Editor::builder(model)));
    assert_ne!(plain.tokens, variant.tokens);
    assert_eq!(edit(Editor::builder(&both)).tokens, plain.tokens);
    for low_memory in [false, true] {
        let builder = Editor::builder(&both).variant("fp16").low_memory(low_memory);
        let got = edit(builder);
        assert_eq!(got.tokens, variant.tokens);
        // The model's identity is that of the files that were read.
        assert_eq!(got.report.model, variant.report.model);
    }
    let error = refused(Editor::builder(&both).variant("bf16"));
    assert!(
        matches!(&error, EditError::Model(ModelError::Weights(CheckpointError::NoVariant { .. }))),
        "{error}"
    );
}

#[test]
fn text_tower_of_a_whole_clip_model_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let plain = tiny(root, "plain", 1);
    let whole = root.join("whole");
    copy(&plain, &whole);
    let dir = whole.join("text_encoder");
    let files = WeightFiles::open(&dir).unwrap();
    let tensor = |key: &String| {
        let shape = files.entries()[key].shape.clone();
        (TensorSpec { key: key.clone(), shape }, files.values(key).unwrap().unwrap())
    };
    let mut tensors: Vec<_> = files.entries().keys().map(tensor).collect();
    for key in
        ["vision_model.embeddings.class_embedding", "visual_projection.weight", "logit_scale"]
    {
        tensors.push((TensorSpec { key: key.to_owned(), shape: vec![3] }, vec![1.0; 3]));
    }
    let again = root.join("again");
    let write = WriteOptions::new(WeightsName::Model, DType::F32);
    editmgt_checkpoint::save_tensors(&again, &tensors, &write).unwrap();
    fs::rename(again.join("model.safetensors"), dir.join("model.safetensors")).unwrap();
    let expected = edit(Editor::builder(&plain));
    // Whole weights beside the tower's own config, and beside the whole model's.
    assert_eq!(edit(Editor::builder(&whole)).tokens, expected.tokens);
    change_json(&dir.join("config.json"), |config| {
        let projection = config["projection_dim"].clone();
        let mut text = config.clone();
        // Keys with the default of their class are left out.
        text.as_object_mut().unwrap().retain(|key, value| {
            !(key == "layer_norm_eps" && *value == 1e-5 || key == "projection_dim")
        });
        text["model_type"] = json!("clip_text_model");
        *config = json!({
            "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": projection,
            "logit_scale_init_value": 2.6592, "text_config": text,
            "vision_config": {"model_type": "clip_vision_model", "patch_size": 14},
        });
    });
    assert_eq!(edit(Editor::builder(&whole)).tokens, expected.tokens);
}

#[test]
fn unknown_keys_are_refused_by_name_unless_they_are_accepted() {
    let scratch = tempfile::tempdir().unwrap();
    let model = tiny(scratch.path(), "model", 1);
    let expected = edit(Editor::builder(&model));
    let configs = ["editmgt/", "vqvae/", "text_encoder/", "llm_encoder/", "scheduler/scheduler_"];
    for config in configs {
        let path = model.join(format!("{config}config.json"));
        let before = fs::read(&path).unwrap();
        change_json(&path, |config| config["mixture_of_experts"] = json!(8));
        let error = refused(Editor::builder(&model));
        assert!(matches!(&error, EditError::Model(ModelError::Config { .. })), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("mixture_of_experts") && message.contains("--accept-unknown-keys"),
            "{message}"
        );
        assert_eq!(edit(Editor::builder(&model).accept_unknown_keys(true)).tokens, expected.tokens);
        fs::write(&path, before).unwrap();
    }
}
