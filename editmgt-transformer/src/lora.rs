//! Low-rank adapters of linear layers (LoRA, Hu et al. 2021).
//!
//! The factors are burn's own [`LoraAdapter`], attached to the weight that they change, so that
//! optimizers, checkpoints and devices see them like any other parameter. What burn does not know
//! is streams: the reference rows share their weights with image and text, and an adapter may be
//! meant for one of these alone. burn adds an adapter to the weight itself; here its product is
//! added to the rows that it is meant for, which also leaves the frozen weight without a gradient
//! to compute.

use std::collections::BTreeMap;

use burn::module::{
    LoraAdapter, Module, ModuleVisitor, Param, Reparameterization, Reparameterizer,
};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use editmgt_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::MgtModel;

/// Which rows of the sequence an adapter changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraStreams {
    /// The canvas: image rows, and the text rows that share their weights in single blocks.
    Image,
    /// The reference's rows. Without a reference, the model is as it was.
    Reference,
    /// All rows: the same as adding the product to the weight.
    #[default]
    Both,
}

/// Whose rows go through a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Text and image.
    Canvas,
    /// The reference.
    Reference,
}

impl LoraStreams {
    fn includes(self, side: Side) -> bool {
        match self {
            Self::Image => side == Side::Canvas,
            Self::Reference => side == Side::Reference,
            Self::Both => true,
        }
    }
}

/// The two factors of one layer; the layer's weight changes by `scale · B A`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFactors {
    /// Rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// A, `[rank, inputs]` row-major.
    pub a: Vec<f32>,
    /// B, `[outputs, rank]` row-major.
    pub b: Vec<f32>,
}

/// An adapter of a whole model.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The factors, by the path of the layer in the model ([`LinearLayer::path`]).
    pub layers: BTreeMap<String, LoraFactors>,
    /// What the products are multiplied with.
    pub scale: f64,
    /// The rows that it changes.
    pub streams: LoraStreams,
    /// The share of a layer's inputs that the adapter misses while it is trained, 0 to below 1.
    pub dropout: f64,
}

/// A linear layer of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearLayer {
    /// Its path in the model, for instance `transformer_blocks.0.attn.to_q`.
    pub path: String,
    /// Features that go in.
    pub inputs: usize,
    /// Features that come out.
    pub outputs: usize,
}

/// Which rows a layer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    /// Those of text or image.
    Canvas,
    /// Those of the image side and, apart from them, those of the reference.
    Streams,
    /// No rows: it conditions all streams at once.
    Conditioning,
}

impl LinearLayer {
    fn serves(&self) -> Serves {
        let path = self.path.as_str();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        let of_text = ["norm1_context", ".add_", ".to_add_out", "ff_context"];
        if starts(&["context_embedder", "connector", "project_from_hidden"]) {
            return Serves::Canvas;
        }
        if starts(&["transformer_blocks."]) && of_text.iter().any(|part| path.contains(part)) {
            return Serves::Canvas;
        }
        match starts(&["transformer_blocks.", "single_transformer_blocks.", "project_to_hidden"]) {
            true => Serves::Streams,
            false => Serves::Conditioning,
        }
    }

    fn check_streams(&self, streams: LoraStreams) -> Result<()> {
        match (self.serves(), streams) {
            (Serves::Streams, _) | (Serves::Canvas, LoraStreams::Image | LoraStreams::Both) => {
                Ok(())
            }
            (Serves::Canvas, LoraStreams::Reference) => Err(Error::value(
                "layer of an adapter of the reference stream",
                "one that the reference goes through",
                &self.path,
            )),
            (Serves::Conditioning, _) => Err(Error::value(
                "layer of an adapter that is not merged",
                "one that tokens go through (this one conditions all streams at once)",
                &self.path,
            )),
        }
    }

    fn check_factors(&self, factors: &LoraFactors) -> Result<()> {
        let LoraFactors { rank, a, b } = factors;
        let expected = [rank.saturating_mul(self.inputs), rank.saturating_mul(self.outputs)];
        if *rank == 0 || [a.len(), b.len()] != expected {
            let expected = format!(
                "{} and {} values (rank {rank}, 1 or more, for {})",
                expected[0], expected[1], self.path
            );
            return Err(Error::shape(
                "factors A and B",
                expected,
                format!("{} and {}", a.len(), b.len()),
            ));
        }
        Ok(())
    }
}

