//! The loaded parts of a model, each behind its trait.

use std::fmt;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device};
use editmgt_backends::DtypePolicy;
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_core::config::ConfigError;
use editmgt_core::{KeyMap, MgtTransformer, TextEncoder, VqCodec};
use editmgt_sampler::SchedulerConfig;
use editmgt_text::{
    ClipEncoder, ClipGemma2Encoder, ClipTextConfig, Gemma2Config, PromptTokenizer, SmallTextConfig,
    SmallTextEncoder, WordTokenizer,
};
use editmgt_transformer::{MgtConfig, MgtModel, TextArchitecture};
use editmgt_vq::CodecConfig;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::folder::ModelFolder;
use crate::identity::identity;
use crate::lora::{LoraFile, LoraSource, LoraUse, apply_loras, open_loras};
use crate::request::EditDefaults;

/// Where a model lives and in which precision.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The device of every component.
    pub device: Device,
    /// The precision of each component.
    pub dtype: DtypePolicy,
}

/// A loaded model. Any part can be replaced by your own before an [`Editor`](crate::Editor) is
/// made of it.
pub struct Model {
    /// Photo to tokens and back.
    pub codec: Box<dyn VqCodec>,
    /// Instruction to features.
    pub text: Box<dyn TextEncoder>,
    /// Tokens to logits.
    pub transformer: Box<dyn MgtTransformer>,
    /// How many tokens are fixed when.
    pub scheduler: SchedulerConfig,
    /// How it wants to be used.
    pub defaults: EditDefaults,
    /// What it was loaded from, for reports; not checked against the parts, so take it away (or
    /// set your own) when you replace one. `None` for parts of your own.
    pub source: Option<ModelSource>,
    /// Where the tensors live.
    pub device: Device,
}

/// What a model was loaded from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSource {
    /// Tells models apart: see [`identity`](crate::identity).
    pub sha256: String,
    /// The precision of each component.
    pub dtype: DtypePolicy,
    /// The LoRA adapters that it was loaded with, in order.
    #[serde(default)]
    pub loras: Vec<LoraSource>,
}

impl ModelSource {
    pub(crate) fn new(
        sha256: String,
        dtype: DtypePolicy,
        loras: &[(LoraUse, LoraFile)],
    ) -> Result<Self, ModelError> {
        let loras = loras.iter().map(|(choice, file)| LoraSource::read(choice, file));
        Ok(Self { sha256, dtype, loras: loras.collect::<Result<_, _>>()? })
    }

    /// Whether it is the same model with the same adapters, whatever the precision.
    pub fn is_same(&self, other: &Self) -> bool {
        let loras = self.loras.iter().zip(&other.loras);
        self.sha256 == other.sha256
            && self.loras.len() == other.loras.len()
            && loras.into_iter().all(|(a, b)| a.is_same(b))
    }
}

impl fmt::Display for ModelSource {
    /// The first digits of its identity, and the adapters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model {:.12}", self.sha256)?;
        self.loras.iter().try_for_each(|lora| write!(f, " with the {lora}"))
    }
}

impl Model {
    /// Loads every component of a folder, one tensor at a time.
    ///
    /// # Errors
    /// [`ModelError`] naming the file, and for weights all missing, unused and mis-shaped keys;
    /// [`ModelError::Disagree`] when the components are not of one model.
    pub fn load(folder: &ModelFolder, options: &LoadOptions) -> Result<Self, ModelError> {
        Self::load_with_loras(folder, options, &[])
    }

    /// Loads every component of a folder, and LoRA adapters into the transformer.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`ModelError::Lora`] for an adapter that is malformed or for
    /// another model.
    pub fn load_with_loras(
        folder: &ModelFolder,
        options: &LoadOptions,
        loras: &[LoraUse],
    ) -> Result<Self, ModelError> {
        let loras = open_loras(loras)?;
        // A mistake in a small file should not cost a minute of loading.
        let defaults = EditDefaults::read(&folder.root)?;
        let (config, transformer) = load_transformer(&folder.transformer, options)?;
        let transformer = apply_loras(transformer, &config.keys(), &loras)?;
        let source = ModelSource::new(identity(folder)?, options.dtype, &loras)?;
        let model = Self {
            codec: load_codec(&folder.vqvae, options)?,
            text: load_text(folder, &config.text_encoder_architecture, options)?.boxed(),
            transformer: Box::new(transformer),
            scheduler: load_scheduler(&folder.scheduler)?,
            defaults,
            source: Some(source),
            device: options.device.clone(),
        };
        model.checked(&folder.root)
    }

