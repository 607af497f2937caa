//! Finds the linear layers of a model, and reads adapters back.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};
use editmgt_core::{Error, Result};
use editmgt_kernels::quantized_bits;

use super::{LinearLayer, Lora, LoraFactors};
use crate::MgtModel;

/// Which tokens go through a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinearRole {
    /// Text or image tokens, but not the reference's.
    Canvas,
    /// The tokens of the canvas and, in a separate call, those of the reference.
    Shared,
    /// No tokens: it computes the conditioning of all streams.
    Conditioning,
}

/// The roles of a model's linear layers, by their weights. Each module declares those of its
/// fields.
#[derive(Debug, Default)]
pub(crate) struct LinearRoles(BTreeMap<ParamId, LinearRole>);

impl LinearRoles {
    pub(crate) fn declare<'a>(
        &mut self,
        role: LinearRole,
        layers: impl IntoIterator<Item = &'a Linear>,
    ) {
        self.0.extend(layers.into_iter().map(|layer| (layer.weight.id, role)));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl MgtModel {
    /// All linear layers, in the order of the model.
    pub fn linear_layers(&self) -> Vec<LinearLayer> {
        self.visit_layers().found.into_iter().map(|(layer, _)| layer).collect()
    }

    /// Whether weights are quantised in memory. [`merge_lora`](Self::merge_lora) expands those that
    /// it changes.
    pub fn has_quantized_weights(&self) -> bool {
        self.visit_layers().quantized
    }

    /// Reads back the factors of the attached adapter, by the path of the layer; if there are
    /// several adapters, those of the first.
    ///
    /// # Errors
    /// [`Error::Device`] if reading from the device fails.
    pub fn lora_factors(&self) -> Result<BTreeMap<String, LoraFactors>> {
        let mut reader = Reader { path: Vec::new(), found: Ok(BTreeMap::new()) };
        self.visit(&mut reader);
        reader.found
    }

    pub(super) fn visit_layers(&self) -> Layers {
        let mut layers = Layers {
            path: Vec::new(),
            roles: self.linear_roles(),
            found: Vec::new(),
            adapted: false,
            quantized: false,
        };
        self.visit(&mut layers);
        layers
    }
}

/// The dotted path of a traversal.
fn joined(names: &[String]) -> String {
    names.join(".")
}

/// The linear layers of a model.
pub(super) struct Layers {
    path: Vec<String>,
    roles: LinearRoles,
    found: Vec<(LinearLayer, LinearRole)>,
    /// Whether any weight is quantised.
    quantized: bool,
    /// Whether any layer has an adapter.
    pub(super) adapted: bool,
}

impl Layers {
    /// The layers that an adapter changes.
    pub(super) fn adapted_by(&self, lora: &Lora) -> Result<Vec<(&LinearLayer, LinearRole)>> {
        if !lora.scale.is_finite() {
            return Err(Error::value("scale of an adapter", "a finite number", lora.scale));
        }
        let layers: BTreeMap<&str, (&LinearLayer, LinearRole)> =
            self.found.iter().map(|(layer, role)| (layer.path.as_str(), (layer, *role))).collect();
        let adapted = lora.layers.iter().map(|(path, factors)| {
            let &(layer, role) = layers
                .get(path.as_str())
                .ok_or_else(|| Error::value("layer of an adapter", "a linear layer", path))?;
            layer.check_factors(factors)?;
            Ok((layer, role))
        });
        adapted.collect()
    }
}

impl ModuleVisitor for Layers {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = joined(&self.path);
        if let (Some(&role), Some(path)) =
            (self.roles.0.get(&param.id), path.strip_suffix(".weight"))
        {
            let shape = param.lazy_shape();
            let (inputs, outputs) = (shape[0], shape[1]);
            self.found.push((LinearLayer { path: path.to_owned(), inputs, outputs }, role));
        }
        self.adapted |= path.contains(".weight.lora.parts.");
        self.quantized |= param.is_initialized() && quantized_bits(&param.base()).is_some();
    }
}

/// Reads the factors of the first adapter of each layer.
struct Reader {
    path: Vec<String>,
    found: Result<BTreeMap<String, LoraFactors>>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = joined(&self.path);
        let Some((layer, factor)) = path.split_once(".weight.lora.parts.0.adapter.") else {
            return;
        };
        let Ok(found) = &mut self.found else { return };
        let values = param.val().transpose().cast(DType::F32).try_into_vec_as::<f32>();
        let values = match values {
            Ok(values) => values,
            Err(error) => {
                self.found = Err(Error::device("reading an adapter", error));
                return;
            }
        };
        let empty = LoraFactors { rank: 0, a: Vec::new(), b: Vec::new() };
        let factors = found.entry(layer.to_owned()).or_insert(empty);
        match factor {
            "a" => (factors.rank, factors.a) = (param.lazy_shape()[1], values),
            _ => factors.b = values,
        }
    }
}
