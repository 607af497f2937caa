//! The normalisations of the models, over the channels of each token.

use burn::nn::{RmsNorm, RmsNormConfig};
use burn::tensor::Tensor;

/// What the official code adds to a mean square or variance where the config has no key for it.
pub(crate) const EPSILON: f64 = 1e-6;

/// An RMS norm that adds `epsilon` to the mean square.
pub(crate) fn rms_norm_config(channels: usize, epsilon: f64) -> RmsNormConfig {
    RmsNormConfig::new(channels).with_epsilon(epsilon)
}

/// `x / sqrt(mean(x²) + ε) * weight` over the last axis.
pub(crate) fn rms_norm<const D: usize>(norm: &RmsNorm, x: Tensor<D>) -> Tensor<D> {
    editmgt_kernels::rms_norm(x, norm.gamma.val(), norm.epsilon)
}

/// Layer norm without weights, in f32, then `(1 + scale) * x + shift`; `shift` and `scale` are
/// `[B, 1, D]`, one vector per batch item.
pub(crate) fn modulated_layer_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    editmgt_kernels::modulated_layer_norm(x, shift, scale, EPSILON)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};

    use super::*;

    /// Values that f16 and bf16 represent exactly. The squares of the first row overflow f16; the
    /// mean of the second, 259, isn't representable in bf16, whose spacing is 2 there.
    const ROWS: [[f32; 8]; 2] = [
        [300.0, -900.0, 4000.0, 0.0, -59392.0, 24.0, 1000.0, 500.0],
        [256.0, 258.0, 260.0, 262.0, 256.0, 258.0, 260.0, 262.0],
    ];

    fn normalised(row: [f32; 8], mean: f64) -> impl Iterator<Item = f64> {
        let square = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / 8.0;
        row.into_iter().map(move |x| (f64::from(x) - mean) / (square + EPSILON).sqrt())
    }

    fn check(what: &str, got: Tensor<3>, expected: impl Iterator<Item = f64>) {
        let dtype = got.dtype();
        // One rounding to 8 bits of bf16 or 11 of f16, of numbers up to 3.
        let tolerance = if dtype == DType::F16 { 3e-3 } else { 2e-2 };
        let got = got.try_into_vec_as::<f32>().unwrap();
        for (got, expected) in got.into_iter().zip(expected) {
            let close = (f64::from(got) - expected).abs() < tolerance;
            assert!(close, "{what} in {dtype:?}: {got}, not {expected}");
        }
    }

    /// With autodiff, norms are composed of operations in the dtype of their input, as on GPU
    /// backends.
    #[test]
    fn statistics_are_computed_in_f32() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            for dtype in [DType::BF16, DType::F16] {
                let rows = TensorData::new(ROWS.concat(), [1, 2, 8]);
                let x = Tensor::<3>::from_data(rows, (&device, dtype));
                let none = Tensor::zeros([1, 1, 8], (&device, dtype));
                let got = modulated_layer_norm(x.clone(), none.clone(), none);
                let mean = |row: &[f32; 8]| row.iter().copied().map(f64::from).sum::<f64>() / 8.0;
                check("layer norm", got, ROWS.into_iter().flat_map(|r| normalised(r, mean(&r))));

                let mut norm = rms_norm_config(8, EPSILON).init(&device);
                norm.gamma = norm.gamma.map(|gamma| gamma.cast(dtype));
                let got = rms_norm(&norm, x);
                check("RMS norm", got, ROWS.into_iter().flat_map(|r| normalised(r, 0.0)));
            }
        }
    }
}
