use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};

use super::Gemma2Config;
use crate::precision::is_half;

/// `x / rms(x) * (1 + weight)` over the last axis, all of it in f32: the official norm keeps its
/// weights around 0 and rounds only the result.
#[derive(Module, Debug)]
pub(super) struct Gemma2Norm {
    weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl Gemma2Norm {
    pub(super) fn new(config: &Gemma2Config, device: &Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([config.hidden_size], device),
            epsilon: config.rms_norm_eps,
        }
    }

    pub(super) fn dtype(&self) -> DType {
        self.weight.val().dtype()
    }

    /// `[B, L, D]` to `[B, L, D]`.
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = x.dtype();
        let widen = is_half(dtype);
        let (x, weight) = if widen {
            (x.cast(DType::F32), self.weight.val().cast(DType::F32))
        } else {
            (x, self.weight.val())
        };
        let rms = (x.clone().square().mean_dim(2) + self.epsilon).sqrt();
        let x = x / rms * (weight + 1.0).unsqueeze();
        if widen { x.cast(dtype) } else { x }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_f32_statistics;

    #[test]
    fn norms_take_their_statistics_in_f32() {
        check_f32_statistics(|x| {
            let weight = Initializer::Zeros.init([8], &x.device());
            Gemma2Norm { weight, epsilon: 1e-6 }.forward(x)
        });
    }
}
