//! Adapters merged into the weights.

use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::{DType, Tensor};
use editmgt_core::{Error, Result};
use editmgt_kernels::dequantize;

use super::{Lora, LoraStreams, StreamLora};
use crate::MgtModel;

impl MgtModel {
    /// Adds `scale · B A` to the weights. A scale of 0 changes nothing.
    ///
    /// # Errors
    /// [`Error::Value`] for an unknown layer, or an adapter that is not for all streams;
    /// [`Error::Shape`] for factors of the wrong size.
    pub fn merge_lora(self, lora: &Lora) -> Result<Self> {
        if lora.streams != LoraStreams::Both {
            let got = format!("{:?}", lora.streams);
            return Err(Error::value("streams of an adapter to merge", "Both", got));
        }
        self.visit_layers().adapted_by(lora)?;
        if lora.scale == 0.0 {
            return Ok(self);
        }
        let dtype = self.dtype();
        Ok(self.apply_reparameterization(Merge { lora, dtype }))
    }
}

/// Merges an adapter into weights.
struct Merge<'a> {
    lora: &'a Lora,
    /// The dtype of activations, and of merged weights also if they were in half precision: the sum
    /// keeps its precision.
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
            let weight = dequantize(weight.detach());
            // In f32 for weights of any dtype: the sum is rounded once.
            let [a, b] = factors.tensors(&weight.device(), DType::F32);
            let sum =
                weight.clone().cast(DType::F32) + (a.matmul(b) * scale).reshape(weight.shape());
            sum.cast(self.dtype).set_require_grad(tracked)
        });
        (merged, None)
    }
}
