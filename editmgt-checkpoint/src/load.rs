//! Loads the weights of a folder into a module.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use editmgt_core::KeyMap;
use editmgt_kernels::{QuantizedMatrix, quantized_bits, reads_quantized};
use half::{bf16, f16};

use crate::decode::{self, Float};
use crate::files::Reader;
use crate::keys::{CompiledKeys, Parameters, Position};
use crate::quantization::{file_dtype, file_shapes, is_quantized, scale_key};
use crate::{
    CheckpointError, FileDtype, Mismatch, Misshaped, TensorEntry, WeightBits, WeightFiles,
};

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
    /// The bits of weights that are quantised in the files, by the component's
    /// [`QuantizationConfig`](crate::QuantizationConfig). `None`: such a weight is an error.
    pub quantized: Option<WeightBits>,
    /// Quantises weights of linear layers, and vocabularies of at least 1024 rows, that the files
    /// have as floats.
    pub quantize: Option<WeightBits>,
    /// Whether quantised weights stay so in memory, where the device [reads
    /// them](editmgt_kernels::reads_quantized). Otherwise they are expanded to the dtype. For
    /// modules that use [`editmgt_kernels::linear`] and [`editmgt_kernels::embed`].
    pub keep_quantized: bool,
    /// The dtype of the weights of linear layers and embedding tables, if it is another than that
    /// of the other parameters.
    pub matrices: Option<DType>,
}

