//! The components of a model folder without their weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::DType;
use editmgt_checkpoint::{
    LoadOptions as WeightOptions, QuantizationConfig, WeightBits, WeightFiles, check_module,
    load_module,
};
use editmgt_core::config::{ConfigError, UnknownKeys};
use editmgt_core::{KeyMap, MgtTransformer, TextEncoder, VqCodec};
use editmgt_kernels::{Operands, WithOperands};
use editmgt_sampler::{SchedulerConfig, Timesteps};
use editmgt_text::{
    ClipEncoder, ClipGemma2Encoder, ClipText, ClipTextConfig, Gemma2, Gemma2Config,
    PromptTokenizer, SmallText, SmallTextConfig, SmallTextEncoder, WordTokenizer,
};
use editmgt_transformer::{MgtConfig, MgtModel, TextArchitecture, TransformerConfig, UVit2DModel};
use editmgt_vq::{CodecConfig, PatchVqModel, VqModel};

use super::base::{BaseModel, BaseTransformer, ModelMetadata};
use super::folder::ModelFolder;
use super::identity::{files_identity, variant_identity};
use super::kind::ModelKind;
use super::options::LoadOptions;
use super::precision::InferencePrecision;
use super::quantization::ModelQuantization;
use crate::custom::CustomParts;
use crate::error::ModelError;
use crate::lora::{LoraError, LoraFile, LoraUse};
use crate::request::EditDefaults;

/// An unloaded component: its config was read, and its files have the expected keys and shapes.
pub(crate) struct Stored<M> {
    /// The module with uninitialised parameters: it knows its sizes and takes no memory.
    pub(crate) unloaded: M,
    /// Its folder.
    pub(crate) dir: PathBuf,
    pub(crate) keys: KeyMap,
    pub(crate) files: WeightFiles,
    dtype: DType,
    options: WeightOptions,
    operands: Operands,
    /// The module with these operands; for a module that has none, the module.
    with_operands: fn(M, Operands) -> M,
}

impl<M: Module> Stored<M> {
    /// Compares the weights with the module that `build` makes of the config beside them.
    fn open(
        files: WeightFiles,
        dtype: DType,
        build: impl FnOnce() -> Result<(KeyMap, M), ConfigError>,
    ) -> Result<Self, ModelError> {
        let dir = files.dir().to_owned();
        let path = dir.join("config.json");
        let (keys, unloaded) = build().map_err(|cause| ModelError::Config { path, cause })?;
        let quantized = read_config(&dir, "config.json", QuantizationConfig::split)?.1;
        let options = WeightOptions::new(dtype).with_quantized(quantized.map(|found| found.bits));
        check_module(&unloaded, &files, &keys, options)?;
        let (operands, with_operands) = (Operands::default(), |module, _| module);
        Ok(Self { unloaded, dir, keys, files, dtype, options, operands, with_operands })
    }

    /// For a module that widens matrices on use, and is not trained: the precision of inference on
    /// the options' device. Quantised matrices stay so, and others are quantised if the options say
    /// it.
    fn for_inference(self, options: &LoadOptions) -> Result<Self, ModelError>
    where
        M: WithOperands,
    {
        let (stored, requested) = (self.options.quantized, options.quantize);
        if let (Some(stored), Some(requested)) = (stored, requested)
            && stored != requested
        {
            return Err(ModelError::Quantized { dir: self.dir, stored, requested });
        }
        let InferencePrecision { load, operands } =
            InferencePrecision::new(&options.device, self.dtype, options.dtype.compute);
        let options =
            load.with_quantized(stored).with_quantize(requested).with_keep_quantized(true);
        Ok(Self { options, operands, with_operands: M::with_operands, ..self })
    }

    /// The bits of weights that are quantised in the files.
    pub(crate) fn stored_bits(&self) -> Option<WeightBits> {
        self.options.quantized
    }

