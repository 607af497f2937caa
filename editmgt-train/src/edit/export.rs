use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::DType;
use editmgt::{EditDefaults, Job, ModelFolder, ModelKind};
use editmgt_checkpoint::{WeightFiles, WeightsName, WriteOptions, save_module};
use editmgt_core::KeyMap;
use editmgt_store::{StagedFolder, is_sidecar};
use editmgt_text::{SmallTextConfig, Vocabulary, WordTokenizer};
use editmgt_transformer::MgtConfig;
use editmgt_vq::CodecConfig;
use serde::Serialize;
use serde_json::{Value, json};

use super::{EditModel, TimestepConvention};
use crate::run::TrainError;

/// A trained model, and the other contents of its folder.
pub(super) struct Export<'a> {
    /// Without autodiff.
    pub(super) model: EditModel,
    pub(super) transformer: &'a MgtConfig,
    pub(super) text: &'a SmallTextConfig,
    pub(super) vocabulary: &'a Vocabulary,
    /// The codec's own folder, which is copied.
    pub(super) codec: &'a Path,
    pub(super) codec_config: &'a CodecConfig,
    pub(super) timestep: TimestepConvention,
    /// Default options of an edit.
    pub(super) defaults: &'a EditDefaults,
}

/// Folder of the result within the run folder.
pub(super) const MODEL: &str = "model";

/// Writes a model folder in the official layout with f16 weights; it appears when it is complete.
pub(super) fn export(root: &Path, what: Export<'_>) -> Result<PathBuf, TrainError> {
    let staging = StagedFolder::replacing(root.join(MODEL))?;
    let folder = |name: &str| staging.path().join(name);
    let Export { model, transformer, text, vocabulary, .. } = what;

    component(
        &folder("editmgt"),
        model.transformer(),
        &transformer.keys(),
        WeightsName::Diffusion,
    )?;
    write(&folder("editmgt").join("config.json"), transformer)?;
    if let Some(encoder) = model.text() {
        component(&folder("text_encoder"), encoder, &text.keys(), WeightsName::Model)?;
        write(&folder("text_encoder").join("config.json"), text)?;
    }
    create(&folder("tokenizer"))?;
    write(&folder("tokenizer").join(WordTokenizer::FILE), vocabulary)?;
    copy_codec(what.codec, what.codec_config, &folder("vqvae"))?;
    create(&folder("scheduler"))?;
    let mut scheduler = json!({
        "mask_token_id": transformer.spec().mask_token,
        "masking_schedule": "cosine",
    });
    if what.timestep == TimestepConvention::MaskRatio {
        scheduler["timesteps"] = json!("mask_ratio");
    }
    write(&folder("scheduler").join("scheduler_config.json"), &scheduler)?;

    what.defaults.check()?;
    let path = folder(EditDefaults::FILE);
    std::fs::write(&path, what.defaults.to_json()).map_err(TrainError::io(&path))?;

    Ok(staging.publish()?)
}

/// A fine-tuned model: components that were not trained are copied from the original folder.
pub(super) struct Tuned<'a> {
    /// Without autodiff.
    pub(super) model: &'a EditModel,
    pub(super) transformer: &'a MgtConfig,
    /// The small text encoder, if it was trained.
    pub(super) text: Option<&'a SmallTextConfig>,
    pub(super) folder: &'a ModelFolder,
    pub(super) timestep: TimestepConvention,
}

/// Writes a model folder in the official layout, as [`export`]; trained components in f32, so that
/// a next stage can start from them.
pub(super) fn export_tuned(root: &Path, what: Tuned<'_>) -> Result<PathBuf, TrainError> {
    let staging = StagedFolder::replacing(root.join(MODEL))?;
    let at = |name: &str| staging.path().join(name);
    let Tuned { model, transformer, text, folder, timestep } = what;

    let exact = |name| WriteOptions::new(name, DType::F32);
    let (keys, options) = (transformer.keys(), exact(WeightsName::Diffusion));
    save_module(&at("editmgt"), model.transformer(), &keys, &options)?;
    write(&at("editmgt").join("config.json"), transformer)?;
    match (model.text(), text) {
        (Some(encoder), Some(config)) => {
            let options = exact(WeightsName::Model);
            save_module(&at("text_encoder"), encoder, &config.keys(), &options)?;
            write(&at("text_encoder").join("config.json"), config)?;
        }
        _ => copy_folder(&folder.text_encoder, &at("text_encoder"))?,
    }
    copy_folder(&folder.tokenizer, &at("tokenizer"))?;
    copy_folder(&folder.vqvae, &at("vqvae"))?;
    if let Some(llm) = &folder.llm_encoder {
        copy_folder(llm, &at("llm_encoder"))?;
    }
    if let Some(tokenizer) =
        folder.llm_tokenizer.as_ref().filter(|dir| folder.llm_encoder.as_ref() != Some(dir))
    {
        copy_folder(tokenizer, &at("llm_encoder"))?;
    }
    copy_folder(&folder.scheduler, &at("scheduler"))?;
    set_timestep_convention(&at("scheduler").join("scheduler_config.json"), timestep)?;
    copy_settings(&folder.root, staging.path())?;
    declare_edits(staging.path(), transformer)?;
    Ok(staging.publish()?)
}