impl LoadOptions {
    /// Converts all weights to `dtype`.
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            keep_half_precision: false,
            quantized: None,
            quantize: None,
            keep_quantized: false,
            matrices: None,
        }
    }

    /// Sets [`keep_half_precision`](Self::keep_half_precision).
    #[must_use]
    pub fn with_keep_half_precision(self, keep_half_precision: bool) -> Self {
        Self { keep_half_precision, ..self }
    }

    /// Sets [`quantized`](Self::quantized).
    #[must_use]
    pub fn with_quantized(self, quantized: Option<WeightBits>) -> Self {
        Self { quantized, ..self }
    }

    /// Sets [`quantize`](Self::quantize).
    #[must_use]
    pub fn with_quantize(self, quantize: Option<WeightBits>) -> Self {
        Self { quantize, ..self }
    }

    /// Sets [`keep_quantized`](Self::keep_quantized).
    #[must_use]
    pub fn with_keep_quantized(self, keep_quantized: bool) -> Self {
        Self { keep_quantized, ..self }
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
/// so host memory holds at most one tensor besides the weights that the device keeps there; of
/// PyTorch's files also the bytes of that tensor.
///
/// # Errors
/// [`CheckpointError::Mismatch`] with every key that is missing, unused or has another shape;
/// [`CheckpointError::Dtype`] for a tensor that is not F32, F16 or BF16; the errors of quantised
/// weights: [`CheckpointError::QuantizedDtype`], [`CheckpointError::QuantizedData`],
/// [`CheckpointError::NotQuantized`], [`CheckpointError::Unquantizable`];
/// [`CheckpointError::TooNarrow`] if a weight overflows the dtype; [`CheckpointError::DeviceDtype`]
/// if the device doesn't support it; the errors of [`module_tensors`](crate::module_tensors); a
/// file that can't be read any more.
pub fn load_module<M: Module>(
    module: M,
    files: &WeightFiles,
    keys: &KeyMap,
    options: impl Into<LoadOptions>,
) -> Result<M, CheckpointError> {
    load_module_part(module, files, keys, options, &|_| true)
}

/// [`load_module`] of those parameters alone whose path in the module is `wanted`. The others stay
/// as they are: in a module that was just built, without values and without memory. Don't compute
/// with them: burn would draw random values then.
///
/// # Errors
/// Those of [`load_module`]; keys and shapes of all parameters are compared.
pub fn load_module_part<M: Module>(
    module: M,
    files: &WeightFiles,
    keys: &KeyMap,
    options: impl Into<LoadOptions>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<M, CheckpointError> {
    let options = options.into();
    let plan = checked_plan(&module, files, keys, options)?;
    if let Some(dtype) = options.matrices {
        check_dtype(&module, dtype)?;
    }
    let (dir, dtype) = (files.dir().display(), options.dtype);
    tracing::debug!(%dir, tensors = plan.len(), ?dtype, "loading weights");
    let at = Position::default();
    let mut loader = Loader { plan, files, options, wanted, at, open: None, failure: None };
    let module = module.map(&mut loader);
    match loader.failure {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Checks all that [`load_module`] checks before it reads data: the keys and shapes of `files`
/// match `module`, and its device supports the dtype. `options` can be a [`DType`].
///
/// # Errors
/// Those of [`load_module`], except for those of the values of weights and for read errors.
pub fn check_module<M: Module>(
    module: &M,
    files: &WeightFiles,
    keys: &KeyMap,
    options: impl Into<LoadOptions>,
) -> Result<(), CheckpointError> {
    checked_plan(module, files, keys, options.into()).map(drop)
}

fn checked_plan<'a, M: Module>(
    module: &M,
    files: &'a WeightFiles,
    keys: &KeyMap,
    options: LoadOptions,
) -> Result<HashMap<String, Source<'a>>, CheckpointError> {
    check_dtype(module, options.dtype)?;
    plan(module, files, keys, options.quantized)
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

/// Converts the parameters of a module as [`load_module`] would; quantised ones stay so. Its device
/// must support the dtypes.
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
            if quantized_bits(&tensor).is_some() {
                return tensor;
            }
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
    quantizable: bool,
    /// The tensor of its scales and the shape `[rows, inputs]` of the matrix, where it is
    /// quantised.
    scales: Option<(&'a TensorEntry, [usize; 2])>,
}

/// Pairs every parameter, by its path in the module, with a tensor.
fn plan<'a, M: Module>(
    module: &M,
    files: &'a WeightFiles,
    keys: &KeyMap,
    quantized: Option<WeightBits>,
) -> Result<HashMap<String, Source<'a>>, CheckpointError> {
    let keys = CompiledKeys::new(keys)?;
    let parameters = Parameters::of(module, &keys)?.by_key;
    let entries = files.entries();

    let mut plan = HashMap::new();
    let mut misshaped = Vec::new();
    let mut missing: Vec<_> =
        parameters.keys().filter(|k| !entries.contains_key(*k)).cloned().collect();
    let mut scale_keys = HashSet::new();
    let mut check = |key: &str, entry: &TensorEntry, expected: &[usize]| {
        let fits = entry.shape == expected;
        if !fits {
            misshaped.push(Misshaped {
                file: entry.file.to_path_buf(),
                key: key.to_owned(),
                expected: expected.to_vec(),
                got: entry.shape.clone(),
            });
        }
        fits
    };
    for (key, entry) in entries {
        let Some(parameter) = parameters.get(key) else { continue };
        let (transposed, quantizable) = (parameter.transposed, parameter.quantizable);
        let source = |scales| Source { key, entry, transposed, quantizable, scales };
        let bits = quantized.filter(|_| quantizable && is_quantized(entry.dtype));
        let source = match (bits, &parameter.shape[..]) {
            (Some(bits), &[rows, inputs]) => {
                require_dtype(entry, key, bits, file_dtype(bits))?;
                let [values_shape, scales_shape] = file_shapes(bits, [rows, inputs]);
                let scale_key = scale_key(key);
                let Some(scales) = entries.get(&scale_key) else {
                    missing.push(scale_key);
                    continue;
                };
                require_dtype(scales, &scale_key, bits, FileDtype::F16)?;
                let fits =
                    check(key, entry, &values_shape) & check(&scale_key, scales, &scales_shape);
                scale_keys.insert(scale_key);
                fits.then(|| source(Some((scales, [rows, inputs]))))
            }
            (_, shape) => check(key, entry, shape).then(|| source(None)),
        };
        plan.extend(source.map(|source| (parameter.path.clone(), source)));
    }
    let unused: Vec<_> = entries
        .keys()
        .filter(|key| {
            let known = parameters.contains_key(*key) || scale_keys.contains(*key);
            !known && !keys.may_be_unused(key)
        })
        .cloned()
        .collect();
    if !(missing.is_empty() && unused.is_empty() && misshaped.is_empty()) {
        let dir = files.dir().to_owned();
        return Err(CheckpointError::Mismatch(Mismatch { dir, missing, unused, misshaped }));
    }
    // Checked before the first tensor is read, so that a large model doesn't fail at its last
    // tensor.
    for Source { key, entry, scales, .. } in plan.values() {
        if scales.is_none()
            && !matches!(entry.dtype, FileDtype::F32 | FileDtype::F16 | FileDtype::BF16)
        {
            return Err(CheckpointError::Dtype {
                path: entry.file.to_path_buf(),
                key: (*key).to_owned(),
                got: entry.dtype,
            });
        }
    }
    match quantized {
        Some(bits) if plan.values().all(|source| source.scales.is_none()) => {
            Err(CheckpointError::NotQuantized { dir: files.dir().to_owned(), bits })
        }
        _ => Ok(plan),
    }
}

fn require_dtype(
    entry: &TensorEntry,
    key: &str,
    bits: WeightBits,
    expected: FileDtype,
) -> Result<(), CheckpointError> {
    if entry.dtype == expected {
        return Ok(());
    }
    let (path, key, got) = (entry.file.to_path_buf(), key.to_owned(), entry.dtype);
    Err(CheckpointError::QuantizedDtype { path, key, bits, expected, got })
}

struct Loader<'a> {
    plan: HashMap<String, Source<'a>>,
    files: &'a WeightFiles,
    options: LoadOptions,
    wanted: &'a dyn Fn(&str) -> bool,
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
        let Source { key, entry, transposed, .. } = source;
        let mut unpickled = None;
        let file = self.file(key, entry, &mut unpickled)?;
        let values = decode::read(file, entry, *transposed);
        values.map_err(|error| error.of(&entry.file, key, E::DTYPE))
    }

    /// What a tensor is read from: its file, or its bytes, which `unpickled` gets, of one of
    /// PyTorch's.
    fn file<'r>(
        &'r mut self,
        key: &str,
        entry: &TensorEntry,
        unpickled: &'r mut Option<Reader>,
    ) -> Result<&'r mut Reader, CheckpointError> {
        *unpickled = self.files.unpickled(key, entry)?;
        if let Some(bytes) = unpickled {
            return Ok(bytes);
        }
        let path = &entry.file;
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            self.open = Some((path.clone(), self.files.reader(path)?.0));
        }
        let (_, file) = self.open.as_mut().expect("opened above");
        Ok(file)
    }

    /// The weight in blocks; `None` where it is not to be quantised.
    fn quantized(&mut self, source: &Source) -> Result<Option<QuantizedMatrix>, CheckpointError> {
        let Source { key, entry, scales, quantizable, .. } = source;
        let path = &entry.file;
        let mut unpickled = None;
        let matrix = match (scales, self.options.quantized, self.options.quantize) {
            (Some((scales, shape)), Some(bits), _) => {
                let file = self.file(&scale_key(key), scales, &mut unpickled)?;
                let scales = raw_bytes(file, scales).map_err(CheckpointError::io(&scales.file))?;
                let file = self.file(key, entry, &mut unpickled)?;
                decode::read_quantized(file, entry, &scales, bits, *shape)
            }
            (None, _, Some(bits)) if *quantizable => {
                decode::read_quantizing(self.file(key, entry, &mut unpickled)?, entry, bits)
            }
            _ => return Ok(None),
        };
        matrix.map(Some).map_err(|error| error.of(path, key, self.options.dtype))
    }

    /// A quantised weight as the module holds it.
    fn weight(
        &self,
        source: &Source,
        matrix: QuantizedMatrix,
        device: &Device,
    ) -> Result<Tensor<2>, CheckpointError> {
        if self.options.keep_quantized && reads_quantized(device) {
            return Ok(if source.transposed {
                matrix.into_linear_weight(device)
            } else {
                matrix.into_table(device)
            });
        }
        let (dtype, shape) = (self.options.dtype, matrix.shape());
        let values = matrix.values();
        let most = if dtype == DType::F16 { f16::MAX.to_f32() } else { f32::MAX };
        if values.iter().any(|value| value.abs() > most) {
            let (path, key) = (source.entry.file.to_path_buf(), source.key.to_owned());
            return Err(CheckpointError::TooNarrow { path, key, dtype });
        }
        let matrix = Tensor::<2>::from_data(TensorData::new(values, shape), (device, DType::F32));
        let matrix = matrix.cast(dtype);
        Ok(if source.transposed { matrix.transpose() } else { matrix })
    }

    fn tensor<const D: usize>(
        &mut self,
        source: &Source,
        shape: Vec<usize>,
        device: &Device,
    ) -> Result<Tensor<D>, CheckpointError> {
        if let Some(matrix) = self.quantized(source)? {
            let weight = self.weight(source, matrix, device)?;
            // Only matrices are quantised, so `D` is 2.
            return Ok(Tensor::from_dispatch(weight.into_dispatch()));
        }
        let dtype = self.dtype_of(source);
        Ok(Tensor::from_data(self.data(source, dtype, shape)?, (device, dtype)))
    }
}

/// The bytes of a tensor.
fn raw_bytes(file: &mut (impl Read + Seek), entry: &TensorEntry) -> std::io::Result<Vec<u8>> {
    let length = entry.bytes.end - entry.bytes.start;
    let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    file.seek(SeekFrom::Start(entry.bytes.start))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.at.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.at.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.at.path();
        if self.failure.is_some() || !(self.wanted)(&path) {
            return param;
        }
        let source =
            self.plan.remove(&path).expect("burn maps and visits a module with the same paths");
        match self.tensor(&source, param.lazy_shape().to_vec(), &param.lazy_device()) {
            Ok(tensor) => {
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
