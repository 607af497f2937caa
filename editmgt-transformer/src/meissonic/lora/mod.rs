//! Low-rank adapters of linear layers (LoRA, Hu et al., arXiv 2106.09685).
//!
//! The factors are burn's [`LoraAdapter`], attached to the weight that they change, so that
//! optimizers, checkpoints and devices treat them like any other parameter. burn adds an adapter to
//! the weight, for all inputs. Here the reference shares its weights with image and text, and an
//! adapter may apply to one of these streams only, so its product is added to the layer's output
//! for the tokens of that stream, which also leaves the frozen weight without a gradient to
//! compute.

mod attach;
mod merge;
mod types;
mod visit;

use burn::module::{LoraAdapter, Module, Reparameterization};
use burn::nn::Dropout;
use burn::tensor::Tensor;

pub use types::{LinearLayer, Lora, LoraFactors, LoraStreams};
pub(crate) use visit::{LinearRole, LinearRoles};

use crate::meissonic::pass::Stream;

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

    /// The weight with all adapters merged, of any streams.
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        self.parts.iter().fold(base, |weight, part| {
            let dtype = part.adapter.a.val().dtype();
            part.adapter.apply(weight.cast(dtype))
        })
    }
}

impl StreamLora {
    /// Adds the products of this stream's adapters to the `output` of a layer, `[rows, outputs]`.
    /// The input comes in pieces, `[rows, inputs of the piece]` each.
    pub(crate) fn add(&self, output: Tensor<2>, rows: &[Tensor<2>], stream: Stream) -> Tensor<2> {
        let parts = self.parts.iter().filter(|part| part.streams.includes(stream));
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

#[cfg(test)]
mod tests;
