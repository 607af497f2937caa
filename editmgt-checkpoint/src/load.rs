//! Fills a module with the weights of a folder.

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

/// Loads every parameter of `module` from `files`, on the device that the module was built for,
/// as `dtype` (f32, f16 or bf16) whatever the dtype in the file.
///
/// The keys are compared first: nothing is read while one is missing, left over or of another
/// shape. Then one tensor at a time is read and converted, so host memory holds the weights that
/// the device keeps there plus a single tensor.
///
/// # Errors
/// [`CheckpointError::Mismatch`] with every key that is missing, left over or mis-shaped;
/// [`CheckpointError::Dtype`] for a parameter whose tensor is no float of 16 or 32 bits;
/// [`CheckpointError::TooNarrow`] where a weight doesn't fit `dtype`;
/// [`CheckpointError::DeviceDtype`] where the device can't compute with it; the errors of
/// [`module_tensors`](crate::module_tensors); a file that can no longer be read.
pub fn load_module<M: Module>(
    module: M,
    files: &WeightFiles,
    keys: &KeyMap,
    dtype: DType,
) -> Result<M, CheckpointError> {
    load(module, files, keys, dtype, false)
}

/// As [`load_module`], but weights of linear layers and tables of embeddings that the file has in f16 or
/// bf16 stay as they are, in half the memory of f32. For modules that widen them where they use them.
///
/// # Errors
/// Those of [`load_module`].
pub fn load_module_with_halves<M: Module>(
    module: M,
    files: &WeightFiles,
    keys: &KeyMap,
    dtype: DType,
) -> Result<M, CheckpointError> {
    load(module, files, keys, dtype, true)
}

fn load<M: Module>(
    module: M,
    files: &WeightFiles,
    keys: &KeyMap,
    dtype: DType,
    keep_halves: bool,
) -> Result<M, CheckpointError> {
    let plan = checked_plan(&module, files, keys, dtype)?;
    tracing::debug!(dir = %files.dir().display(), tensors = plan.len(), ?dtype, "loading weights");
    let at = Position::default();
    let mut loader = Loader { plan, files, dtype, keep_halves, at, open: None, failure: None };
    let module = module.map(&mut loader);
    match loader.failure {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Whether [`load_module`] would begin to read: the keys and shapes of `files` are those of
/// `module`, and its device can compute in `dtype`. No data is read, so this is quick for files of
/// any size.
///
/// # Errors
/// Those of [`load_module`] but for a weight that doesn't fit `dtype` and for failing disks.
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
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(CheckpointError::UnsupportedDtype { got: dtype });
    }
    // A backend panics over a dtype that it lacks.
    if let Some(device) = module.devices().iter().find(|device| !device.supports_dtype(dtype)) {
        return Err(CheckpointError::DeviceDtype { device: format!("{device:?}"), dtype });
    }
    plan(module, files, keys)
}

/// What to read into a parameter.
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
    // Before the first tensor is read: the last of a big model should not be the one that fails.
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
    dtype: DType,
    /// Whether matrices in half precision stay so.
    keep_halves: bool,
    at: Position,
    /// The file that was read last: neighbours in a module are mostly neighbours in a file.
    open: Option<(Arc<Path>, Reader)>,
    /// The first failure; nothing is read after it.
    failure: Option<CheckpointError>,
}

impl Loader<'_> {
    /// The dtype to hold a parameter in.
    fn dtype_of(&self, source: &Source) -> DType {
        match source.entry.dtype {
            FileDtype::F16 if self.keep_halves && self.at.is_matrix() => DType::F16,
            FileDtype::BF16 if self.keep_halves && self.at.is_matrix() => DType::BF16,
            _ => self.dtype,
        }
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
            .expect("a module is mapped along the paths that it is visited along");
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
