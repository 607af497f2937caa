//! Multi-head attention, of the image to itself or to the text.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor};
use editmgt_kernels::{KeyValues, attention, linear_layer};

use crate::amused::capture::Probe;

/// Projections without bias around a softmax attention.
#[derive(Module, Debug)]
pub(super) struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    pub(super) fn new(width: usize, heads: usize, device: &Device) -> Self {
        let square = || LinearConfig::new(width, width).with_bias(false).init(device);
        Self { to_q: square(), to_k: square(), to_v: square(), to_out: square(), heads }
    }

    /// Queries from `[B, N, D]`, keys and values from `[B, S, D]`, to `[B, N, D]`. Softmax and sums
    /// are f32.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        context: Tensor<3>,
        probe: Option<&mut Probe<'_, '_>>,
    ) -> Tensor<3> {
        let dtype = x.dtype();
        let query = self.split(linear_layer(&self.to_q, x));
        let key = self.split(linear_layer(&self.to_k, context.clone()));
        let value = self.split(linear_layer(&self.to_v, context));
        if let Some(probe) = probe {
            probe.record(&query, &key);
        }
        let attended = attention(query, &KeyValues::new(key, value)).cast(dtype);
        linear_layer(&self.to_out, attended)
    }

    /// `[B, N, D]` to `[B, heads, N, D / heads]` in f32.
    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, width] = x.dims();
        let x = x.cast(DType::F32).reshape([batch, tokens, self.heads, width / self.heads]);
        x.swap_dims(1, 2)
    }
}
