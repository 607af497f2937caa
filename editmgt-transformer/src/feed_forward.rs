use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation};

use crate::lora::Side;
use crate::rows::linear_rows;

/// Hidden channels per channel, in the feed-forward layers of every block.
pub(crate) const EXPANSION: usize = 4;

/// Linear, GELU (tanh form), linear.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    proj_in: Linear,
    proj_out: Linear,
}

impl FeedForward {
    pub(crate) fn new(width: usize, device: &Device) -> Self {
        let hidden = width * EXPANSION;
        Self {
            proj_in: LinearConfig::new(width, hidden).init(device),
            proj_out: LinearConfig::new(hidden, width).init(device),
        }
    }

    /// `[B, N, D]` to `[B, N, D]`.
    pub(crate) fn forward(&self, x: Tensor<3>, side: Side) -> Tensor<3> {
        linear_rows(&self.proj_out, gelu_tanh(linear_rows(&self.proj_in, x, side)), side)
    }
}

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
///
/// Written with the identity `(1 + tanh u)/2 = σ(2u)`: one transcendental function instead of a
/// `tanh` and a general power, which is what burn's own form costs, and no cancellation for large
/// negative `x`.
pub(crate) fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let slope = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let u = (x.clone() * x.clone() * (slope * 0.044715) + slope) * x.clone();
    activation::sigmoid(u) * x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_the_tanh_form() {
        let x: Vec<f32> = (-600..=600).map(|i| i as f32 / 50.0).collect();
        let got = gelu_tanh(Tensor::<1>::from_floats(&x[..], &Device::flex()));
        let got = got.try_into_vec_as::<f32>().unwrap();
        for (&x, got) in x.iter().zip(got) {
            let x = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let expected = 0.5 * x * (1.0 + u.tanh());
            // A few f32 roundings of the argument and of the result.
            let tolerance = 1e-6 * x.abs().max(0.1);
            assert!((f64::from(got) - expected).abs() < tolerance, "{x}: {got} or {expected}");
        }
    }
}
