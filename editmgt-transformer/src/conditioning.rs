//! The vectors that modulate every block, from timestep, pooled text and micro-conditions.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use editmgt_core::MicroConditions;
use editmgt_kernels::linear_layer;

use crate::meissonic::lora::{LinearRole, LinearRoles};
use crate::meissonic::rows::pad_single_f16_row;

/// Channels of one embedded value.
pub(crate) const SINUSOID: usize = 256;

/// Channels of the embedded micro-conditions.
pub(crate) const MICRO: usize = 5 * SINUSOID;

/// Wave length of the slowest channel, over 2π.
const MAX_PERIOD: f64 = 10000.0;

/// The frequency that the official `exp`, a vectorised one, rounds up although the value below is
/// closer. At a timestep of a million that last bit changes the angle by 0.03 and logits by 0.01.
/// Found from recorded conditioning vectors; all other entries whose rounding they determine are
/// rounded correctly.
const ROUNDED_UP: usize = 12;

/// Timesteps are embedded in units of 1/1000, as in the official code.
const TIMESTEP_SCALE: f32 = 1000.0;

/// Linear, SiLU, linear, on one vector per batch item.
#[derive(Module, Debug)]
pub(crate) struct Mlp {
    linear_1: Linear,
    linear_2: Linear,
}

impl Mlp {
    pub(crate) fn new(inputs: usize, width: usize, bias: bool, device: &Device) -> Self {
        Self {
            linear_1: LinearConfig::new(inputs, width).with_bias(bias).init(device),
            linear_2: LinearConfig::new(width, width).with_bias(bias).init(device),
        }
    }

    /// `[B, inputs]` to `[B, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        pad_single_f16_row(x, |x| {
            let hidden = activation::silu(linear_layer(&self.linear_1, x));
            linear_layer(&self.linear_2, hidden)
        })
    }

    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles) {
        roles.declare(LinearRole::Conditioning, [&self.linear_1, &self.linear_2]);
    }
}

/// Embeds the timestep and adds the embedded text vector.
#[derive(Module, Debug)]
pub(crate) struct TimeTextEmbedding {
    timestep_embedder: Mlp,
    text_embedder: Mlp,
}

/// The conditioning vectors of a forward pass, `[B, D]` each, before the SiLU of the blocks.
#[derive(Debug)]
pub(crate) struct Conditioning {
    /// Of the text and image streams.
    pub(crate) canvas: Tensor<2>,
    /// Of the reference stream: the same at timestep 0.
    pub(crate) reference: Tensor<2>,
}

impl TimeTextEmbedding {
    pub(crate) fn new(width: usize, device: &Device) -> Self {
        Self {
            timestep_embedder: Mlp::new(SINUSOID, width, true, device),
            text_embedder: Mlp::new(width, width, true, device),
        }
    }

    /// Timesteps `[B]` and projected pooled text with micro-conditions `[B, D]`, to `[B, D]` each.
    pub(crate) fn forward(&self, timestep: &[f32], pooled: Tensor<2>) -> Conditioning {
        let (device, dtype) = (pooled.device(), pooled.dtype());
        let text = self.text_embedder.forward(pooled);
        let embed = |timestep: &[f32]| {
            let scaled: Vec<f32> = timestep.iter().map(|t| t * TIMESTEP_SCALE).collect();
            self.timestep_embedder.forward(sinusoids(&scaled, 1, &device, dtype))
        };
        Conditioning { canvas: embed(timestep) + text.clone(), reference: embed(&[0.0]) + text }
    }

    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles) {
        self.timestep_embedder.declare_roles(roles);
        self.text_embedder.declare_roles(roles);
    }
}

/// Embeds the micro-conditions value by value, to `[B, 5 * 256]`.
pub(crate) fn micro_sinusoids(
    micro: &[MicroConditions],
    device: &Device,
    dtype: DType,
) -> Tensor<2> {
    let values: Vec<f32> = micro.iter().flat_map(|m| m.values()).collect();
    sinusoids(&values, MICRO / SINUSOID, device, dtype)
}

/// `[cos(v f₀) … cos(v f₁₂₇), sin(v f₀) … sin(v f₁₂₇)]` for each value, `per_row` values in a row.
///
/// Computed on the host, so the result is the same on every device. The products are rounded to f32
/// as in the official code: timesteps go up to a million, where the rounding error of the angle is
/// as large as 0.03 and part of what the model was trained on.
fn sinusoids(values: &[f32], per_row: usize, device: &Device, dtype: DType) -> Tensor<2> {
    let frequencies = frequencies();
    let mut rows = Vec::with_capacity(values.len() * SINUSOID);
    for &value in values {
        let angle = |f: &f32| f64::from(value * f);
        rows.extend(frequencies.iter().map(|f| angle(f).cos() as f32));
        rows.extend(frequencies.iter().map(|f| angle(f).sin() as f32));
    }
    let shape = [values.len() / per_row, per_row * SINUSOID];
    Tensor::from_data(TensorData::new(rows, shape), (device, dtype))
}

/// `f_k = 10000^(-k/128)`, to the last bit of the official f32 table: the exponent is rounded to
/// f32, then its exponential.
fn frequencies() -> Vec<f32> {
    let half = SINUSOID / 2;
    let slope = -MAX_PERIOD.ln() as f32;
    let frequency = |k: usize| f64::from(slope * k as f32 / half as f32).exp() as f32;
    let mut frequencies: Vec<f32> = (0..half).map(frequency).collect();
    frequencies[ROUNDED_UP] = frequencies[ROUNDED_UP].next_up();
    frequencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_match_the_official_table() {
        let frequencies = frequencies();
        assert_eq!(frequencies.len(), SINUSOID / 2);
        // Bits of the official f32 table, around the entry that its `exp` rounds up.
        let exact = |k: f64| (-(MAX_PERIOD.ln() as f32) as f64 * k / 128.0).exp();
        assert_eq!((frequencies[0], frequencies[64]), (1.0, 0.01));
        let below = f32::from_bits(frequencies[ROUNDED_UP].to_bits() - 1);
        assert_eq!(frequencies[ROUNDED_UP].to_bits(), 0x3ed7_e89b);
        assert!(
            f64::from(below) <= exact(12.0) && exact(12.0) < f64::from(frequencies[ROUNDED_UP])
        );
        for k in [ROUNDED_UP - 1, ROUNDED_UP + 1] {
            let relative = f64::from(frequencies[k]) / exact(k as f64) - 1.0;
            assert!(relative.abs() < f64::from(f32::EPSILON), "{k}: {relative:e}");
        }
    }
}
