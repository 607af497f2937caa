//! Rotary position embedding on two axes (Su et al., arXiv 2104.09864).

use burn::nn::RmsNorm;
use burn::tensor::{Device, Int, Tensor};
use editmgt_core::{GridSize, Upload};
use editmgt_kernels::norm_and_rotate;

/// The frequencies of the rotation.
#[derive(Debug, Clone)]
pub(crate) struct Frequencies {
    /// Channels of a head that encode each axis.
    pub(crate) axes_dims: [usize; 3],
    /// Base of the frequencies.
    pub(crate) theta: f64,
}

/// The rotation of every token of a sequence, `[1, N, 1, head_dim / 2]` each, in f32; or of other
/// tokens of each batch item, `[B, N, 1, head_dim / 2]`.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    pub(crate) cos: Tensor<4>,
    pub(crate) sin: Tensor<4>,
}

impl Rotation {
    /// `text_rows` tokens at position (0, 0, 0), without rotation, followed by a `grid` of tokens
    /// at (0, row, column), row-major.
    ///
    /// Angles are computed in f64 on the host and rounded once, as in the official code.
    pub(crate) fn new(
        text_rows: usize,
        grid: GridSize,
        frequencies: &Frequencies,
        device: &Device,
    ) -> Self {
        let Frequencies { axes_dims, theta } = frequencies;
        let pairs = axes_dims.iter().sum::<usize>() / 2;
        let tokens = text_rows + grid.len();
        let mut cos = vec![1.0f32; text_rows * pairs];
        let mut sin = vec![0.0f32; text_rows * pairs];
        for cell in 0..grid.len() {
            let position = [0, cell / grid.width, cell % grid.width];
            for (&at, &dim) in position.iter().zip(axes_dims) {
                for pair in 0..dim / 2 {
                    let frequency = theta.powf(-2.0 * pair as f64 / dim as f64);
                    let (sine, cosine) = (at as f64 * frequency).sin_cos();
                    cos.push(cosine as f32);
                    sin.push(sine as f32);
                }
            }
        }
        let mut upload = Upload::default();
        let (cos, sin) = (upload.floats(cos), upload.floats(sin));
        let sent = upload.send(device);
        let shape = [1, tokens, 1, pairs];
        Self { cos: sent.floats(cos, shape), sin: sent.floats(sin, shape) }
    }

    /// The rotations of `length` tokens from `start` on.
    pub(crate) fn narrow(&self, start: usize, length: usize) -> Self {
        Self {
            cos: self.cos.clone().narrow(1, start, length),
            sin: self.sin.clone().narrow(1, start, length),
        }
    }

    /// The rotations of these tokens, `[B, N]`, for each item of a batch.
    pub(crate) fn select(&self, tokens: Tensor<2, Int>) -> Self {
        let [batch, rows] = tokens.dims();
        let indices = tokens.reshape([batch * rows]);
        let of = |table: &Tensor<4>| {
            let [.., pairs] = table.dims();
            let rows_of = table.clone().select(1, indices.clone());
            rows_of.reshape([batch, rows, 1, pairs])
        };
        Self { cos: of(&self.cos), sin: of(&self.sin) }
    }

    /// Normalises and rotates query or key heads `[B, N, heads, head_dim]` in f32, to `[B, heads,
    /// N, head_dim]` with all even channels first.
    pub(crate) fn apply(&self, norm: &RmsNorm, x: Tensor<4>) -> Tensor<4> {
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        norm_and_rotate(x, norm.gamma.val(), norm.epsilon, cos, sin)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::norm::{EPSILON, rms_norm_config};

    /// Rotary positions in one line of complex arithmetic, channel pairs in place.
    fn expected(x: &[f32], angles: &[f64]) -> Vec<f64> {
        let pair = |(pair, angle): (&[f32], &f64)| {
            let (re, im) = (f64::from(pair[0]), f64::from(pair[1]));
            [re * angle.cos() - im * angle.sin(), im * angle.cos() + re * angle.sin()]
        };
        x.chunks(2).zip(angles).flat_map(pair).collect()
    }

    #[test]
    fn channel_pairs_rotate_by_row_and_column() {
        let device = Device::flex();
        // One head of 8 channels: a pair for the unused axis, one for rows, two for columns.
        let frequencies = Frequencies { axes_dims: [2, 2, 4], theta: 100.0 };
        let rotation = Rotation::new(1, GridSize::new(2, 3), &frequencies, &device);
        let x: Vec<f32> = (0..7 * 8).map(|i| (i as f32 * 0.37).sin()).collect();
        let norm = rms_norm_config(8, EPSILON).init(&device);
        let heads = Tensor::from_data(TensorData::new(x.clone(), [1, 7, 1, 8]), &device);
        let rotated = rotation.apply(&norm, heads).try_into_vec_as::<f32>().unwrap();
        for token in 0..7 {
            // The first token is text.
            let cell = (token as u32).saturating_sub(1);
            let (row, column) = (f64::from(cell / 3), f64::from(cell % 3));
            let x = &x[token * 8..][..8];
            let rms = (x.iter().map(|x| x * x).sum::<f32>() / 8.0 + 1e-6).sqrt();
            let x: Vec<f32> = x.iter().map(|x| x / rms).collect();
            let expected = expected(&x, &[0.0, row, column, column / 10.0]);
            for channel in 0..8 {
                let got = rotated[token * 8 + channel / 2 + 4 * (channel % 2)];
                assert!((f64::from(got) - expected[channel]).abs() < 1e-6);
            }
        }
    }
}