    /// The model, when its parts and its defaults belong together; `root` is where it is from.
    pub(crate) fn checked(self, root: &Path) -> Result<Self, ModelError> {
        self.check()?;
        let blocks = self.transformer.spec().blocks();
        match self.defaults.check_for(blocks, self.pixels_per_cell()) {
            Ok(()) => Ok(self),
            Err(source) => Err(ModelError::Config { path: root.join(EditDefaults::FILE), source }),
        }
    }

    /// What both sides of the pictures that it works on are multiples of.
    pub(crate) fn pixels_per_cell(&self) -> usize {
        self.codec.spec().downsample_factor * self.transformer.spec().grid_factor
    }

    /// Checks that the parts belong together; [`load`](Self::load) has done so.
    ///
    /// # Errors
    /// [`ModelError::Disagree`] with the two numbers.
    pub fn check(&self) -> Result<(), ModelError> {
        let transformer = self.transformer.spec();
        let (codec, text) = (self.codec.spec(), self.text.spec());
        let numbers = [
            ("codebook size", transformer.codebook_size, "codec", codec.codebook_size),
            ("text width", transformer.text_size, "text encoder", text.hidden_size),
            ("pooled text width", transformer.pooled_size, "text encoder", text.pooled_size),
            (
                "mask token",
                transformer.mask_token as usize,
                "scheduler",
                self.scheduler.mask_token_id as usize,
            ),
        ];
        for (what, left_value, right, right_value) in numbers {
            if left_value != right_value {
                let left = "transformer";
                return Err(ModelError::Disagree { what, left, left_value, right, right_value });
            }
        }
        Ok(())
    }
}

/// Single components, for those who need no editor: a trainer, for instance.
impl ModelFolder {
    /// Loads the transformer alone, with its config.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_transformer(
        &self,
        options: &LoadOptions,
    ) -> Result<(MgtConfig, MgtModel), ModelError> {
        load_transformer(&self.transformer, options)
    }

    /// Loads the codec alone.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_codec(&self, options: &LoadOptions) -> Result<Box<dyn VqCodec>, ModelError> {
        load_codec(&self.vqvae, options)
    }

    /// Loads the text encoder alone, the one that the transformer's config names.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_text(&self, options: &LoadOptions) -> Result<Box<dyn TextEncoder>, ModelError> {
        let config = read_config(&self.transformer, "config.json", MgtConfig::from_json)?;
        Ok(load_text(self, &config.text_encoder_architecture, options)?.boxed())
    }
}

/// The text encoder that a transformer's config names.
pub(crate) enum LoadedText {
    Clip(Box<ClipEncoder>),
    ClipGemma2(Box<ClipGemma2Encoder>),
    Small(Box<SmallTextEncoder>),
}

impl LoadedText {
    pub(crate) fn boxed(self) -> Box<dyn TextEncoder> {
        match self {
            Self::Clip(encoder) => encoder,
            Self::ClipGemma2(encoder) => encoder,
            Self::Small(encoder) => encoder,
        }
    }
}

pub(crate) fn load_transformer(
    dir: &Path,
    options: &LoadOptions,
) -> Result<(MgtConfig, MgtModel), ModelError> {
    let config = read_config(dir, "config.json", MgtConfig::from_json)?;
    let build = || Ok((config.keys(), config.init(&options.device)?));
    let model = load(dir, options.dtype.transformer.into(), build)?;
    Ok((config, model))
}

/// The codec that the folder's config names.
pub(crate) fn load_codec(
    dir: &Path,
    options: &LoadOptions,
) -> Result<Box<dyn VqCodec>, ModelError> {
    let (device, dtype) = (&options.device, options.dtype.vq.into());
    Ok(match read_config(dir, "config.json", CodecConfig::from_json)? {
        CodecConfig::Official(config) => {
            Box::new(load(dir, dtype, || Ok((config.keys(), config.init(device)?)))?)
        }
        CodecConfig::Patch(config) => {
            Box::new(load(dir, dtype, || Ok((config.keys(), config.init(device)?)))?)
        }
    })
}

