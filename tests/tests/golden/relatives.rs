//! Meissonic and its relatives: the same architecture with keys of their own, in the layouts of
//! their repositories.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use editmgt::{Editor, Model, ModelFolder, sampler::Timesteps};
use editmgt_checkpoint::{
    TensorSpec, WeightFiles, WeightsName, WriteOptions, module_tensors, save_tensors, write_random,
};
use editmgt_diagnostics::init::Preset;
use editmgt_tests::spoil::change_json;
use editmgt_transformer::TransformerConfig;
use serde_json::{Value, json};

use crate::amused::{generate, sample, tiny};
use crate::defaults::options;

/// A published model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relative {
    Meissonic,
    Monetico,
    Muddit,
}

impl Relative {
    /// The official config in miniature: no key says which connector or text encoder there is.
    fn config(self) -> Value {
        let merges = self != Self::Monetico;
        let mut config = json!({
            "_class_name": "Transformer2DModel", "_diffusers_version": "0.30.2",
            "attention_head_dim": 32, "axes_dims_rope": [8, 12, 12], "codebook_size": 64,
            "downsample": merges, "upsample": merges, "guidance_embeds": false, "in_channels": 64,
            "joint_attention_dim": 64, "num_attention_heads": 2, "num_layers": 2,
            "num_single_layers": 3, "patch_size": 1, "pooled_projection_dim": 64, "vocab_size": 72,
        });
        if self == Self::Muddit {
            config["_class_name"] = json!("SymmetricTransformer2DModel");
            config["tokenizer_vocab_size"] = json!(514);
            config["t5_dim"] = Value::Null;
        }
        config
    }

    /// A model folder in its layout, with random weights.
    fn write(self, root: &Path) -> PathBuf {
        let dir = tiny(root, &format!("{self:?}"), Preset::Tiny);
        fs::remove_dir_all(dir.join("editmgt")).unwrap();
        fs::remove_dir_all(dir.join("llm_encoder")).unwrap();
        let transformer = dir.join("transformer");
        fs::create_dir(&transformer).unwrap();
        let config = self.config();
        let parsed = TransformerConfig::from_json(&config.to_string()).unwrap();
        let (TransformerConfig::Meissonic(mgt) | TransformerConfig::Muddit(mgt)) = parsed else {
            panic!("another family")
        };
        let model = mgt.init(&Device::flex()).unwrap();
        let tensors = module_tensors(&model, &mgt.keys()).unwrap();
        let options = WriteOptions::new(WeightsName::Diffusion, DType::F32);
        write_random(&transformer, &tensors, &options, 7).unwrap();
        fs::write(transformer.join("config.json"), config.to_string()).unwrap();
        if self == Self::Muddit {
            add_tensor(&transformer, "text_decoder.1.weight", vec![514, 64]);
        }
        let index = json!({
            "_class_name": "Pipeline", "_diffusers_version": "0.30.2",
            "transformer": ["transformer", config["_class_name"]],
            "vqvae": ["diffusers", "VQModel"], "scheduler": ["scheduler", "Scheduler"],
            "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
        });
        fs::write(dir.join("model_index.json"), index.to_string()).unwrap();
        dir
    }
}

/// Adds a tensor of ones to the weights of a transformer.
fn add_tensor(dir: &Path, key: &str, shape: Vec<usize>) {
    let files = WeightFiles::open(dir).unwrap();
    let tensor = |key: &String| {
        let shape = files.entries()[key].shape.clone();
        (TensorSpec { key: key.clone(), shape }, files.values(key).unwrap().unwrap())
    };
    let mut tensors: Vec<_> = files.entries().keys().map(tensor).collect();
    let count = shape.iter().product();
    tensors.push((TensorSpec { key: key.to_owned(), shape }, vec![1.0; count]));
    let again = dir.join("again");
    save_tensors(&again, &tensors, &WriteOptions::new(WeightsName::Diffusion, DType::F32)).unwrap();
    let name = "diffusion_pytorch_model.safetensors";
    fs::rename(again.join(name), dir.join(name)).unwrap();
    fs::remove_dir_all(again).unwrap();
}

fn load(dir: &Path) -> Model {
    Model::load(&ModelFolder::open(dir).unwrap(), &options()).unwrap()
}

#[test]
fn each_generates_from_its_layout() {
    let scratch = tempfile::tempdir().unwrap();
    for relative in [Relative::Meissonic, Relative::Monetico, Relative::Muddit] {
        let dir = relative.write(scratch.path());
        let model = load(&dir);
        let factor = if relative == Relative::Monetico { 1 } else { 2 };
        assert_eq!(model.transformer.spec().grid_factor, factor, "{relative:?}");
        let timesteps = match relative {
            Relative::Muddit => Timesteps::RemainingShare,
            _ => Timesteps::Countdown,
        };
        assert_eq!(model.scheduler.timesteps, timesteps, "{relative:?}");
        let tokens = generate(&model, "a red fox");
        let folder = ModelFolder::open(&dir).unwrap();
        let on_demand = Model::on_demand(&folder, &options(), &[]).unwrap();
        assert_eq!(on_demand.scheduler.timesteps, timesteps, "{relative:?}");
        assert_eq!(generate(&on_demand, "a red fox"), tokens, "{relative:?}");
    }
}

#[test]
fn muddit_is_meissonic_with_another_timestep() {
    let scratch = tempfile::tempdir().unwrap();
    let meissonic = load(&Relative::Meissonic.write(scratch.path()));
    let dir = Relative::Muddit.write(scratch.path());
    let muddit = load(&dir);
    assert!(sample(&muddit, "a red fox").1 != sample(&meissonic, "a red fox").1);
    // A scheduler that says so counts steps, as one of its pipelines does.
    let scheduler = dir.join("scheduler/scheduler_config.json");
    change_json(&scheduler, |config| config["timesteps"] = json!("countdown"));
    assert!(sample(&load(&dir), "a red fox") == sample(&meissonic, "a red fox"));
}

/// What is not computed is skipped by its name where it is known to be the head that predicts text,
/// and refused everywhere else.
#[test]
fn only_muddits_text_head_is_skipped() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |dir: &Path| Editor::builder(dir).build().err().unwrap().to_string();

    let dir = Relative::Meissonic.write(scratch.path());
    add_tensor(&dir.join("transformer"), "text_decoder.1.weight", vec![514, 64]);
    assert!(refused(&dir).contains("text_decoder.1.weight"));

    let dir = Relative::Muddit.write(scratch.path());
    add_tensor(&dir.join("transformer"), "adapter.1.weight", vec![64, 32]);
    assert!(refused(&dir).contains("adapter.1.weight"));
    // With its key, the projection of another encoder's rows would be part of the image path.
    change_json(&dir.join("transformer/config.json"), |config| config["t5_dim"] = json!(32));
    assert!(refused(&dir).contains("t5_dim"));
}
