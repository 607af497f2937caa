use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, RmsNorm};
use burn::tensor::{Device, Int, Tensor, s};
use editmgt_kernels::{PackedWeights, dequantize, embed, linear};

use crate::norm::{rms_norm, rms_norm_config};

/// Token embedding: table row of `inner` channels, RMS norm, 1x1 convolution.
#[derive(Module, Debug)]
pub(crate) struct TokenEmbedding {
    embeddings: Embedding,
    layer_norm: RmsNorm,
    conv: Param<Tensor<4>>,
}

impl TokenEmbedding {
    /// `channels` are those of the table and of the result.
    pub(crate) fn new(
        vocabulary: usize,
        channels: [usize; 2],
        epsilon: f64,
        device: &Device,
    ) -> Self {
        let [inner, width] = channels;
        Self {
            embeddings: EmbeddingConfig::new(vocabulary, inner).init(device),
            layer_norm: rms_norm_config(inner, epsilon).init(device),
            conv: conv_param([width, inner, 1, 1], inner, device),
        }
    }

    /// Replaces the first rows of the table by `[codes, D]`.
    pub(crate) fn set_first_rows(&mut self, rows: Tensor<2>) {
        let (dtype, table) = (self.layer_norm.gamma.val().dtype(), &mut self.embeddings.weight);
        *table = table.clone().map(|old| {
            // The table may be quantised or in half precision, which would round the rows.
            let old = dequantize(old).cast(dtype);
            let [count, _] = rows.dims();
            let rest = old.clone().detach().slice(s![count.., ..]);
            let rows = Tensor::cat(vec![placed_like(rows, &old), rest], 0);
            rows.detach().set_require_grad(old.is_require_grad())
        });
    }

    /// Ids `[B, H, W]` to features `[B, H*W, D]`. Ids must be below the vocabulary.
    pub(crate) fn forward(&self, ids: Tensor<3, Int>) -> Tensor<3> {
        let [batch, height, width] = ids.dims();
        let rows = embed(&self.embeddings, ids.reshape([batch, height * width]));
        let rows = rows.cast(self.layer_norm.gamma.val().dtype());
        pointwise_conv(&self.conv, rms_norm(&self.layer_norm, rows))
    }
}

/// Moves values to the dtype and the device of `like`, with autodiff if it has it.
pub(crate) fn placed_like<const D: usize>(values: Tensor<D>, like: &Tensor<D>) -> Tensor<D> {
    let values = if values.is_autodiff() { values.inner() } else { values };
    let values = values.cast(like.dtype()).to_device(&like.device().inner());
    if like.is_autodiff() { values.autodiff() } else { values }
}

/// A lazy random convolution weight in the checkpoint's shape.
pub(crate) fn conv_param(shape: [usize; 4], fan_in: usize, device: &Device) -> Param<Tensor<4>> {
    // The usual ±1/sqrt(fan in) of linear layers and convolutions.
    let initializer = Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false };
    initializer.init_with(shape, Some(fan_in), None, device)
}

/// A 1x1 convolution without bias, `[out, in, 1, 1]`, on tokens `[B, N, in]`.
pub(crate) fn pointwise_conv(weight: &Param<Tensor<4>>, x: Tensor<3>) -> Tensor<3> {
    let [batch, tokens, inputs] = x.dims();
    let weight = weight.val();
    let [outputs, ..] = weight.dims();
    // Rank 2 on both sides, so that a backend can read the transposed weight in place.
    let weight = weight.reshape([outputs, inputs]).transpose();
    let x = arranged_product(x.reshape([batch * tokens, inputs]), weight);
    x.reshape([batch, tokens, outputs])
}

/// `x · weight`, `[N, in]` times `[in, out]`, of a convolution whose weight is arranged anew for
/// each product: its packed form is not kept.
pub(crate) fn arranged_product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    PackedWeights::new(0).install(|| linear(x, weight, None))
}