/// Writes the model's timestep convention into the scheduler's config.
fn set_timestep_convention(path: &Path, timestep: TimestepConvention) -> Result<(), TrainError> {
    let text = editmgt_store::read_text(path)?;
    let scheduler: Value =
        serde_json::from_str(&text).map_err(|e| TrainError::malformed(path, e))?;
    let Value::Object(mut scheduler) = scheduler else {
        return Err(TrainError::malformed(path, "expected an object"));
    };
    match timestep {
        TimestepConvention::MaskRatio => {
            scheduler.insert("timesteps".to_owned(), json!("mask_ratio"));
        }
        TimestepConvention::Official => {
            scheduler.remove("timesteps");
        }
    }
    write(path, &scheduler)
}

/// Copies the small files beside the components, such as the default options; not the file with the
/// components' paths, which have changed.
fn copy_settings(from: &Path, to: &Path) -> Result<(), TrainError> {
    for entry in std::fs::read_dir(from).map_err(TrainError::io(from))? {
        let path = entry.map_err(TrainError::io(from))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file()
            && !is_sidecar(&name)
            && name.ends_with(".json")
            && name != "pipeline.json"
        {
            std::fs::copy(&path, to.join(name)).map_err(TrainError::io(&path))?;
        }
    }
    Ok(())
}

/// Declares in the folder's defaults that the model was trained to edit, where its config tells
/// otherwise: that of a base without a connector.
fn declare_edits(root: &Path, transformer: &MgtConfig) -> Result<(), TrainError> {
    let mut defaults = EditDefaults::read(root)?;
    let path = root.join(EditDefaults::FILE);
    let config = serde_json::to_string(transformer).map_err(|e| TrainError::malformed(&path, e))?;
    let kind = ModelKind::of_config(&config).map_err(|e| TrainError::malformed(&path, e))?;
    let mut jobs = defaults.trained_for.take().unwrap_or_else(|| kind.trained_for().to_vec());
    if jobs.contains(&Job::Edit) {
        return Ok(());
    }
    jobs.insert(0, Job::Edit);
    defaults.trained_for = Some(jobs);
    std::fs::write(&path, defaults.to_json()).map_err(TrainError::io(&path))
}

/// Copies the files of a component, which has no sub-folders.
fn copy_folder(from: &Path, to: &Path) -> Result<(), TrainError> {
    create(to)?;
    for entry in std::fs::read_dir(from).map_err(TrainError::io(from))? {
        let path = entry.map_err(TrainError::io(from))?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_file() && !is_sidecar(name) {
            std::fs::copy(&path, to.join(name)).map_err(TrainError::io(&path))?;
        }
    }
    Ok(())
}

fn component<M: Module>(
    dir: &Path,
    module: &M,
    keys: &KeyMap,
    name: WeightsName,
) -> Result<(), TrainError> {
    Ok(save_module(dir, module, keys, &WriteOptions::new(name, DType::F16))?)
}

fn copy_codec(from: &Path, config: &CodecConfig, to: &Path) -> Result<(), TrainError> {
    create(to)?;
    let is_safetensors = WeightFiles::open(from)?.is_safetensors();
    let endings: &[&str] = if is_safetensors {
        &[".safetensors", ".safetensors.index.json"]
    } else {
        &[".bin", ".bin.index.json", ".pth", ".pt"]
    };
    let entries = std::fs::read_dir(from).map_err(TrainError::io(from))?;
    for entry in entries {
        let path = entry.map_err(TrainError::io(from))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_sidecar(&name) && endings.iter().any(|ending| name.ends_with(ending)) {
            std::fs::copy(&path, to.join(name)).map_err(TrainError::io(&path))?;
        }
    }
    write(&to.join("config.json"), config)
}

fn create(dir: &Path) -> Result<(), TrainError> {
    std::fs::create_dir_all(dir).map_err(TrainError::io(dir))
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| TrainError::malformed(path, e))?;
    std::fs::write(path, text + "\n").map_err(TrainError::io(path))
}
