use burn::tensor::{DType, Device, Tensor, TensorData};

use super::Gemma2Config;

/// Rotary position embedding of the half-split kind: channel `j` turns together with channel
/// `j + head_dim / 2`.
#[derive(Debug)]
pub(super) struct Rotary {
    /// `[1, L, 1, head_dim / 2]`, as is `sin`.
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotary {
    /// The angles of positions `0..length`, computed in f32 as the official code does.
    pub(super) fn new(config: &Gemma2Config, length: usize, dtype: DType, device: &Device) -> Self {
        let half = config.head_dim / 2;
        let frequency = |j: usize| {
            1.0 / (config.rope_theta as f32).powf((2 * j) as f32 / config.head_dim as f32)
        };
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles = || (0..length).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f));
        let table = |values: Vec<f32>| {
            let data = TensorData::new(values, [1, length, 1, half]);
            Tensor::<4>::from_data(data, device).cast(dtype)
        };
        Self {
            cos: table(angles().map(f32::cos).collect()),
            sin: table(angles().map(f32::sin).collect()),
        }
    }

    /// Rotates `[B, L, heads, head_dim]`.
    pub(super) fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (&self.cos, &self.sin);
        let turned_a = a.clone() * cos.clone() - b.clone() * sin.clone();
        let turned_b = b * cos.clone() + a * sin.clone();
        Tensor::cat(vec![turned_a, turned_b], 3)
    }
}
