//! Loading an [`Editor`]: where its parts are from, and which of them are replaced.

use std::sync::Arc;

use burn::tensor::Device;
use editmgt_backends::{DeviceError, DtypePolicy};
use editmgt_checkpoint::WeightBits;
use editmgt_core::{
    AttentionConsolidator, MgtTransformer, NoiseSource, RegionHold, TextEncoder, UnmaskScheduler,
    VqCodec,
};
use editmgt_sampler::SchedulerConfig;

use crate::custom::{CustomParts, CustomStages};
use crate::editor::Editor;
use crate::error::{EditError, ModelError};
use crate::lora::{LoraFile, LoraUse, open_loras};
use crate::model::base::{Adapters, BaseModel, BaseTransformer, Reopen, own_transformer};
use crate::model::stored::{StoredModel, codec_factor};
use crate::model::{LoadOptions, Model, ModelFolder, ModelKind, ModelOrigin, check_trained_for};
use crate::photo::PixelSize;
use crate::request::{EditDefaults, Job};
use crate::run::check_tokens;

/// Most photos of a forward pass by default.
pub(crate) const FORWARD_BATCH: usize = 4;

/// Where a model is loaded from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Folder(ModelOrigin),
    #[cfg(feature = "embedded")]
    Embedded,
    /// All parts are the user's own.
    Parts,
}

/// Loads an [`Editor`].
///
/// Each stage can be replaced; whatever is, the photo's pixels come back, masks, maps, reports,
/// variations, batches and resuming work as before.
///
/// ```no_run
/// use editmgt::{ChaChaNoise, Editor, Photo, sampler::HoldThreshold};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let editor = Editor::builder("models/editmgt")
///     .hold(HoldThreshold::new(0.4)?)
///     .noise(ChaChaNoise::new(7))
///     .build()?;
/// let result = editor.edit(&Photo::open("cat.jpg")?, "make the cat black")?;
/// assert_eq!(result.report.custom_stages, ["hold", "noise"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct EditorBuilder {
    origin: Origin,
    device: Option<Device>,
    dtype: Option<DtypePolicy>,
    loras: Vec<LoraUse>,
    low_memory: bool,
    variant: Option<String>,
    accept_unknown_keys: bool,
    quantize: Option<WeightBits>,
    job: Option<Job>,
    native_photo: Option<PixelSize>,
    forward_batch: usize,
    packed_weights: Option<usize>,
    custom: CustomStages,
    parts: CustomParts,
}

impl Origin {
    /// For errors.
    fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "a model folder",
            #[cfg(feature = "embedded")]
            Self::Embedded => "the model in the program",
            Self::Parts => "parts of your own",
        }
    }

    pub(crate) fn builder(self) -> EditorBuilder {
        EditorBuilder {
            origin: self,
            device: None,
            dtype: None,
            loras: Vec::new(),
            low_memory: false,
            variant: None,
            accept_unknown_keys: false,
            quantize: None,
            job: None,
            native_photo: None,
            forward_batch: FORWARD_BATCH,
            packed_weights: None,
            custom: CustomStages::default(),
            parts: CustomParts::default(),
        }
    }
}

impl EditorBuilder {
    /// Computes on this device (default: the first that this build has, the CPU's first of all).
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Keeps the weights in these dtypes and computes so (default: [`DtypePolicy::choose`]).
    pub fn dtype(mut self, dtype: DtypePolicy) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Adds a LoRA adapter; several can be added. See [`Editor::with_loras`] to change them later.
    pub fn lora(mut self, lora: LoraUse) -> Self {
        self.loras.push(lora);
        self
    }

    /// Keeps one component in memory at a time, each for as long as it is needed: see
    /// [`Model::on_demand`]. Parts of your own stay in memory. Only a model folder can do it.
    pub fn low_memory(mut self, low_memory: bool) -> Self {
        self.low_memory = low_memory;
        self
    }

