//! Loads the weights of a folder into a module.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor, TensorData};
use editmgt_core::KeyMap;
use half::{bf16, f16};

use crate::decode::{self, Float};
use crate::files::Reader;
use crate::keys::{CompiledKeys, Parameters, Position};
use crate::{CheckpointError, FileDtype, Mismatch, Misshaped, TensorEntry, WeightFiles};

/// How [`load_module`] converts weights. A [`DType`] converts into options with that dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// The dtype of all parameters, f32, f16 or bf16, independent of the dtype in the file.
    pub dtype: DType,
    /// Whether weights of linear layers and embedding tables that are f16 or bf16 in the file keep
    /// that dtype, which takes half the memory of f32. For modules that widen such weights where
    /// they use them.
    pub keep_half_precision: bool,
    /// The dtype of the weights of linear layers and embedding tables, if it is another than that of
    /// the other parameters.
    pub matrices: Option<DType>,
}

impl LoadOptions {
    /// Converts all weights to `dtype`.
    pub fn new(dtype: DType) -> Self {
        Self { dtype, keep_half_precision: false, matrices: None }
    }

    /// Sets [`keep_half_precision`](Self::keep_half_precision).
    #[must_use]
    pub fn with_keep_half_precision(self, keep_half_precision: bool) -> Self {
        Self { keep_half_precision, ..self }
    }

    /// Sets [`matrices`](Self::matrices).
    #[must_use]
    pub fn with_matrices(self, matrices: impl Into<Option<DType>>) -> Self {
        Self { matrices: matrices.into(), ..self }
    }

    /// The dtype of a parameter that is of that dtype now.
    fn dtype_of(&self, at: &Position, now: DType) -> DType {
        match (at.is_matrix(), self.matrices) {
            (true, Some(dtype)) => dtype,
            (true, None) if self.keep_half_precision && matches!(now, DType::F16 | DType::BF16) => {
                now
            }
            _ => self.dtype,
        }
    }
}

impl From<DType> for LoadOptions {
    fn from(dtype: DType) -> Self {
        Self::new(dtype)
    }
}

/// Loads every parameter of `module` from `files`, on the device that the module was built for.
/// `options` can be a [`DType`].
///
/// All keys are compared before any data is read. Then one tensor at a time is read and converted,
/// so host memory holds at most one tensor besides the weights that the device keeps there; of PyTorch's files also
/// the bytes of that tensor.
///
/// # Errors
/// [`CheckpointError::Mismatch`] with every key that is missing, unused or has another shape;
/// [`CheckpointError::Dtype`] for a tensor that is not F32, F16 or BF16;
/// [`CheckpointError::TooNarrow`] if a weight overflows the dtype; [`CheckpointError::DeviceDtype`]
/// if the device doesn't support it; the errors of [`module_tensors`](crate::module_tensors); a
/// file that can't be read any more.
pub fn load_module<M: Module>(
    module: M,
    files: &WeightFiles,
    keys: &KeyMap,
    options: impl Into<LoadOptions>,
) -> Result<M, CheckpointError> {
    let options = options.into();
    let plan = checked_plan(&module, files, keys, options.dtype)?;
    if let Some(dtype) = options.matrices {
        check_dtype(&module, dtype)?;
    }
    let (dir, dtype) = (files.dir().display(), options.dtype);
    tracing::debug!(%dir, tensors = plan.len(), ?dtype, "loading weights");
    let at = Position::default();
    let mut loader = Loader { plan, files, options, at, open: None, failure: None };
    let module = module.map(&mut loader);
    match loader.failure {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Checks all that [`load_module`] checks before it reads data: the keys and shapes of `files`
/// match `module`, and its device supports `dtype`.
///
/// # Errors
/// Those of [`load_module`], except for weights that overflow `dtype` and for read errors.
pub fn check_module<M: Module>(
    module: &M,
    files: &WeightFiles,
    keys: &KeyMap,
    dtype: DType,
) -> Result<(), CheckpointError> {
    checked_plan(module, files, keys, dtype).map(drop)
}

fn checked_plan<'a, M: Module>(
    module: &M,
    files: &'a WeightFiles,
    keys: &KeyMap,
    dtype: DType,
) -> Result<HashMap<String, Source<'a>>, CheckpointError> {
    check_dtype(module, dtype)?;
    plan(module, files, keys)
}

fn check_dtype<M: Module>(module: &M, dtype: DType) -> Result<(), CheckpointError> {
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(CheckpointError::UnsupportedDtype { got: dtype });
    }
    // A backend panics for a dtype that it doesn't support.
    match module.devices().iter().find(|device| !device.supports_dtype(dtype)) {
        Some(device) => Err(CheckpointError::DeviceDtype { device: format!("{device:?}"), dtype }),
        None => Ok(()),
    }
}

