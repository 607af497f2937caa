//! Options for the model and the compute device.

use std::path::{Path, PathBuf};

use clap::Args;
use editmgt::config::UnknownKeys;
use editmgt::{
    Device, DeviceError, DtypePolicy, EditError, Editor, EditorBuilder, LoraUse, ModelFolder,
    WeightBits,
};
use editmgt_store::FileRoles;

/// The model to use.
#[derive(Args)]
pub struct ModelArg {
    /// The model's folder, or its name if the hub's cache has it (see `editmgt models`) [default:
    /// the embedded small model, for scenes of its synthetic world]
    #[cfg(feature = "embedded")]
    #[arg(short, long, value_name = "DIR|NAME")]
    model: Option<PathBuf>,
    /// The model's folder, or its name if the hub's cache has it (see `editmgt models`)
    #[cfg(not(feature = "embedded"))]
    #[arg(short, long, value_name = "DIR|NAME")]
    model: PathBuf,
    #[command(flatten)]
    files: FilesArgs,
}

/// How the model's files are read.
#[derive(Clone, Args)]
pub struct FilesArgs {
    /// Which weights to read where there are several: fp16 for *.fp16.safetensors [default: those
    /// without a variant in their names, or the only ones]
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Ignore keys of the model's configs that this program does not know
    #[arg(long)]
    accept_unknown_keys: bool,
    /// Quantise the weights of transformer and text encoders to 8 or 4 bits while they are read,
    /// for less memory: see `editmgt quantize`
    #[arg(long, value_name = "BITS")]
    quantize: Option<WeightBits>,
}

impl FilesArgs {
    /// The variant of the weights that was asked for.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Applies them to a model's builder.
    pub fn apply(&self, builder: EditorBuilder) -> EditorBuilder {
        let builder = builder.accept_unknown_keys(self.accept_unknown_keys).quantize(self.quantize);
        match &self.variant {
            Some(variant) => builder.variant(variant),
            None => builder,
        }
    }
}

impl ModelArg {
    /// A builder for this model.
    #[cfg(feature = "embedded")]
    pub fn builder(&self) -> EditorBuilder {
        self.files.apply(self.model.as_ref().map_or_else(Editor::embedded, Editor::builder))
    }

    /// A builder for this model.
    #[cfg(not(feature = "embedded"))]
    pub fn builder(&self) -> EditorBuilder {
        self.files.apply(Editor::builder(&self.model))
    }
}

impl ModelArg {
    /// The model's folder or name; `None` for the embedded model.
    fn path(&self) -> Option<&Path> {
        #[cfg(feature = "embedded")]
        return self.model.as_deref();
        #[cfg(not(feature = "embedded"))]
        return Some(&self.model);
    }

    /// What happens to unknown keys of configs.
    pub fn unknown_keys(&self) -> UnknownKeys {
        UnknownKeys::accept(self.files.accept_unknown_keys)
    }

    /// Declares the model's files as inputs, also those that its `pipeline.json` names elsewhere.
    pub fn declare(&self, roles: &mut FileRoles) {
        #[cfg(feature = "embedded")]
        let Some(model) = &self.model else { return };
        #[cfg(not(feature = "embedded"))]
        let model = &self.model;
        note_folder(model);
        ModelFolder::declare_inputs(model, "model", roles);
    }
}

/// Prints a note if a model's folder has the name of a model in the hub's cache: the folder is
/// used.
pub fn note_folder(model: &Path) {
    #[cfg(feature = "hub")]
    if let (Some(name), true) = (model.to_str(), model.is_dir()) {
        let settings = editmgt::hub::HubSettings::from_env();
        if settings.is_ok_and(|settings| editmgt::hub::Hub::new(settings).has(name)) {
            eprintln!(
                "note: {name} is a folder here and a model in the hub's cache: the folder is used; for the other, name \
                 it from another folder"
            );
        }
    }
    #[cfg(not(feature = "hub"))]
    let _no_names = model;
}

/// Options for the model, the device, precision and adapters.
#[derive(Args)]
pub struct ComputeArgs {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    run: DeviceArgs,
}

/// Options for the device, precision and adapters.
#[derive(Clone, Args)]
pub struct DeviceArgs {
    /// LoRA adapter (folder or file); may be repeated. SCALE multiplies its effect [default: 1];
    /// STREAMS is image, reference or both [default: as trained]
    #[arg(long, value_name = "DIR[:SCALE[:STREAMS]]")]
    lora: Vec<LoraUse>,
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
    #[command(flatten)]
    precision: PrecisionArgs,
    /// Keep only one component of the model in memory at a time (CLIP, Gemma2, codec or
    /// transformer): the same edit with less memory, but each edit loads all components again, and
    /// each preview two of them
    #[arg(long)]
    low_memory: bool,
}

/// Options for the precision.
#[derive(Clone, Args)]
pub struct PrecisionArgs {
    /// f32, f16 or bf16, for transformer and text; the codec runs in f32, with bf16 only the
    /// products of its decoder do not [default: by the device]
    #[arg(long)]
    dtype: Option<String>,
    /// What the linear layers of transformer and text compute in on the CPU: dtype, as that option
    /// says, or int8, with 8 bits and rows that have outliers in bf16
    #[arg(long, value_name = "dtype|int8", default_value = "dtype", hide_default_value = true)]
    compute: String,
}

impl PrecisionArgs {
    /// The precision of each component on this device.
    ///
    /// # Errors
    /// [`DeviceError`] for a dtype that the device does not have, or int8 on a GPU.
    pub fn policy(&self, device: &Device) -> Result<DtypePolicy, DeviceError> {
        let dtype = self.dtype.as_deref().map(str::parse).transpose()?;
        let policy = DtypePolicy::choose(device, dtype)?.with_compute(self.compute.parse()?);
        policy.check(device)?;
        Ok(policy)
    }
}

impl DeviceArgs {
    /// Applies them to a model's builder.
    ///
    /// # Errors
    /// [`EditError`] for an unknown device or a dtype that it does not have.
    pub fn apply(&self, builder: EditorBuilder) -> Result<EditorBuilder, EditError> {
        let device = editmgt::open_device(&self.device)?;
        let dtype = self.precision.policy(&device)?;
        let builder = builder.device(device).dtype(dtype).low_memory(self.low_memory);
        Ok(self.lora.iter().cloned().fold(builder, EditorBuilder::lora))
    }
}

impl ComputeArgs {
    /// The model's folder or name; `None` for the embedded model.
    pub fn model_path(&self) -> Option<&Path> {
        self.model.path()
    }

    /// The variant of the weights that was asked for.
    pub fn variant(&self) -> Option<&str> {
        self.model.files.variant()
    }

    /// Declares the files of the model and its adapters as inputs.
    pub fn declare(&self, roles: &mut FileRoles) {
        self.model.declare(roles);
        for lora in &self.run.lora {
            roles.input_tree("LoRA adapter", &lora.path);
        }
    }

    /// Opens the device, without loading the model.
    ///
    /// # Errors
    /// [`EditError`] for an unknown device or a dtype that it does not have.
    pub fn builder(&self) -> Result<EditorBuilder, EditError> {
        self.run.apply(self.model.builder())
    }
}