    /// The bits of weights that are quantised when they are loaded.
    fn bits(&self) -> Option<WeightBits> {
        self.options.quantized.or(self.options.quantize)
    }

    /// Tells its config and weights apart from others, as they are now.
    pub(crate) fn identity(&self) -> Result<String, ModelError> {
        files_identity(&self.dir, &["config.json"], self.files.variant())
    }

    /// Loads the component's weights; each call reads them again.
    pub(crate) fn load(&self) -> Result<M, ModelError> {
        let module = load_module(self.unloaded.clone(), &self.files, &self.keys, self.options)?;
        Ok((self.with_operands)(module, self.operands))
    }
}

/// Loads the weights in `dir` into the module that `build` makes of its config, in `dtype`. Missing
/// and unknown keys and wrong shapes are errors.
///
/// # Errors
/// [`ModelError`] naming the file.
pub fn load_component<M: Module>(
    dir: &Path,
    dtype: DType,
    build: impl FnOnce() -> Result<(KeyMap, M), ConfigError>,
) -> Result<M, ModelError> {
    Stored::open(WeightFiles::open(dir)?, dtype, build)?.load()
}

/// A component of the folder, or one of the user's own in its place.
pub(crate) enum Part<S, T: ?Sized> {
    Stored(S),
    Own(Arc<T>),
}

/// The transformer of the class that the folder's config names.
pub(crate) enum StoredTransformer {
    /// `keys` are the names of its layers in adapters.
    Meissonic { model: Box<Stored<MgtModel>>, keys: KeyMap },
    /// Takes no adapters.
    Amused(Box<Stored<UVit2DModel>>),
}

impl StoredTransformer {
    /// Compares keys and shapes with those of the config.
    fn open(
        folder: &ModelFolder,
        config: &TransformerConfig,
        options: &LoadOptions,
    ) -> Result<Self, ModelError> {
        let (dir, device) = (&folder.transformer, &options.device);
        let files = folder.weights(dir, options)?;
        let (keys, dtype) = (config.keys(), options.dtype.transformer.into());
        Ok(match config {
            TransformerConfig::Amused(config) => {
                let model = Stored::open(files, dtype, || Ok((keys, config.init(device)?)))?;
                Self::Amused(Box::new(model))
            }
            TransformerConfig::Meissonic(config) | TransformerConfig::Muddit(config) => {
                let build = || Ok((keys.clone(), config.init(device)?));
                let model = Box::new(Stored::open(files, dtype, build)?);
                Self::Meissonic { model, keys }
            }
            other => {
                let problem = format!("the transformer's family is not loaded here: {other:?}");
                return Err(ModelError::folder(dir, problem));
            }
        })
    }

