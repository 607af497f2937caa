//! The small model embedded in the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::DType;
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_core::config::ConfigError;
use editmgt_core::{KeyMap, TextEncoder, VqCodec};
use editmgt_kernels::WithOperands;
use editmgt_sampler::SchedulerConfig;
use editmgt_text::{SmallTextConfig, SmallTextEncoder, WordTokenizer};
use editmgt_transformer::MgtConfig;
use editmgt_vq::PatchVqConfig;

use super::base::{BaseModel, BaseTransformer, ModelMetadata};
use super::decoder::{decoder_operands, with_decoder};
use super::identity::embedded_identity;
use super::kind::ModelKind;
use super::loaded::Model;
use super::options::LoadOptions;
use super::precision::InferencePrecision;
use super::quantization::ModelQuantization;
use crate::custom::CustomParts;
use crate::error::ModelError;
use crate::lora::{LoraUse, open_loras};
use crate::request::EditDefaults;

/// Path of the files in errors.
const ROOT: &str = "embedded";

/// A file of the folder `embedded` beside the sources, which is an ordinary model folder.
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

    fn wrong(self) -> impl Fn(ConfigError) -> ModelError {
        move |cause| ModelError::Config { path: self.path(), cause }
    }

    fn parse<T>(self, parse: impl Fn(&str) -> Result<T, ConfigError>) -> Result<T, ModelError> {
        let wrong = self.wrong();
        let text = std::str::from_utf8(self.bytes).map_err(|error| {
            wrong(ConfigError::unsupported("text", "encoding", "UTF-8", error.to_string()))
        })?;
        parse(text).map_err(wrong)
    }

    fn load<M: Module>(
        self,
        module: M,
        keys: &KeyMap,
        options: impl Into<editmgt_checkpoint::LoadOptions>,
    ) -> Result<M, ModelError> {
        let files = WeightFiles::embedded(&self.path().to_string_lossy(), self.bytes)?;
        Ok(load_module(module, &files, keys, options)?)
    }

    /// [`load`](Self::load) in the precision of inference, quantised if the options say it.
    fn load_for_inference<M: Module + WithOperands>(
        self,
        module: M,
        keys: &KeyMap,
        dtype: DType,
        options: &LoadOptions,
    ) -> Result<M, ModelError> {
        let InferencePrecision { load, operands } =
            InferencePrecision::new(&options.device, dtype, options.dtype.compute);
        let load = load.with_quantize(options.quantize).with_keep_quantized(true);
        Ok(self.load(module, keys, load)?.with_operands(operands))
    }
}

impl Model {
    /// Loads the embedded small model, and LoRA adapters into its transformer.
    ///
    /// # Errors
    /// [`ModelError::Lora`] for an adapter that is malformed or for another model.
    pub fn embedded(options: &LoadOptions, loras: &[LoraUse]) -> Result<Self, ModelError> {
        let loras = open_loras(loras)?;
        load_base(options, &CustomParts::default())?.model(&loras)
    }
}

/// Loads what `parts` don't replace.
pub(crate) fn load_base(
    options: &LoadOptions,
    parts: &CustomParts,
) -> Result<BaseModel, ModelError> {
    let scheduler = match parts.scheduler {
        Some(scheduler) => scheduler,
        None => embedded!("scheduler/scheduler_config.json").parse(SchedulerConfig::from_json)?,
    };
    let defaults = match &parts.defaults {
        Some(defaults) => defaults.clone(),
        None => embedded!("edit_defaults.json").parse(EditDefaults::from_json)?,
    };
    Ok(BaseModel {
        transformer: match &parts.transformer {
            Some(own) => BaseTransformer::Own(own.clone()),
            None => load_transformer(options)?,
        },
        codec: match &parts.codec {
            Some(own) => own.clone(),
            None => load_codec(options)?,
        },
        text: match &parts.text {
            Some(own) => own.clone(),
            None => load_text(options)?,
        },
        metadata: ModelMetadata {
            root: ROOT.into(),
            scheduler,
            defaults,
            kind: match &parts.transformer {
                Some(_) => ModelKind::Custom,
                None => ModelKind::Small,
            },
            source: (!parts.change_model()).then(|| {
                let quantize = options.quantize;
                let quantization = ModelQuantization {
                    transformer: quantize,
                    text_encoder: quantize,
                    ..ModelQuantization::default()
                };
                (identity(), options.dtype, quantization)
            }),
            device: options.device.clone(),
        },
    })
}

fn load_transformer(options: &LoadOptions) -> Result<BaseTransformer, ModelError> {
    let file = embedded!("editmgt/config.json");
    let config = file.parse(MgtConfig::from_json)?;
    let keys = config.keys();
    let model = config.init(&options.device).map_err(file.wrong())?;
    let weights = embedded!("editmgt/diffusion_pytorch_model.safetensors");
    let dtype = options.dtype.transformer.into();
    let model = weights.load_for_inference(model, &keys, dtype, options)?;
    Ok(BaseTransformer::Loaded { model: Box::new(model), keys })
}

fn load_codec(options: &LoadOptions) -> Result<Arc<dyn VqCodec>, ModelError> {
    let file = embedded!("vqvae/config.json");
    let config = file.parse(PatchVqConfig::from_json)?;
    let codec = config.init(&options.device).map_err(file.wrong())?;
    let weights = embedded!("vqvae/diffusion_pytorch_model.safetensors");
    let codec = weights.load(codec, &config.keys(), DType::from(options.dtype.vq))?;
    Ok(with_decoder(codec, decoder_operands(options)).into())
}

fn load_text(options: &LoadOptions) -> Result<Arc<dyn TextEncoder>, ModelError> {
    let file = embedded!("text_encoder/config.json");
    let config = file.parse(SmallTextConfig::from_json)?;
    let text = config.init(&options.device).map_err(file.wrong())?;
    let weights = embedded!("text_encoder/model.safetensors");
    let dtype = options.dtype.text.into();
    let text = weights.load_for_inference(text, &config.keys(), dtype, options)?;
    let vocabulary = embedded!("tokenizer/vocab.json");
    let tokenizer =
        WordTokenizer::from_json(&vocabulary.path(), vocabulary.bytes, text.spec().rows)?;
    Ok(Arc::new(SmallTextEncoder::new(text, tokenizer)?))
}

fn identity() -> String {
    embedded_identity(
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
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use editmgt_backends::{Dtype, DtypePolicy};

    use super::*;
    use crate::model::folder::ModelFolder;
    use crate::model::identity::identity;

    #[test]
    fn embedded_model_equals_its_folder() {
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