/// The adapters of one weight.
#[derive(Module, Debug)]
pub(crate) struct StreamLora {
    parts: Vec<StreamLoraPart>,
}

#[derive(Module, Debug)]
struct StreamLoraPart {
    adapter: LoraAdapter,
    dropout: Dropout,
    #[module(skip)]
    streams: LoraStreams,
}

impl Reparameterization for StreamLora {
    const NAME: &'static str = "lora";

    /// The weight with all adapters, whatever their streams: what merging makes of it.
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        self.parts.iter().fold(base, |weight, part| {
            let dtype = part.adapter.a.val().dtype();
            part.adapter.apply(weight.cast(dtype))
        })
    }
}

impl StreamLora {
    /// Adds to the `output` of a layer what the adapters of this side make of its inputs, which
    /// come in pieces.
    pub(crate) fn add(&self, output: Tensor<2>, rows: &[Tensor<2>], side: Side) -> Tensor<2> {
        let parts = self.parts.iter().filter(|part| part.streams.includes(side));
        parts.fold(output, |output, part| output + part.product(rows))
    }
}

impl StreamLoraPart {
    fn product(&self, rows: &[Tensor<2>]) -> Tensor<2> {
        let down = self.adapter.a.val();
        let mut start = 0;
        let mut hidden: Option<Tensor<2>> = None;
        for piece in rows {
            let [_, features] = piece.dims();
            let part = down.clone().narrow(0, start, features);
            start += features;
            let product = self.dropout.forward(piece.clone()).matmul(part);
            hidden = Some(match hidden {
                None => product,
                Some(hidden) => hidden + product,
            });
        }
        let hidden = hidden.expect("a layer has at least one input");
        (hidden * self.adapter.scale).matmul(self.adapter.b.val())
    }
}

impl MgtModel {
    /// All linear layers, in the order of the model.
    pub fn linear_layers(&self) -> Vec<LinearLayer> {
        let mut layers = Layers::default();
        self.visit(&mut layers);
        layers.found
    }

    /// Attaches adapters, beside the weights. With `trained` they are what is trained: every other
    /// parameter is frozen. A scale of 0 attaches nothing.
    ///
    /// # Errors
    /// [`Error::Value`] for a layer that there is not, a layer that no row of the streams goes
    /// through, or a model that has adapters already; [`Error::Shape`] for factors of another size.
    pub fn with_lora(self, loras: &[Lora], trained: bool) -> Result<Self> {
        let mut layers = Layers::default();
        self.visit(&mut layers);
        if layers.adapted {
            return Err(Error::value(
                "adapters of the model",
                "none yet",
                "some; attach all at once",
            ));
        }
        let loras: Vec<&Lora> = loras.iter().filter(|lora| lora.scale != 0.0).collect();
        for lora in &loras {
            for layer in self.adapted(lora)? {
                layer.check_streams(lora.streams)?;
            }
            if !(0.0..1.0).contains(&lora.dropout) {
                return Err(Error::value("dropout of an adapter", "0 to below 1", lora.dropout));
            }
        }
        let dtype = self.dtype();
        Ok(self.apply_reparameterization(Attach { loras, dtype, trained }))
    }

    /// Adds `scale · B A` to the weights, once and for all. A scale of 0 changes nothing.
    ///
    /// # Errors
    /// [`Error::Value`] for a layer that there is not, or an adapter that is not for all streams;
    /// [`Error::Shape`] for factors of another size.
    pub fn merge_lora(self, lora: &Lora) -> Result<Self> {
        if lora.streams != LoraStreams::Both {
            let got = format!("{:?}", lora.streams);
            return Err(Error::value("streams of an adapter to merge", "Both", got));
        }
        self.adapted(lora)?;
        if lora.scale == 0.0 {
            return Ok(self);
        }
        let dtype = self.dtype();
        Ok(self.apply_reparameterization(Merge { lora, dtype }))
    }

    /// Reads back the factors of the adapter that is attached, by the path of the layer; where
    /// there are several, those of the first.
    ///
    /// # Errors
    /// [`Error::Device`] when the device does not hand them over.
    pub fn lora_factors(&self) -> Result<BTreeMap<String, LoraFactors>> {
        let mut reader = Reader { path: Vec::new(), found: Ok(BTreeMap::new()) };
        self.visit(&mut reader);
        reader.found
    }

