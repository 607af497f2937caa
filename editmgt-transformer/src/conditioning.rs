//! The vectors that modulate every block: timestep, pooled text and micro-conditions.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use editmgt_core::MicroConditions;
use editmgt_kernels::linear_layer;

use crate::rows::in_company;

/// Channels of one embedded number.
pub(crate) const SINUSOID: usize = 256;

/// Channels of the embedded micro-conditions.
pub(crate) const MICRO: usize = 5 * SINUSOID;

/// Wave length of the slowest channel, over 2π.
const MAX_PERIOD: f64 = 10000.0;

/// Timesteps come in units of 1/1000, by the official code.
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
        in_company(x, |x| {
            let hidden = activation::silu(linear_layer(&self.linear_1, x));
            linear_layer(&self.linear_2, hidden)
        })
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

    /// `pooled`: `[B, D]`, pooled text and micro-conditions, already projected.
    pub(crate) fn forward(&self, timestep: &[f32], pooled: Tensor<2>) -> Conditioning {
        let (device, dtype) = (pooled.device(), pooled.dtype());
        let text = self.text_embedder.forward(pooled);
        let embed = |timestep: &[f32]| {
            let scaled: Vec<f32> = timestep.iter().map(|t| t * TIMESTEP_SCALE).collect();
            self.timestep_embedder.forward(sinusoids(&scaled, 1, &device, dtype))
        };
        Conditioning { canvas: embed(timestep) + text.clone(), reference: embed(&[0.0]) + text }
    }
}

/// Embeds the micro-conditions, `[B, 5 * 256]`, number by number.
pub(crate) fn micro_sinusoids(
    micro: &[MicroConditions],
    device: &Device,
    dtype: DType,
) -> Tensor<2> {
    let values: Vec<f32> = micro.iter().flat_map(|m| m.values()).collect();
    sinusoids(&values, MICRO / SINUSOID, device, dtype)
}

/// `[cos(v f₀) … cos(v f₁₂₇), sin(v f₀) … sin(v f₁₂₇)]` for each value; `per_row` values side by
/// side.
///
/// A handful of numbers, so they are computed on the host, the same on every device. The products
/// are rounded to f32 like the official ones: timesteps go up to a million, where the rounding of
/// the angle is as large as 0.03 and part of what the model was trained on.
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
    // The official `exp` is a vectorised one that rounds this entry up where it lies closer to the
    // number below. At a timestep of a million that last bit turns the angle by 0.03, and moves
    // logits by 0.01. Found from the recorded conditioning; all other entries that can be told
    // apart are rounded correctly.
    frequencies[12] = frequencies[12].next_up();
    frequencies
}