/// Converts the parameters of a module as [`load_module`] would. Its device must support the dtypes.
pub fn cast_module<M: Module>(module: M, options: impl Into<LoadOptions>) -> M {
    module.map(&mut Cast { options: options.into(), at: Position::default() })
}

struct Cast {
    options: LoadOptions,
    at: Position,
}

impl ModuleMapper for Cast {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.at.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.at.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let dtype = self.options.dtype_of(&self.at, tensor.dtype());
            tensor.cast(dtype)
        })
    }
}

/// The tensor to read into a parameter.
struct Source<'a> {
    key: &'a str,
    entry: &'a TensorEntry,
    transposed: bool,
}

/// Pairs every parameter, by its path in the module, with a tensor.
fn plan<'a, M: Module>(
    module: &M,
    files: &'a WeightFiles,
    keys: &KeyMap,
) -> Result<HashMap<String, Source<'a>>, CheckpointError> {
    let keys = CompiledKeys::new(keys)?;
    let parameters = Parameters::of(module, &keys)?.by_key;
    let entries = files.entries();

    let mut plan = HashMap::new();
    let mut misshaped = Vec::new();
    for (key, entry) in entries {
        let Some(parameter) = parameters.get(key) else { continue };
        if parameter.shape != entry.shape {
            misshaped.push(Misshaped {
                file: entry.file.to_path_buf(),
                key: key.clone(),
                expected: parameter.shape.clone(),
                got: entry.shape.clone(),
            });
        } else {
            let source = Source { key, entry, transposed: parameter.transposed };
            plan.insert(parameter.path.clone(), source);
        }
    }
    let missing: Vec<_> =
        parameters.keys().filter(|k| !entries.contains_key(*k)).cloned().collect();
    let unused: Vec<_> = entries
        .keys()
        .filter(|key| !parameters.contains_key(*key) && !keys.may_be_unused(key))
        .cloned()
        .collect();
    if !(missing.is_empty() && unused.is_empty() && misshaped.is_empty()) {
        let dir = files.dir().to_owned();
        return Err(CheckpointError::Mismatch(Mismatch { dir, missing, unused, misshaped }));
    }
    // Checked before the first tensor is read, so that a large model doesn't fail at its last
    // tensor.
    for Source { key, entry, .. } in plan.values() {
        if !matches!(entry.dtype, FileDtype::F32 | FileDtype::F16 | FileDtype::BF16) {
            return Err(CheckpointError::Dtype {
                path: entry.file.to_path_buf(),
                key: (*key).to_owned(),
                got: entry.dtype,
            });
        }
    }
    Ok(plan)
}

struct Loader<'a> {
    plan: HashMap<String, Source<'a>>,
    files: &'a WeightFiles,
    options: LoadOptions,
    at: Position,
    /// The last file read, kept open: adjacent parameters are mostly in the same file.
    open: Option<(Arc<Path>, Reader)>,
    /// The first failure; nothing is read after it.
    failure: Option<CheckpointError>,
}

impl Loader<'_> {
    /// The dtype of a parameter in memory.
    fn dtype_of(&self, source: &Source) -> DType {
        let stored = match source.entry.dtype {
            FileDtype::F16 => DType::F16,
            FileDtype::BF16 => DType::BF16,
            _ => DType::F32,
        };
        self.options.dtype_of(&self.at, stored)
    }

    fn data(
        &mut self,
        source: &Source,
        dtype: DType,
        shape: Vec<usize>,
    ) -> Result<TensorData, CheckpointError> {
        match dtype {
            DType::F16 => Ok(TensorData::new(self.read::<f16>(source)?, shape)),
            DType::BF16 => Ok(TensorData::new(self.read::<bf16>(source)?, shape)),
            _ => Ok(TensorData::new(self.read::<f32>(source)?, shape)),
        }
    }

    fn read<E: Float>(&mut self, source: &Source) -> Result<Vec<E>, CheckpointError> {
        let Source { key, entry, transposed } = source;
        let path = &entry.file;
        if let Some(mut bytes) = self.files.unpickled(key, entry)? {
            let values = decode::read(&mut bytes, entry, *transposed);
            return values.map_err(|error| error.of(path, key, E::DTYPE));
        }
        let file = match &mut self.open {
            Some((open, file)) if open == path => file,
            open => &mut open.insert((path.clone(), self.files.reader(path)?.0)).1,
        };
        decode::read(file, entry, *transposed).map_err(|error| error.of(path, key, E::DTYPE))
    }
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.at.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.at.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failure.is_some() {
            return param;
        }
        let source = self
            .plan
            .remove(&self.at.path())
            .expect("burn maps and visits a module with the same paths");
        let dtype = self.dtype_of(&source);
        match self.data(&source, dtype, param.lazy_shape().to_vec()) {
            Ok(data) => {
                let tensor = Tensor::from_data(data, (&param.lazy_device(), dtype));
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(error) => {
                self.failure = Some(error);
                param
            }
        }
    }
}