    /// Checks the adapters against it.
    fn check(&self, loras: &[(LoraUse, LoraFile)]) -> Result<(), ModelError> {
        for (choice, file) in loras {
            match self {
                Self::Meissonic { model, keys } => {
                    let streams = choice.streams.unwrap_or(file.streams);
                    file.for_model(&model.unloaded, keys, choice.scale, streams)?;
                }
                Self::Amused(_) => {
                    return Err(LoraError::Unsupported {
                        path: choice.path.clone(),
                        key: "the model of an adapter",
                        expected: "a transformer of Meissonic's family (Transformer2DModel)",
                        got: "UVit2DModel".into(),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    /// As [`Stored::for_inference`].
    fn for_inference(self, options: &LoadOptions) -> Result<Self, ModelError> {
        Ok(match self {
            Self::Meissonic { model, keys } => {
                Self::Meissonic { model: Box::new(model.for_inference(options)?), keys }
            }
            Self::Amused(model) => Self::Amused(Box::new(model.for_inference(options)?)),
        })
    }

    fn bits(&self) -> Option<WeightBits> {
        match self {
            Self::Meissonic { model, .. } => model.bits(),
            Self::Amused(model) => model.bits(),
        }
    }
}

/// The codec named in the folder's config.
pub(crate) enum StoredCodec {
    Official(Box<Stored<VqModel>>),
    Patch(Box<Stored<PatchVqModel>>),
}

impl StoredCodec {
    pub(crate) fn load(&self) -> Result<Box<dyn VqCodec>, ModelError> {
        Ok(match self {
            Self::Official(codec) => Box::new(codec.load()?),
            Self::Patch(codec) => Box::new(codec.load()?),
        })
    }
}

/// The text encoder named in a transformer's config, and its tokenisers.
pub(crate) enum StoredText {
    Clip(Box<StoredClip>),
    ClipGemma2 { clip: Box<StoredClip>, gemma: Box<Stored<Gemma2>>, tokenizer: PromptTokenizer },
    Small(Box<Stored<SmallText>>, WordTokenizer),
}

/// CLIP's text tower.
pub(crate) struct StoredClip {
    pub(crate) model: Stored<ClipText>,
    pub(crate) tokenizer: PromptTokenizer,
}

impl StoredClip {
    fn load(self) -> Result<ClipEncoder, ModelError> {
        Ok(ClipEncoder::new(self.model.load()?, self.tokenizer)?)
    }
}

impl StoredText {
    /// Of the text encoder and of Gemma2.
    fn bits(&self) -> [Option<WeightBits>; 2] {
        match self {
            Self::Clip(clip) => [clip.model.bits(), None],
            Self::ClipGemma2 { clip, gemma, .. } => [clip.model.bits(), gemma.bits()],
            Self::Small(model, _) => [model.bits(), None],
        }
    }

    pub(crate) fn load(self) -> Result<LoadedText, ModelError> {
        Ok(match self {
            Self::Clip(clip) => LoadedText::Clip(Box::new(clip.load()?)),
            Self::ClipGemma2 { clip, gemma, tokenizer } => {
                let encoder = ClipGemma2Encoder::new(clip.load()?, gemma.load()?, tokenizer)?;
                LoadedText::ClipGemma2(Box::new(encoder))
            }
            Self::Small(model, tokenizer) => {
                LoadedText::Small(Box::new(SmallTextEncoder::new(model.load()?, tokenizer)?))
            }
        })
    }
}

/// A text encoder by its concrete type.
#[non_exhaustive]
pub enum LoadedText {
    /// CLIP's text tower, for both rows and pooled vector.
    Clip(Box<ClipEncoder>),
    /// Gemma 2 for the rows, CLIP for the pooled vector.
    ClipGemma2(Box<ClipGemma2Encoder>),
    /// The small encoder, trained with its transformer.
    Small(Box<SmallTextEncoder>),
}

impl LoadedText {
    /// The encoder as a trait object.
    pub fn into_boxed(self) -> Box<dyn TextEncoder> {
        match self {
            Self::Clip(encoder) => encoder,
            Self::ClipGemma2(encoder) => encoder,
            Self::Small(encoder) => encoder,
        }
    }
}

/// An unloaded model: all of a folder except the weights.
pub(crate) struct StoredModel {
    pub(crate) transformer: Part<StoredTransformer, dyn MgtTransformer>,
    pub(crate) codec: Part<StoredCodec, dyn VqCodec>,
    pub(crate) text: Part<StoredText, dyn TextEncoder>,
    pub(crate) metadata: ModelMetadata,
}

impl StoredModel {
    /// Reads everything that is small and that `parts` don't replace, and compares all keys and
    /// shapes, those of the adapters, too: a mistake should not cost a minute of loading.
    pub(crate) fn open(
        folder: &ModelFolder,
        options: &LoadOptions,
        loras: &[(LoraUse, LoraFile)],
        parts: &CustomParts,
    ) -> Result<Self, ModelError> {
        let defaults = match &parts.defaults {
            Some(defaults) => defaults.clone(),
            None => EditDefaults::read(&folder.root)?,
        };
        let (transformer, config) = match &parts.transformer {
            Some(own) => (Part::Own(own.clone()), None),
            None => {
                let config = read_transformer(folder, options)?;
                let stored = StoredTransformer::open(folder, &config, options)?;
                stored.check(loras)?;
                let stored = stored.for_inference(options)?;
                (Part::Stored(stored), Some(config))
            }
        };
        let text = match &parts.text {
            Some(own) => Part::Own(own.clone()),
            None => {
                let architecture = match &config {
                    Some(config) => config.text_encoder_architecture().clone(),
                    None => text_architecture(folder, options)?,
                };
                Part::Stored(open_text(folder, &architecture, options)?)
            }
        };
        let [text_encoder, llm_encoder] = match &text {
            Part::Stored(text) => text.bits(),
            Part::Own(_) => [None; 2],
        };
        let quantization = ModelQuantization {
            transformer: match &transformer {
                Part::Stored(transformer) => transformer.bits(),
                Part::Own(_) => None,
            },
            text_encoder,
            llm_encoder,
        };
        Ok(Self {
            codec: match &parts.codec {
                Some(own) => Part::Own(own.clone()),
                None => Part::Stored(open_codec(folder.weights(&folder.vqvae, options)?, options)?),
            },
            text,
            metadata: ModelMetadata {
                root: folder.root.clone(),
                scheduler: match parts.scheduler {
                    Some(scheduler) => scheduler,
                    None => {
                        let timesteps = timesteps_of(config.as_ref());
                        read_scheduler(&folder.scheduler, options.unknown_keys, timesteps)?
                    }
                },
                defaults,
                kind: match &parts.transformer {
                    Some(_) => ModelKind::Custom,
                    None => ModelKind::read(&folder.transformer)?,
                },
                source: if parts.change_model() {
                    None
                } else {
                    let sha256 = variant_identity(folder, options.variant.as_deref())?;
                    Some((sha256, options.dtype, quantization))
                },
                device: options.device.clone(),
            },
            transformer,
        })
    }

    /// Loads every component, one tensor at a time.
    pub(crate) fn load(self) -> Result<BaseModel, ModelError> {
        let Self { transformer, codec, text, metadata } = self;
        Ok(BaseModel {
            transformer: match transformer {
                Part::Stored(StoredTransformer::Meissonic { model, keys }) => {
                    BaseTransformer::Loaded { model: Box::new(model.load()?), keys }
                }
                Part::Stored(StoredTransformer::Amused(model)) => {
                    BaseTransformer::Own(Arc::new(model.load()?))
                }
                Part::Own(own) => BaseTransformer::Own(own),
            },
            codec: match codec {
                Part::Stored(codec) => codec.load()?.into(),
                Part::Own(own) => own,
            },
            text: match text {
                Part::Stored(text) => text.load()?.into_boxed().into(),
                Part::Own(own) => own,
            },
            metadata,
        })
    }
}

/// Single components, for use without an editor, for instance in training.
impl ModelFolder {
    /// Loads a transformer of Meissonic's family, with its config. All of its weights have the dtype
    /// of the options, as training requires.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load); [`ModelError::Folder`] for another family.
    pub fn load_transformer(
        &self,
        options: &LoadOptions,
    ) -> Result<(MgtConfig, MgtModel), ModelError> {
        let config = read_transformer(self, options)?;
        let stored = StoredTransformer::open(self, &config, options)?;
        match (config, stored) {
            (
                TransformerConfig::Meissonic(config) | TransformerConfig::Muddit(config),
                StoredTransformer::Meissonic { model, .. },
            ) => Ok((config, model.load()?)),
            _ => {
                let problem = "expected a transformer of Meissonic's family (Transformer2DModel), got UVit2DModel";
                Err(ModelError::folder(&self.transformer, problem))
            }
        }
    }

    /// Loads the transformer of whatever family, all of its weights in the dtype of the options.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_any_transformer(
        &self,
        options: &LoadOptions,
    ) -> Result<Box<dyn MgtTransformer>, ModelError> {
        let config = read_transformer(self, options)?;
        Ok(match StoredTransformer::open(self, &config, options)? {
            StoredTransformer::Meissonic { model, .. } => Box::new(model.load()?),
            StoredTransformer::Amused(model) => Box::new(model.load()?),
        })
    }

    /// Loads the codec.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_codec(&self, options: &LoadOptions) -> Result<Box<dyn VqCodec>, ModelError> {
        open_codec(self.weights(&self.vqvae, options)?, options)?.load()
    }

    /// Loads the text encoder named in the transformer's config.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_text(&self, options: &LoadOptions) -> Result<Box<dyn TextEncoder>, ModelError> {
        Ok(self.load_text_encoder(options)?.into_boxed())
    }

    /// As [`load_text`](Self::load_text), with the concrete type.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load).
    pub fn load_text_encoder(&self, options: &LoadOptions) -> Result<LoadedText, ModelError> {
        let config = read_transformer(self, options)?;
        open_text(self, config.text_encoder_architecture(), options)?.load()
    }

    /// Reads the config of the scheduler.
    ///
    /// # Errors
    /// [`ModelError`] naming the file.
    pub fn read_scheduler(&self) -> Result<SchedulerConfig, ModelError> {
        read_scheduler(&self.scheduler, UnknownKeys::Refuse, Timesteps::default())
    }
}

fn read_transformer(
    folder: &ModelFolder,
    options: &LoadOptions,
) -> Result<TransformerConfig, ModelError> {
    read_component(&folder.transformer, options, TransformerConfig::from_json_with)
}

/// The timestep input of a model whose scheduler has no key for it.
fn timesteps_of(config: Option<&TransformerConfig>) -> Timesteps {
    match config {
        Some(TransformerConfig::Muddit(_)) => Timesteps::RemainingShare,
        _ => Timesteps::default(),
    }
}

/// The text encoder of a folder whose transformer is replaced: what the transformer's config says
/// where there is one, else what the encoder's own files say.
fn text_architecture(
    folder: &ModelFolder,
    options: &LoadOptions,
) -> Result<TextArchitecture, ModelError> {
    const CONFIG: &str = "config.json";
    if folder.transformer.join(CONFIG).is_file() {
        return Ok(read_transformer(folder, options)?.text_encoder_architecture().clone());
    }
    if folder.llm_encoder.is_some() {
        return Ok(TextArchitecture::ClipGemma2);
    }
    let path = folder.text_encoder.join(CONFIG);
    let text = editmgt_store::read_text(&path)?;
    let config: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| ModelError::folder(path, error.to_string()))?;
    Ok(if config["model_type"] == SmallTextConfig::MODEL_TYPE {
        TextArchitecture::Small
    } else {
        TextArchitecture::Clip
    })
}

/// Pixels of a token along a side, by the config of the codec.
pub(crate) fn codec_factor(
    folder: &ModelFolder,
    options: &LoadOptions,
) -> Result<usize, ModelError> {
    let spec = match read_component(&folder.vqvae, options, CodecConfig::from_json_with)? {
        CodecConfig::Official(config) => config.spec(),
        CodecConfig::Patch(config) => config.spec(),
    };
    Ok(spec.downsample_factor)
}

fn open_codec(files: WeightFiles, options: &LoadOptions) -> Result<StoredCodec, ModelError> {
    let (device, dtype) = (&options.device, options.dtype.vq.into());
    Ok(match read_component(files.dir(), options, CodecConfig::from_json_with)? {
        CodecConfig::Official(config) => {
            let build = || Ok((config.keys(), config.init(device)?));
            StoredCodec::Official(Box::new(Stored::open(files, dtype, build)?))
        }
        CodecConfig::Patch(config) => {
            let build = || Ok((config.keys(), config.init(device)?));
            StoredCodec::Patch(Box::new(Stored::open(files, dtype, build)?))
        }
    })
}

fn open_text(
    folder: &ModelFolder,
    architecture: &TextArchitecture,
    options: &LoadOptions,
) -> Result<StoredText, ModelError> {
    let (dir, device) = (&folder.text_encoder, &options.device);
    let dtype: DType = options.dtype.text.into();
    if *architecture == TextArchitecture::Small {
        let config = read_component(dir, options, SmallTextConfig::from_json_with)?;
        let files = folder.weights(dir, options)?;
        let model = Stored::open(files, dtype, || Ok((config.keys(), config.init(device)?)))?;
        let model = model.for_inference(options)?;
        let tokenizer = WordTokenizer::open(&folder.tokenizer, model.unloaded.spec().rows)?;
        return Ok(StoredText::Small(Box::new(model), tokenizer));
    }
    let config = read_component(dir, options, ClipTextConfig::from_json_with)?;
    let files = folder.weights(dir, options)?;
    let model = Stored::open(files, dtype, || Ok((config.keys(), config.init(device)?)))?;
    let model = model.for_inference(options)?;
    let clip = Box::new(StoredClip { model, tokenizer: PromptTokenizer::clip(&folder.tokenizer)? });
    if *architecture == TextArchitecture::Clip {
        return Ok(StoredText::Clip(clip));
    }
    let (Some(dir), Some(tokenizer)) = (&folder.llm_encoder, &folder.llm_tokenizer) else {
        let problem = "the transformer needs CLIP and Gemma2, but there is no llm_encoder";
        return Err(ModelError::folder(&folder.root, problem));
    };
    let config = read_component(dir, options, Gemma2Config::from_json_with)?;
    let files = folder.weights(dir, options)?;
    let gemma = Stored::open(files, dtype, || Ok((config.keys(), config.init(device)?)))?;
    let gemma = gemma.for_inference(options)?;
    let tokenizer = PromptTokenizer::gemma(tokenizer)?;
    Ok(StoredText::ClipGemma2 { clip, gemma: Box::new(gemma), tokenizer })
}

fn read_scheduler(
    dir: &Path,
    unknown_keys: UnknownKeys,
    timesteps: Timesteps,
) -> Result<SchedulerConfig, ModelError> {
    let parse = |text: &str| SchedulerConfig::from_json_for(text, unknown_keys, timesteps);
    read_config(dir, "scheduler_config.json", parse)
}

/// Reads the `config.json` of a component, as strictly as the options say.
fn read_component<T>(
    dir: &Path,
    options: &LoadOptions,
    parse: impl Fn(&str, UnknownKeys) -> Result<T, ConfigError>,
) -> Result<T, ModelError> {
    read_config(dir, "config.json", |text| {
        let (text, _) = QuantizationConfig::split(text)?;
        parse(&text, options.unknown_keys)
    })
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
    let text = editmgt_store::read_text(&path)?;
    parse(&text).map_err(|cause| ModelError::Config { path, cause })
}

#[cfg(test)]
mod tests {
    use editmgt_backends::{Dtype, DtypePolicy};
    use editmgt_checkpoint::{WeightsName, WriteOptions, module_tensors, write_random};

    use super::*;

    #[test]
    fn the_codec_is_the_one_that_the_config_names() {
        let dir = tempfile::tempdir().unwrap();
        let device = editmgt_backends::open("cpu").unwrap();
        let dtype = DtypePolicy::uniform(Dtype::F32);
        let options = LoadOptions::new(device.clone(), dtype);
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
        let open = || open_codec(WeightFiles::open(dir.path()).unwrap(), &options);
        assert_eq!(open().unwrap().load().unwrap().spec(), &config.spec());

        std::fs::write(&path, text.replace("PatchVqModel", "AutoencoderKL")).unwrap();
        let Err(error) = open() else { panic!("opened") };
        assert!(matches!(error, ModelError::Config { .. }), "{error}");
        assert!(error.to_string().contains("VQModel or PatchVqModel"), "{error}");
    }
}
