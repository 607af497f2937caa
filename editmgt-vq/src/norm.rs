use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use editmgt_kernels::{group_norm_silu, group_norm_silu_given};

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

    /// As [`forward`](Self::forward), with mean and variance of each image's groups.
    pub(crate) fn forward_given(&self, x: Tensor<4>, statistics: &[(f32, f32)]) -> Tensor<4> {
        group_norm_silu_given(x, self.weight.val(), self.bias.val(), statistics, EPSILON)
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;

    /// The squares of the first group overflow f16; the mean of the second, 259, isn't
    /// representable in bf16, whose spacing is 2 there.
    #[test]
    fn statistics_are_computed_in_f32() {
        let device = Device::flex();
        let rows = [[-59392.0, 500.0, 4000.0, 24.0], [256.0, 258.0, 260.0, 262.0]];
        let x = Tensor::<2>::from_floats(rows, &device).reshape([1, 2, 2, 2]);
        let exact = GroupNormSilu::new(2, 2, &device).forward(x.clone());
        for (dtype, tolerance) in [(DType::BF16, 8e-3), (DType::F16, 1e-3)] {
            let got = GroupNormSilu::new(2, 2, &device).forward(x.clone().cast(dtype));
            assert_eq!(got.dtype(), dtype);
            let error = (got.cast(DType::F32) - exact.clone()).abs().max().into_scalar::<f32>();
            // One rounding of numbers up to 2, to 8 bits or 11.
            assert!(error <= tolerance, "{dtype:?}: {error}");
        }
    }
}
