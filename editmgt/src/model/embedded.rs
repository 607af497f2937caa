//! The small model that is part of the program.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::DType;
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_core::KeyMap;
use editmgt_core::config::ConfigError;
use editmgt_sampler::SchedulerConfig;
use editmgt_text::{SmallTextConfig, SmallTextEncoder, WordTokenizer};
use editmgt_transformer::MgtConfig;
use editmgt_vq::PatchVqConfig;

use super::identity::embedded_identity;
use super::loaded::Model;
use super::options::{LoadOptions, ModelSource};
use crate::error::ModelError;
use crate::lora::{LoraUse, apply_loras, open_loras};
use crate::request::EditDefaults;

/// Stands for the folder of the files in errors.
const ROOT: &str = "embedded";

/// A file of the folder `embedded` beside the sources, which is a model folder like any other.
macro_rules! embedded {
    ($name:literal) => {
        File { name: $name, bytes: include_bytes!(concat!("../../embedded/", $name)) }
    };
}

#[derive(Clone, Copy)]
struct File {
    name: &'static str,
    bytes: &'static [u8],
}

impl File {
    fn path(self) -> PathBuf {
        Path::new(ROOT).join(self.name)
    }

    fn parse<T>(self, parse: impl Fn(&str) -> Result<T, ConfigError>) -> Result<T, ModelError> {
        let wrong = |source| ModelError::Config { path: self.path(), source };
        let text = std::str::from_utf8(self.bytes).map_err(|error| {
            wrong(ConfigError::unsupported("text", "encoding", "UTF-8", error.to_string()))
        })?;
        parse(text).map_err(wrong)
    }

    fn load<M: Module>(self, module: M, keys: &KeyMap, dtype: DType) -> Result<M, ModelError> {
        let files = WeightFiles::embedded(&self.path().to_string_lossy(), self.bytes)?;
        Ok(load_module(module, &files, keys, dtype)?)
    }
}

impl Model {
    /// Loads the small model that is part of the program, and LoRA adapters into its transformer.
    ///
    /// # Errors
    /// [`ModelError::Lora`] for an adapter that is malformed or for another model.
    pub fn embedded(options: &LoadOptions, loras: &[LoraUse]) -> Result<Self, ModelError> {
        let LoadOptions { device, dtype, .. } = options;
        let loras = open_loras(loras)?;
        let wrong = |file: File| move |source| ModelError::Config { path: file.path(), source };

        let file = embedded!("editmgt/config.json");
        let config = file.parse(MgtConfig::from_json)?;
        let transformer = config.init(device).map_err(wrong(file))?;
        let transformer = embedded!("editmgt/diffusion_pytorch_model.safetensors").load(
            transformer,
            &config.keys(),
            dtype.transformer.into(),
        )?;
        let transformer = apply_loras(transformer, &config.keys(), &loras)?;

        let file = embedded!("vqvae/config.json");
        let config = file.parse(PatchVqConfig::from_json)?;
        let codec = config.init(device).map_err(wrong(file))?;
        let codec = embedded!("vqvae/diffusion_pytorch_model.safetensors").load(
            codec,
            &config.keys(),
            dtype.vq.into(),
        )?;

        let file = embedded!("text_encoder/config.json");
        let config = file.parse(SmallTextConfig::from_json)?;
        let text = config.init(device).map_err(wrong(file))?;
        let text = embedded!("text_encoder/model.safetensors").load(
            text,
            &config.keys(),
            dtype.text.into(),
        )?;
        let vocabulary = embedded!("tokenizer/vocab.json");
        let tokenizer =
            WordTokenizer::from_json(&vocabulary.path(), vocabulary.bytes, text.spec().rows)?;

        let identity = embedded_identity(
            [
                (
                    "transformer",
                    embedded!("editmgt/config.json").bytes,
                    embedded!("editmgt/diffusion_pytorch_model.safetensors").bytes,
                ),
                (
                    "vqvae",
                    embedded!("vqvae/config.json").bytes,
                    embedded!("vqvae/diffusion_pytorch_model.safetensors").bytes,
                ),
                (
                    "text_encoder",
                    embedded!("text_encoder/config.json").bytes,
                    embedded!("text_encoder/model.safetensors").bytes,
                ),
            ],
            embedded!("scheduler/scheduler_config.json").bytes,
        );
        let model = Self {
            codec: Box::new(codec),
            text: Box::new(SmallTextEncoder::new(text, tokenizer)?),
            transformer: Box::new(transformer),
            scheduler: embedded!("scheduler/scheduler_config.json")
                .parse(SchedulerConfig::from_json)?,
            defaults: embedded!("edit_defaults.json").parse(EditDefaults::from_json)?,
            source: Some(ModelSource::new(identity, *dtype, &loras)?),
            device: device.clone(),
        };
        model.checked(Path::new(ROOT))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use editmgt_backends::{Dtype, DtypePolicy};

    use super::*;
    use crate::model::folder::ModelFolder;
    use crate::model::identity::identity;

    #[test]
    fn it_is_what_its_folder_is() {
        let folder = ModelFolder::open(Path::new(ROOT)).unwrap();
        let dtype = DtypePolicy::uniform(Dtype::F32);
        let options = LoadOptions::new(Device::flex(), dtype);
        let (own, read) =
            (Model::embedded(&options, &[]).unwrap(), Model::load(&folder, &options).unwrap());
        assert_eq!(own.source.unwrap().sha256, identity(&folder).unwrap());
        assert_eq!((own.defaults, own.scheduler), (read.defaults, read.scheduler));
        assert_eq!(own.transformer.spec(), read.transformer.spec());
        assert_eq!(own.text.spec(), read.text.spec());
        assert_eq!(own.codec.spec(), read.codec.spec());
    }
}
