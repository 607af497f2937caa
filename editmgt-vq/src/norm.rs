use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use editmgt_kernels::group_norm_silu;

/// Added to every variance by the official code.
const EPSILON: f64 = 1e-6;

/// Group norm and the SiLU that always follows it in this model.
#[derive(Module, Debug)]
pub(crate) struct GroupNormSilu {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    groups: usize,
}

impl GroupNormSilu {
    /// `groups` divides `channels` (the config is checked).
    pub(crate) fn new(groups: usize, channels: usize, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
            groups,
        }
    }

    /// `[B, C, H, W]` to the same.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        group_norm_silu(x, self.weight.val(), self.bias.val(), self.groups, EPSILON)
    }
}
