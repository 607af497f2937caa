use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use editmgt_kernels::{add, gelu, linear_layer};

use crate::amused::attention::Attention;
use crate::amused::capture::Probe;
use crate::amused::config::UVit2DConfig;
use crate::amused::modulation::{AdaLayerNorm, AdaRmsNorm};
use crate::amused::trace::LayerPart;

/// Self attention, attention to the text, and a gated feed-forward network, each after a norm that
/// the conditioning modulates and each added to the stream.
#[derive(Module, Debug)]
pub(super) struct TransformerLayer {
    norm1: AdaRmsNorm,
    attn1: Attention,
    norm2: AdaRmsNorm,
    attn2: Attention,
    norm3: AdaLayerNorm,
    ff: GatedFeedForward,
}

/// GEGLU (arXiv 2002.05202) and a linear layer.
#[derive(Module, Debug)]
struct GatedFeedForward {
    /// Values, then gates.
    proj_in: Linear,
    proj_out: Linear,
}

impl GatedFeedForward {
    fn new(width: usize, hidden: usize, device: &Device) -> Self {
        let linear =
            |inputs, outputs| LinearConfig::new(inputs, outputs).with_bias(false).init(device);
        Self { proj_in: linear(width, 2 * hidden), proj_out: linear(hidden, width) }
    }

    /// `[B, N, D]` to the same.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let both = linear_layer(&self.proj_in, x);
        let [_, _, channels] = both.dims();
        let half = channels / 2;
        let (value, gate) = (both.clone().narrow(2, 0, half), both.narrow(2, half, half));
        linear_layer(&self.proj_out, value * gelu(gate))
    }
}

impl TransformerLayer {
    pub(super) fn new(config: &UVit2DConfig, device: &Device) -> Self {
        let (width, epsilon) = (config.hidden_size, config.layer_norm_eps);
        let attention = || Attention::new(width, config.num_attention_heads, device);
        Self {
            norm1: AdaRmsNorm::new(width, epsilon, device),
            attn1: attention(),
            norm2: AdaRmsNorm::new(width, epsilon, device),
            attn2: attention(),
            norm3: AdaLayerNorm::new(width, epsilon, device),
            ff: GatedFeedForward::new(width, config.intermediate_size, device),
        }
    }

    /// `[B, N, D]`, with the text `[B, T, D]` and the conditioning `[B, D]` after SiLU, to the
    /// same.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        text: &Tensor<3>,
        conditioning: &Tensor<2>,
        mut probe: Option<Probe<'_, '_>>,
        mut trace: impl FnMut(LayerPart, &Tensor<3>),
    ) -> Tensor<3> {
        let normed = self.norm1.forward(x.clone(), conditioning);
        trace(LayerPart::Norm1, &normed);
        let attended = self.attn1.forward(normed.clone(), normed, None);
        trace(LayerPart::Attention1, &attended);
        let x = add(x, attended);

        let normed = self.norm2.forward(x.clone(), conditioning);
        trace(LayerPart::Norm2, &normed);
        let attended = self.attn2.forward(normed, text.clone(), probe.as_mut());
        trace(LayerPart::Attention2, &attended);
        let x = add(x, attended);

        let normed = self.norm3.forward(x.clone(), conditioning);
        trace(LayerPart::Norm3, &normed);
        let fed = self.ff.forward(normed);
        trace(LayerPart::FeedForward, &fed);
        add(x, fed)
    }
}
