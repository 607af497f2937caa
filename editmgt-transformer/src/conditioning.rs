//! What the conditioning of all families is made of: embedded numbers, and a small network.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, activation};
use editmgt_core::MicroConditions;
use editmgt_kernels::{Operands, linear_layer};

/// Wave length of the slowest channel, over 2π.
const MAX_PERIOD: f64 = 10000.0;

/// The frequency that the official `exp`, a vectorised one, rounds up although the value below is
/// closer. At a timestep of a million that last bit changes the angle by 0.03 and logits by 0.01.
/// Found from recorded conditioning vectors; all other entries whose rounding they determine are
/// rounded correctly. It is the entry of the exponent -ln(10000) · 12/128.
const ROUNDED_UP: [usize; 2] = [12, 128];

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
        conditioning_rows(x, |x| {
            let hidden = activation::silu(linear_layer(&self.linear_1, x));
            linear_layer(&self.linear_2, hidden)
        })
    }

    pub(crate) fn layers(&self) -> [&Linear; 2] {
        [&self.linear_1, &self.linear_2]
    }
}

/// Embeds the micro-conditions value by value with `channels` each: `[B, 5 * channels]`.
pub(crate) fn micro_sinusoids(micro: &[MicroConditions], channels: usize) -> Vec<f32> {
    let rows: Vec<[f32; 5]> = micro.iter().map(MicroConditions::values).collect();
    sinusoids(rows.as_flattened(), channels)
}

/// `[cos(v f₀) … cos(v f₁₂₇), sin(v f₀) … sin(v f₁₂₇)]` for each value (with 256 channels).
///
/// Computed on the host, so the result is the same on every device. The products are rounded to f32
/// as in the official code: timesteps go up to a million, where the rounding error of the angle is
/// as large as 0.03 and part of what the model was trained on.
pub(crate) fn sinusoids(values: &[f32], channels: usize) -> Vec<f32> {
    let frequencies = frequencies(channels / 2);
    let mut rows = Vec::with_capacity(values.len() * channels);
    for &value in values {
        let angle = |f: &f32| f64::from(value * f);
        rows.extend(frequencies.iter().map(|f| angle(f).cos() as f32));
        rows.extend(frequencies.iter().map(|f| angle(f).sin() as f32));
    }
    rows
}

/// `f_k = 10000^(-k/count)`, to the last bit of the official f32 table: the exponent is rounded to
/// f32, then its exponential.
fn frequencies(count: usize) -> Vec<f32> {
    let slope = -MAX_PERIOD.ln() as f32;
    let frequency = |k: usize| {
        let frequency = f64::from(slope * k as f32 / count as f32).exp() as f32;
        let [numerator, denominator] = ROUNDED_UP;
        if k * denominator == numerator * count { frequency.next_up() } else { frequency }
    };
    (0..count).map(frequency).collect()
}

/// Runs `layers` on `[rows, inputs]` with exact operands, and pads a single f16 row to two.
///
/// Exact, because every block depends on these few rows. Padding works around burn-flex 0.22.1,
/// which sums the product of a single f16 row in f16 (see the known failures of the conformance
/// suite): the conditioning of an edit without guidance is such a row.
pub(crate) fn conditioning_rows(
    rows: Tensor<2>,
    layers: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    Operands::Exact.install(|| {
        if rows.dims()[0] == 1 && rows.dtype() == DType::F16 {
            layers(rows.repeat_dim(0, 2)).narrow(0, 0, 1)
        } else {
            layers(rows)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_match_the_official_table() {
        let frequencies = super::frequencies(128);
        let [rounded_up, _] = ROUNDED_UP;
        // Bits of the official f32 table, around the entry that its `exp` rounds up.
        let exact = |k: f64| (-(MAX_PERIOD.ln() as f32) as f64 * k / 128.0).exp();
        assert_eq!((frequencies[0], frequencies[64]), (1.0, 0.01));
        let below = f32::from_bits(frequencies[rounded_up].to_bits() - 1);
        assert_eq!(frequencies[rounded_up].to_bits(), 0x3ed7_e89b);
        assert!(
            f64::from(below) <= exact(12.0) && exact(12.0) < f64::from(frequencies[rounded_up])
        );
        for k in [rounded_up - 1, rounded_up + 1] {
            let relative = f64::from(frequencies[k]) / exact(k as f64) - 1.0;
            assert!(relative.abs() < f64::from(f32::EPSILON), "{k}: {relative:e}");
        }
        // A table of fewer channels has every fourth entry.
        let fourth: Vec<f32> = frequencies.into_iter().step_by(4).collect();
        assert_eq!(super::frequencies(32), fourth);
    }
}
