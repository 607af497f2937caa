//! A component of any kind without its weights, and its config.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::DType;
use editmgt_checkpoint::{
    LoadOptions as WeightOptions, QuantizationConfig, WeightBits, WeightFiles, check_module,
    load_module_part,
};
use editmgt_core::KeyMap;
use editmgt_core::config::{ConfigError, UnknownKeys};
use editmgt_kernels::{Operands, WithOperands};
use editmgt_sampler::{SchedulerConfig, Timesteps};

use crate::error::ModelError;
use crate::model::identity::files_identity;
use crate::model::options::LoadOptions;
use crate::model::precision::InferencePrecision;

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
    pub(super) fn open(
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
    pub(super) fn for_inference(self, options: &LoadOptions) -> Result<Self, ModelError>
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

    /// For a codec, whose weights are those of [`open`](Self::open): the operands of its decoder.
    pub(super) fn decoding(self, operands: Operands) -> Self {
        Self { operands, ..self }
    }

    pub(crate) fn operands(&self) -> Operands {
        self.operands
    }

    /// The bits of weights that are quantised in the files.
    pub(crate) fn stored_bits(&self) -> Option<WeightBits> {
        self.options.quantized
    }

    /// The bits of weights that are quantised when they are loaded.
    pub(super) fn bits(&self) -> Option<WeightBits> {
        self.options.quantized.or(self.options.quantize)
    }

    /// Tells its config and weights apart from others, as they are now.
    pub(crate) fn identity(&self) -> Result<String, ModelError> {
        files_identity(&self.dir, &["config.json"], self.files.variant())
    }

    /// Loads the component's weights; each call reads them again.
    pub(crate) fn load(&self) -> Result<M, ModelError> {
        self.load_part(&|_| true)
    }

    /// Loads those weights alone whose path in the module is wanted.
    pub(crate) fn load_part(&self, wanted: &dyn Fn(&str) -> bool) -> Result<M, ModelError> {
        let Self { unloaded, files, keys, options, .. } = self;
        let module = load_module_part(unloaded.clone(), files, keys, *options, wanted)?;
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

pub(super) fn read_scheduler(
    dir: &Path,
    unknown_keys: UnknownKeys,
    timesteps: Timesteps,
) -> Result<SchedulerConfig, ModelError> {
    let parse = |text: &str| SchedulerConfig::from_json_for(text, unknown_keys, timesteps);
    read_config(dir, "scheduler_config.json", parse)
}

/// Reads the `config.json` of a component, as strictly as the options say.
pub(super) fn read_component<T>(
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