    /// Reads a variant of the weights, `fp16` for instance: see [`LoadOptions::variant`].
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = Some(variant.into());
        self
    }

    /// Quantises weights of transformer and text encoders while they are read: see
    /// [`LoadOptions::quantize`]. `None`: as they are stored.
    pub fn quantize(mut self, bits: impl Into<Option<WeightBits>>) -> Self {
        self.quantize = bits.into();
        self
    }

    /// Ignores keys of configs that this program doesn't know: see
    /// [`LoadOptions::accept_unknown_keys`].
    pub fn accept_unknown_keys(mut self, accept: bool) -> Self {
        self.accept_unknown_keys = accept;
        self
    }

    /// Looks up the name of a model with these settings, not with those of the environment: see
    /// [`Editor::builder`]. A folder needs none.
    #[cfg(feature = "hub")]
    #[cfg_attr(docsrs, doc(cfg(feature = "hub")))]
    pub fn hub(mut self, settings: editmgt_hub::HubSettings) -> Self {
        if let Origin::Folder(model) = &mut self.origin {
            model.set_hub(settings);
        }
        self
    }

    /// Refuses a model that was not trained for this job before its weights are loaded. (Without
    /// it, the first request for the job is refused.)
    pub fn for_job(mut self, job: Job) -> Self {
        self.job = Some(job);
        self
    }

    /// Refuses, before the weights of a folder are loaded, a photo of this size that has too many
    /// tokens to be edited without resizing (`resize` native). (Without it, the first such request
    /// is refused.)
    pub fn native_photo(mut self, size: PixelSize) -> Self {
        self.native_photo = Some(size);
        self
    }

    /// How many photos [`Editor::edit_batch`] computes at once at most (default: 4). Memory grows
    /// with it: activations of the transformer are as many times larger.
    pub fn forward_batch(mut self, photos: usize) -> Self {
        self.forward_batch = photos;
        self
    }

    /// How many bytes of packed weights an edit keeps from step to step on the CPU, at most, if it
    /// has [cached steps](crate::EditRequest::steps_plan) or its products are those of bf16 or
    /// [int8](editmgt_backends::Compute). With all of them, which take as much memory as the
    /// transformer's weights do in that precision, a step doesn't pack them again; results are bit
    /// for bit the same. They are freed at the end of the edit. The default is half of the memory
    /// that is available when it begins, where the system tells (Linux), and none with
    /// [`low_memory`](Self::low_memory) and in an [`Editor::new`].
    pub fn packed_weights(mut self, bytes: usize) -> Self {
        self.packed_weights = Some(bytes);
        self
    }

    /// Decides which tokens are fixed when, in the place of
    /// [`EditRequest::holding`](crate::EditRequest::holding) and
    /// [`EditRequest::temperature`](crate::EditRequest::temperature).
    pub fn scheduler(mut self, scheduler: impl UnmaskScheduler + 'static) -> Self {
        self.custom.scheduler = Some(Arc::new(scheduler));
        self
    }

    /// Turns attention into scores, in the place of
    /// [`EditRequest::map_filter`](crate::EditRequest::map_filter).
    pub fn consolidator(mut self, consolidator: impl AttentionConsolidator + 'static) -> Self {
        self.custom.consolidator = Some(Arc::new(consolidator));
        self
    }

    /// Decides which tokens keep the photo's, in the place of
    /// [`EditRequest::hold`](crate::EditRequest::hold) and its margin. With a user's mask, what
    /// that leaves black stays the photo's, too.
    pub fn hold(mut self, hold: impl RegionHold + 'static) -> Self {
        self.custom.hold = Some(Arc::new(hold));
        self
    }

    /// Draws the random numbers, in the place of [`EditRequest::seed`](crate::EditRequest::seed).
    pub fn noise(mut self, noise: impl NoiseSource + 'static) -> Self {
        self.custom.noise = Some(Arc::new(noise));
        self
    }

    /// Turns images into tokens and back, in the place of the model's codec, which is not loaded;
    /// its folder may be missing.
    pub fn codec(mut self, codec: impl VqCodec + 'static) -> Self {
        self.parts.codec = Some(Arc::new(codec));
        self
    }

    /// Turns prompts into features, in the place of the model's encoder, which is not loaded; its
    /// folders may be missing.
    pub fn text(mut self, text: impl TextEncoder + 'static) -> Self {
        self.parts.text = Some(Arc::new(text));
        self
    }

    /// Predicts tokens, in the place of the model's transformer, which is not loaded; its folder
    /// may be missing.
    pub fn transformer(mut self, transformer: impl MgtTransformer + 'static) -> Self {
        self.parts.transformer = Some(Arc::new(transformer));
        self
    }

    /// Mask token and schedules, in the place of `scheduler_config.json`. The default without a
    /// folder is the transformer's mask token, a cosine schedule and timesteps that count down.
    pub fn scheduler_config(mut self, config: SchedulerConfig) -> Self {
        self.parts.scheduler = Some(config);
        self
    }

    /// What requests leave open, in the place of `edit_defaults.json`. The default without a folder
    /// are the official pipeline's.
    pub fn defaults(mut self, defaults: EditDefaults) -> Self {
        self.parts.defaults = Some(defaults);
        self
    }

    /// The device on which it will compute.
    ///
    /// # Errors
    /// [`DeviceError`] where none was named and this build has none that works.
    pub fn device_or_default(&self) -> Result<Device, DeviceError> {
        self.device.clone().map_or_else(editmgt_backends::open_default, Ok)
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`EditError::Model`] naming what is wrong with the folder, or the part that is missing where
    /// there is none; [`EditError::Device`] when the device can't compute in the dtype;
    /// [`EditError::Option`] for adapters of a transformer of your own, for
    /// [`low_memory`](Self::low_memory) without a folder, and for a dtype or
    /// [`quantize`](Self::quantize) where nothing is loaded.
    pub fn build(self) -> Result<Editor, EditError> {
        let has_own_transformer = self.parts.transformer.is_some();
        if has_own_transformer && !self.loras.is_empty() {
            return Err(own_transformer());
        }
        if self.low_memory && !matches!(self.origin, Origin::Folder(_)) {
            let expected = "a model folder, whose weights can be read again";
            return Err(EditError::option("low_memory", expected, self.origin.name()));
        }
        if matches!(self.origin, Origin::Parts) {
            self.parts.all()?;
        }
        if self.dtype.is_some() && self.parts.replace_all() {
            let expected = "a component that the builder loads";
            return Err(EditError::option("dtype", expected, "parts of your own only"));
        }
        if self.quantize.is_some() && self.parts.transformer.is_some() && self.parts.text.is_some()
        {
            let expected = "a transformer or a text encoder that the builder loads";
            return Err(EditError::option("quantize", expected, "parts of your own only"));
        }
        let device = self.device_or_default()?;
        let (model, adapters) = match &self.origin {
            Origin::Parts => {
                let base = BaseModel::of_parts(&self.parts, device)?;
                (base.model(&[])?, Adapters::Unsupported)
            }
            #[cfg(feature = "embedded")]
            Origin::Embedded => {
                let options = self.load_options(device)?;
                let loras = open_loras(&self.loras).map_err(ModelError::from)?;
                with_adapters(crate::model::embedded::load_base(&options, &self.parts)?, &loras)?
            }
            Origin::Folder(folder) => {
                let options = self.load_options(device)?;
                let folder = ModelFolder::open_with(folder, &self.parts, options.unknown_keys)?;
                check_job(self.job, &folder, &self.parts)?;
                if let (Some(size), None) = (self.native_photo, &self.parts.codec) {
                    check_tokens(size, codec_factor(&folder, &options)?)?;
                }
                if self.low_memory {
                    let reopen = Reopen { folder, options, parts: self.parts };
                    let model = reopen.model(&self.loras)?;
                    let adapters = if has_own_transformer {
                        Adapters::Unsupported
                    } else {
                        Adapters::OnDemand(Arc::new(reopen))
                    };
                    (model, adapters)
                } else {
                    let loras = open_loras(&self.loras).map_err(ModelError::from)?;
                    let stored = StoredModel::open(&folder, &options, &loras, &self.parts)?;
                    with_adapters(stored.load()?, &loras)?
                }
            }
        };
        let (model, custom, forward_batch) = (Arc::new(model), self.custom, self.forward_batch);
        let packed_weights = self.packed_weights.or(self.low_memory.then_some(0));
        let low_memory = self.low_memory;
        Ok(Editor { model, adapters, custom, forward_batch, packed_weights, low_memory })
    }

    fn load_options(&self, device: Device) -> Result<LoadOptions, EditError> {
        let dtype = match self.dtype {
            Some(dtype) => dtype,
            None => DtypePolicy::choose(&device, None)?,
        };
        dtype.check(&device)?;
        let options = LoadOptions::new(device, dtype).accept_unknown_keys(self.accept_unknown_keys);
        Ok(LoadOptions { variant: self.variant.clone(), quantize: self.quantize, ..options })
    }
}

/// What can be told of a folder without its weights.
fn check_job(job: Option<Job>, folder: &ModelFolder, parts: &CustomParts) -> Result<(), EditError> {
    let (Some(job), None) = (job, &parts.transformer) else { return Ok(()) };
    let kind = ModelKind::read(&folder.transformer)?;
    let defaults = match &parts.defaults {
        Some(defaults) => defaults.clone(),
        None => EditDefaults::read(&folder.root)?,
    };
    let trained_for = defaults.trained_for.as_deref().unwrap_or(kind.trained_for());
    check_trained_for(kind, trained_for, job, false)
}

/// The model with its adapters, and what others are applied to.
fn with_adapters(
    base: BaseModel,
    loras: &[(LoraUse, LoraFile)],
) -> Result<(Model, Adapters), ModelError> {
    Ok(match base.transformer {
        BaseTransformer::Own(_) => (base.model(loras)?, Adapters::Unsupported),
        BaseTransformer::Loaded { .. } => {
            (base.clone().model(loras)?, Adapters::Loaded(Arc::new(base)))
        }
    })
}