    /// The layers that an adapter changes.
    fn adapted(&self, lora: &Lora) -> Result<Vec<LinearLayer>> {
        if !lora.scale.is_finite() {
            return Err(Error::value("scale of an adapter", "a finite number", lora.scale));
        }
        let layers: BTreeMap<String, LinearLayer> =
            self.linear_layers().into_iter().map(|layer| (layer.path.clone(), layer)).collect();
        let adapted = lora.layers.iter().map(|(path, factors)| {
            let layer = layers
                .get(path)
                .ok_or_else(|| Error::value("layer of an adapter", "a linear layer", path))?;
            layer.check_factors(factors)?;
            Ok(layer.clone())
        });
        adapted.collect()
    }
}

/// The dotted path of a traversal.
fn joined(names: &[String]) -> String {
    names.join(".")
}

/// Finds the linear layers.
#[derive(Default)]
struct Layers {
    path: Vec<String>,
    /// The kind of module that each name of the path is a field of.
    containers: Vec<String>,
    found: Vec<LinearLayer>,
    /// Whether any of them has an adapter.
    adapted: bool,
}

impl ModuleVisitor for Layers {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = joined(&self.path);
        let is_linear = self.containers.last().is_some_and(|kind| kind == "Struct:Linear");
        if let (true, Some(path)) = (is_linear, path.strip_suffix(".weight")) {
            let shape = param.lazy_shape();
            let (inputs, outputs) = (shape[0], shape[1]);
            self.found.push(LinearLayer { path: path.to_owned(), inputs, outputs });
        }
        self.adapted |= path.contains(".weight.lora.parts.");
    }
}

/// Reads the factors of first adapters.
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

/// Puts adapters beside weights.
struct Attach<'a> {
    loras: Vec<&'a Lora>,
    /// That of activations.
    dtype: DType,
    trained: bool,
}

impl Reparameterizer for Attach<'_> {
    type Reparam = StreamLora;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<StreamLora>) {
        let param = if self.trained { param.set_require_grad(false) } else { param };
        let Some(layer) = path.strip_suffix(".weight") else { return (param, None) };
        let mut parts = Vec::new();
        for lora in &self.loras {
            let Some(factors) = lora.layers.get(layer) else { continue };
            let [a, b] = factors.tensors(&param.base().device(), self.dtype);
            let factor = |tensor| Param::from_tensor(tensor).set_require_grad(self.trained);
            let adapter = LoraAdapter { a: factor(a), b: factor(b), scale: lora.scale };
            let dropout = DropoutConfig::new(lora.dropout).init();
            parts.push(StreamLoraPart { adapter, dropout, streams: lora.streams });
        }
        (param, (!parts.is_empty()).then_some(StreamLora { parts }))
    }
}

/// Adds an adapter to weights.
struct Merge<'a> {
    lora: &'a Lora,
    /// That of activations. Weights that are narrower get it, too: the sum shall lose nothing.
    dtype: DType,
}

impl Reparameterizer for Merge<'_> {
    type Reparam = StreamLora;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<StreamLora>) {
        let layer = path.strip_suffix(".weight");
        let Some(factors) = layer.and_then(|layer| self.lora.layers.get(layer)) else {
            return (param, None);
        };
        let scale = self.lora.scale;
        let merged = param.map(|weight| {
            let tracked = weight.is_require_grad();
            let weight = weight.detach();
            // Whatever the dtype of the weights: the sum is rounded once.
            let [a, b] = factors.tensors(&weight.device(), DType::F32);
            let sum =
                weight.clone().cast(DType::F32) + (a.matmul(b) * scale).reshape(weight.shape());
            sum.cast(self.dtype).set_require_grad(tracked)
        });
        (merged, None)
    }
}

impl LoraFactors {
    /// A and B as burn's layers hold weights: `[inputs, rank]` and `[rank, outputs]`.
    fn tensors(&self, device: &Device, dtype: DType) -> [Tensor<2>; 2] {
        let transposed = |values: &[f32], rows: usize, columns: usize| {
            let data = TensorData::new(values.to_vec(), [rows, columns]);
            Tensor::<2>::from_data(data, (device, DType::F32)).transpose().cast(dtype)
        };
        let (inputs, outputs) = (self.a.len() / self.rank, self.b.len() / self.rank);
        [transposed(&self.a, self.rank, inputs), transposed(&self.b, outputs, self.rank)]
    }
}

#[cfg(test)]
mod tests;