pub(crate) fn load_text(
    folder: &ModelFolder,
    architecture: &TextArchitecture,
    options: &LoadOptions,
) -> Result<LoadedText, ModelError> {
    let (dir, device) = (&folder.text_encoder, &options.device);
    let dtype: DType = options.dtype.text.into();
    if *architecture == TextArchitecture::Small {
        let config = read_config(dir, "config.json", SmallTextConfig::from_json)?;
        let model = load(dir, dtype, || Ok((config.keys(), config.init(device)?)))?;
        let tokenizer = WordTokenizer::open(&folder.tokenizer, model.spec().rows)?;
        return Ok(LoadedText::Small(Box::new(SmallTextEncoder::new(model, tokenizer)?)));
    }
    let config = read_config(dir, "config.json", ClipTextConfig::from_json)?;
    let clip = load(dir, dtype, || Ok((config.keys(), config.init(device)?)))?;
    let clip = ClipEncoder::new(clip, PromptTokenizer::clip(&folder.tokenizer)?)?;
    if *architecture == TextArchitecture::Clip {
        return Ok(LoadedText::Clip(Box::new(clip)));
    }
    let (Some(dir), Some(tokenizer)) = (&folder.llm_encoder, &folder.llm_tokenizer) else {
        let problem = "the transformer reads CLIP and Gemma2, but there is no llm_encoder";
        return Err(ModelError::folder(&folder.root, problem));
    };
    let config = read_config(dir, "config.json", Gemma2Config::from_json)?;
    let gemma = load(dir, dtype, || Ok((config.keys(), config.init(device)?)))?;
    let encoder = ClipGemma2Encoder::new(clip, gemma, PromptTokenizer::gemma(tokenizer)?)?;
    Ok(LoadedText::ClipGemma2(Box::new(encoder)))
}

pub(crate) fn load_scheduler(dir: &Path) -> Result<SchedulerConfig, ModelError> {
    read_config(dir, "scheduler_config.json", SchedulerConfig::from_json)
}

/// Reads the file `name` of a checkpoint's folder by `parse`.
///
/// # Errors
/// [`ModelError::Io`] and [`ModelError::Config`], both with the file.
pub fn read_config<T>(
    dir: &Path,
    name: &str,
    parse: impl Fn(&str) -> Result<T, ConfigError>,
) -> Result<T, ModelError> {
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path).map_err(ModelError::io(&path))?;
    parse(&text).map_err(|source| ModelError::Config { path, source })
}

/// Loads the weights in `dir` into the module that `build` makes of its config.
pub(crate) fn load<M: Module>(
    dir: &Path,
    dtype: DType,
    build: impl Fn() -> Result<(KeyMap, M), ConfigError>,
) -> Result<M, ModelError> {
    let path = dir.join("config.json");
    let (keys, module) = build().map_err(|source| ModelError::Config { path, source })?;
    Ok(load_module(module, &WeightFiles::open(dir)?, &keys, dtype)?)
}

#[cfg(test)]
mod tests {
    use editmgt_backends::Dtype;
    use editmgt_checkpoint::{WeightsName, WriteOptions, module_tensors, write_random};

    use super::*;

    #[test]
    fn the_codec_is_the_one_that_the_config_names() {
        let dir = tempfile::tempdir().unwrap();
        let device = editmgt_backends::open("cpu").unwrap();
        let dtype = DtypePolicy::uniform(Dtype::F32);
        let options = LoadOptions { device: device.clone(), dtype };
        let text = r#"{
            "_class_name": "PatchVqModel",
            "encoder_channels": [8],
            "code_channels": 4,
            "num_codes": 10,
            "decoder_channels": [8, 4],
            "blocks_per_level": 1
        }"#;
        let CodecConfig::Patch(config) = CodecConfig::from_json(text).unwrap() else {
            panic!("another codec")
        };
        let tensors = module_tensors(&config.init(&device).unwrap(), &config.keys()).unwrap();
        let write = WriteOptions::new(WeightsName::Diffusion, DType::F32);
        write_random(dir.path(), &tensors, &write, 1).unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        assert_eq!(load_codec(dir.path(), &options).unwrap().spec(), &config.spec());

        std::fs::write(&path, text.replace("PatchVqModel", "AutoencoderKL")).unwrap();
        let Err(error) = load_codec(dir.path(), &options) else { panic!("loaded") };
        assert!(matches!(error, ModelError::Config { .. }), "{error}");
        assert!(error.to_string().contains("VQModel or PatchVqModel"), "{error}");
    }
}
