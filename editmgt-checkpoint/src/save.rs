//! Writes the weights of a module in the official layout.

use std::collections::HashMap;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use editmgt_core::KeyMap;
use editmgt_kernels::dequantize;

use crate::keys::{CompiledKeys, Parameters, Position};
use crate::write::write;
use crate::{CheckpointError, TensorSpec, WriteOptions};

/// Writes the weights of `module` to the folder `dir`, under the keys and in the shapes that
/// [`load_module`](crate::load_module) reads. One tensor at a time is copied to the host.
///
/// # Errors
/// A folder that is not empty, a dtype other than f32, f16 and bf16, a weight that overflows it,
/// the errors of [`module_tensors`](crate::module_tensors), device and I/O errors. Partial output
/// is removed.
pub fn save_module<M: Module>(
    dir: &Path,
    module: &M,
    keys: &KeyMap,
    options: &WriteOptions,
) -> Result<(), CheckpointError> {
    let parameters = Parameters::of(module, &CompiledKeys::new(keys)?)?.by_key;
    let mut collector = Collector { at: Position::default(), tensors: HashMap::new() };
    module.visit(&mut collector);
    let tensors = collector.tensors;

    let specs: Vec<_> = parameters
        .iter()
        .map(|(key, parameter)| TensorSpec { key: key.clone(), shape: parameter.shape.clone() })
        .collect();
    write(dir, &specs, options, |spec, sink| {
        let parameter = &parameters[&spec.key];
        let values = tensors[&parameter.path](parameter.transposed)
            .map_err(|message| CheckpointError::Device { key: spec.key.clone(), message })?;
        sink.push(&values)
    })
}

/// Writes tensors on the host, row-major, to the folder `dir`, each under its key.
///
/// # Errors
/// As [`save_module`]; [`CheckpointError::Spec`] if the number of values doesn't match the shape.
pub fn save_tensors(
    dir: &Path,
    tensors: &[(TensorSpec, Vec<f32>)],
    options: &WriteOptions,
) -> Result<(), CheckpointError> {
    for (TensorSpec { key, shape }, values) in tensors {
        if shape.iter().product::<usize>() != values.len() {
            let message = "the number of values doesn't match its shape";
            return Err(CheckpointError::Spec { key: key.clone(), message });
        }
    }
    let specs: Vec<_> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let values: HashMap<&str, &[f32]> =
        tensors.iter().map(|(spec, values)| (spec.key.as_str(), values.as_slice())).collect();
    write(dir, &specs, options, |spec, sink| sink.push(values[spec.key.as_str()]))
}

/// Copies a tensor, or its transpose, to the host.
type Values = Box<dyn Fn(bool) -> Result<Vec<f32>, String>>;

/// Collects the tensors by the path of their parameter, in closures because their ranks differ.
struct Collector {
    at: Position,
    tensors: HashMap<String, Values>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.at.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.at.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let param = param.clone();
        let values = move |transposed| {
            let tensor = dequantize(param.val());
            let tensor = if transposed { tensor.transpose() } else { tensor };
            tensor.cast(DType::F32).try_into_vec_as::<f32>().map_err(|e| e.to_string())
        };
        self.tensors.insert(self.at.path(), Box::new(values));
    }
}
