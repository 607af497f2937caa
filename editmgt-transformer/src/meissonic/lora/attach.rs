//! Adapters beside the weights.

use burn::module::{LoraAdapter, Module, Param, Reparameterizer};
use burn::nn::DropoutConfig;
use burn::tensor::{DType, Tensor};
use editmgt_core::{Error, Result};

use super::{Lora, StreamLora, StreamLoraPart};
use crate::MgtModel;

impl MgtModel {
    /// Attaches adapters, without changing the weights. With `trained`, their factors are the only
    /// trainable parameters: all others are frozen. An adapter with scale 0 is ignored.
    ///
    /// # Errors
    /// [`Error::Value`] for an unknown layer, a layer that no token of the adapter's streams goes
    /// through, or a model that already has adapters; [`Error::Shape`] for factors of the wrong
    /// size.
    pub fn with_lora(self, loras: &[Lora], trained: bool) -> Result<Self> {
        let layers = self.visit_layers();
        if layers.adapted {
            return Err(Error::value(
                "adapters of the model",
                "none yet",
                "some; attach all at once",
            ));
        }
        let loras: Vec<&Lora> = loras.iter().filter(|lora| lora.scale != 0.0).collect();
        for lora in &loras {
            for (layer, role) in layers.adapted_by(lora)? {
                layer.check_streams(role, lora.streams)?;
            }
            if !(0.0..1.0).contains(&lora.dropout) {
                return Err(Error::value("dropout of an adapter", "0 to below 1", lora.dropout));
            }
        }
        let dtype = self.dtype();
        Ok(self.apply_reparameterization(Attach { loras, dtype, trained }))
    }
}

/// Attaches adapters to weights.
struct Attach<'a> {
    loras: Vec<&'a Lora>,
    /// The dtype of activations.
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
