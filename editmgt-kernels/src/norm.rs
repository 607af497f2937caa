//! Normalisation layers, fused with the operation that follows them.

use burn::tensor::{DType, Tensor, TensorData, module};

use crate::activation::{silu, silu_of};
use crate::gradient;
use crate::host::{HostTensor, on_host};
use crate::lanes::sum;
use crate::work::{RowChange, map_rows};

/// `x / sqrt(mean(x²) + ε) * weight` over the last axis, with statistics *and* division in f32.
///
/// burn's own forward rounds the root mean square to the tensor's dtype before it divides, which
/// in half precision shifts a whole row by the same rounding error.
///
/// # Shapes
/// - `x`: `[…, D]`, `weight`: `[D]`
/// - result: the shape and dtype of `x`
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64) -> Tensor<D> {
    if on_host(&x) && on_host(&weight) {
        let shape = x.dims();
        let normed = rms_normed(HostTensor::take(x), &HostTensor::take(weight), epsilon);
        return normed.into_tensor(shape);
    }
    if weight.dims() == [x.dims()[D - 1]]
        && let Some(out) = gradient::rms_norm(&x, &weight, epsilon)
    {
        return out;
    }
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let rms = (x.clone().square().mean_dim(D - 1) + epsilon).sqrt();
    (x / rms).cast(dtype) * weight.unsqueeze()
}

/// Of rows as long as the weight: one function for tensors of any rank, so that it is compiled
/// once, in this crate.
fn rms_normed(x: HostTensor, weight: &HostTensor, epsilon: f64) -> HostTensor {
    let weight = weight.values();
    map_rows(x, weight.len(), RmsNorm { weight, epsilon })
}

struct RmsNorm<'a> {
    weight: &'a [f32],
    epsilon: f64,
}

impl RowChange for RmsNorm<'_> {
    #[inline(always)]
    fn change(&self, _: usize, row: &mut [f32]) {
        let factor = inverse_rms(row, self.epsilon);
        for (x, weight) in row.iter_mut().zip(self.weight) {
            *x = *x * factor * weight;
        }
    }
}

/// `1 / sqrt(mean(x²) + ε)`.
#[inline(always)]
pub(crate) fn inverse_rms(row: &[f32], epsilon: f64) -> f32 {
    1.0 / (sum(row, |x| x * x) / row.len() as f32 + epsilon as f32).sqrt()
}

/// Layer norm without weights, in f32, then `(1 + scale) * x + shift`.
///
/// The f32 cast is explicit: backends that compose the norm of tensor operations, and autodiff,
/// square and sum in the dtype of the input, and in f16 the square of 256 is infinite.
///
/// # Shapes
/// - `x`: `[B, N, D]`
/// - `shift`, `scale`: `[B, 1, D]`, one vector for each item
/// - result: `[B, N, D]`
pub fn modulated_layer_norm(
    x: Tensor<3>,
    shift: Tensor<3>,
    scale: Tensor<3>,
    epsilon: f64,
) -> Tensor<3> {
    let shape @ [batch, rows, channels] = x.dims();
    let fits = [&shift, &scale].iter().all(|of_item| of_item.dims() == [batch, 1, channels]);
    if fits && on_host(&x) && on_host(&shift) && on_host(&scale) {
        let (shift, scale) = (HostTensor::take(shift), HostTensor::take(scale));
        let norm = ModulatedNorm { shift: shift.values(), scale: scale.values(), rows, epsilon };
        return map_rows(HostTensor::take(x), channels, norm).into_tensor(shape);
    }
    if let Some(out) = gradient::modulated_layer_norm(&x, &shift, &scale, epsilon) {
        return out;
    }
    // Layer norm with a weight of ones is one fused pass; composed of tensor operations it takes
    // six.
    let (device, dtype) = (x.device(), x.dtype());
    let ones = Tensor::ones([channels], (&device, DType::F32));
    let normed = module::layer_norm(x.cast(DType::F32), ones, None, epsilon).cast(dtype);
    normed * (scale + 1) + shift
}

struct ModulatedNorm<'a> {
    shift: &'a [f32],
    scale: &'a [f32],
    /// Rows of an item.
    rows: usize,
    epsilon: f64,
}

impl RowChange for ModulatedNorm<'_> {
    #[inline(always)]
    fn change(&self, index: usize, row: &mut [f32]) {
        let channels = row.len();
        let item = index / self.rows * channels;
        let (shift, scale) = (&self.shift[item..][..channels], &self.scale[item..][..channels]);
        let mean = sum(row, |x| x) / channels as f32;
        let variance = sum(row, |x| (x - mean) * (x - mean)) / channels as f32;
        let factor = 1.0 / (variance + self.epsilon as f32).sqrt();
        for ((x, shift), scale) in row.iter_mut().zip(shift).zip(scale) {
            *x = (*x - mean) * factor * (1.0 + scale) + shift;
        }
    }
}

/// Group norm with a weight and a bias for each channel, then SiLU.
///
/// Computed in f32 for all dtypes, and rounded once at the end (burn's `GroupNorm` widens f16
/// but not bf16, and only for the statistics). `groups` divides `C`.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`, `weight`, `bias`: `[C]`
/// - result: `[B, C, H, W]`
pub fn group_norm_silu(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
    epsilon: f64,
) -> Tensor<4> {
    let shape @ [batch, channels, height, width] = x.dims();
    let per_group = channels / groups;
    if on_host(&x) && on_host(&weight) && on_host(&bias) {
        let (weight, bias) = (HostTensor::take(weight), HostTensor::take(bias));
        let (weight, bias) = (weight.values(), bias.values());
        let pixels = height * width;
        let norm = GroupNorm { weight, bias, groups, pixels, epsilon };
        return map_rows(HostTensor::take(x), per_group * pixels, norm).into_tensor(shape);
    }

    let dtype = x.dtype();
    let x = x.cast(DType::F32).reshape([batch, groups, per_group * height, width]);
    let mean = group_mean(x.clone());
    let x = x - mean;
    let variance = group_mean(x.clone() * x.clone());

    scaled_silu(x, variance, [weight, bias], shape, epsilon).cast(dtype)
}

struct GroupNorm<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    groups: usize,
    pixels: usize,
    epsilon: f64,
}

impl RowChange for GroupNorm<'_> {
    #[inline(always)]
    fn change(&self, index: usize, group: &mut [f32]) {
        let (mean, variance) = moments(group);
        let factor = 1.0 / (variance + self.epsilon as f32).sqrt();
        let first = index % self.groups * (group.len() / self.pixels);
        for (channel, plane) in group.chunks_exact_mut(self.pixels).enumerate() {
            let scale = factor * self.weight[first + channel];
            scale_silu(plane, mean, scale, self.bias[first + channel]);
        }
    }
}

/// Centres, scales and shifts a plane of a group norm, then SiLU.
#[inline(always)]
fn scale_silu(plane: &mut [f32], mean: f32, scale: f32, bias: f32) {
    for x in plane {
        *x = silu_of((*x - mean) * scale + bias);
    }
}

/// [`group_norm_silu`] with given statistics instead of those of `x`: for a part of an image whose
/// statistics were computed over the whole.
///
/// `statistics` are mean and variance of each image's groups, image by image.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`, `weight`, `bias`: `[C]`, `statistics`: `B * groups`
/// - result: `[B, C, H, W]`
pub fn group_norm_silu_given(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    statistics: &[(f32, f32)],
    epsilon: f64,
) -> Tensor<4> {
    let shape @ [batch, channels, height, width] = x.dims();
    let groups = statistics.len() / batch;
    let per_group = channels / groups;
    if on_host(&x) && on_host(&weight) && on_host(&bias) {
        let (weight, bias) = (HostTensor::take(weight), HostTensor::take(bias));
        let (weight, bias) = (weight.values(), bias.values());
        let norm = GivenNorm { weight, bias, statistics, per_group, epsilon };
        return map_rows(HostTensor::take(x), height * width, norm).into_tensor(shape);
    }

    let dtype = x.dtype();
    let of_groups = |value: fn(&(f32, f32)) -> f32| {
        let values: Vec<f32> = statistics.iter().map(value).collect();
        let data = TensorData::new(values, [batch, groups, 1, 1]);
        Tensor::<4>::from_data(data, (&x.device(), DType::F32))
    };
    let (mean, variance) = (of_groups(|of| of.0), of_groups(|of| of.1));
    let x = x.cast(DType::F32).reshape([batch, groups, per_group * height, width]) - mean;
    scaled_silu(x, variance, [weight, bias], shape, epsilon).cast(dtype)
}

/// Of planes `[B * C]`.
struct GivenNorm<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    statistics: &'a [(f32, f32)],
    per_group: usize,
    epsilon: f64,
}

impl RowChange for GivenNorm<'_> {
    #[inline(always)]
    fn change(&self, index: usize, plane: &mut [f32]) {
        let (mean, variance) = self.statistics[index / self.per_group];
        let channel = index % self.weight.len();
        let scale = self.weight[channel] / (variance + self.epsilon as f32).sqrt();
        scale_silu(plane, mean, scale, self.bias[channel]);
    }
}

/// SiLU of centred values after division by their deviation, weight and bias: the end of a group
/// norm, in f32.
///
/// # Shapes
/// `x`: `[B, groups, C / groups * H, W]`, `variance`: `[B, groups, 1, 1]`, weight and bias: `[C]`;
/// the result has `shape`, `[B, C, H, W]`.
fn scaled_silu(
    x: Tensor<4>,
    variance: Tensor<4>,
    [weight, bias]: [Tensor<1>; 2],
    shape: [usize; 4],
    epsilon: f64,
) -> Tensor<4> {
    let ([batch, channels, ..], [_, groups, ..]) = (shape, variance.dims());
    // One factor for each channel of each image, so that the image is multiplied once.
    let weight = weight.cast(DType::F32).reshape([1, groups, channels / groups, 1]);
    let scale = (variance + epsilon).sqrt().recip() * weight;
    let bias = bias.cast(DType::F32).reshape([1, channels, 1, 1]);
    silu(x.reshape(shape) * scale.reshape([batch, channels, 1, 1]) + bias)
}

/// The mean over the last two axes, rows first: summing a million values sequentially would lose
/// digits, and there are more rows than groups to compute in parallel.
fn group_mean(x: Tensor<4>) -> Tensor<4> {
    x.mean_dim(3).mean_dim(2)
}

/// Mean and variance in one pass over memory: computed for blocks that fit in cache and combined in
/// f64 (Chan, Golub and LeVeque 1983).
#[inline(always)]
fn moments(values: &[f32]) -> (f32, f32) {
    const BLOCK: usize = 1 << 11;
    let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
    for block in values.chunks(BLOCK) {
        let own = block.len() as f64;
        let own_mean = sum(block, |x| x) / block.len() as f32;
        let own_squares = f64::from(sum(block, |x| (x - own_mean) * (x - own_mean)));
        let apart = f64::from(own_mean) - mean;
        squares += own_squares + apart * apart * count * own / (count + own);
        count += own;
        mean += apart * own / count;
    }
    (mean as f32, (squares / count) as f32)
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::nn::GroupNormConfig;
    use burn::tensor::{Device, activation};

    use super::*;
    use crate::testing::{plain, random, worst};

    #[test]
    fn kernels_equal_compositions() {
        let x = random([2, 90, 520], 1) * 3.0 + 0.5;
        let weight = random([520], 2);
        let composed = rms_norm(plain(x.clone()), plain(weight.clone()), 1e-6).inner();
        // Numbers up to 4; sums of 520 terms in another order.
        assert!(worst(rms_norm(x.clone(), weight, 1e-6), composed) < 3e-6);

        let (shift, scale) = (random([2, 1, 520], 3), random([2, 1, 520], 4));
        let parts = [&x, &shift, &scale].map(|x| plain(x.clone()));
        let [a, b, c] = parts;
        let composed = modulated_layer_norm(a, b, c, 1e-6).inner();
        let got = modulated_layer_norm(x, shift, scale, 1e-6);
        assert!(worst(got, composed) < 8e-6);
    }

    #[test]
    fn group_norm_silu_equals_burns_norm_and_silu() {
        let device = Device::flex();
        let [groups, channels] = [3, 6];
        let weight = Tensor::<1>::from_floats([0.5, -1.0, 2.0, 30.0, 0.0, 1.5], &device);
        let bias = Tensor::<1>::from_floats([0.0, 1.0, -2.0, -60.0, 3.0, 0.5], &device);
        let mut burns = GroupNormConfig::new(groups, channels).with_epsilon(1e-6).init(&device);
        burns.gamma = Some(Param::from_tensor(weight.clone()));
        burns.beta = Some(Param::from_tensor(bias.clone()));

        // More than a block of values in a group. Large offsets and small spreads lose digits in a
        // naive variance.
        let ramp = Tensor::<1, burn::tensor::Int>::arange(0..2 * 6 * 50 * 70, &device).float();
        for (offset, spread) in [(0.0, 1.0), (50.0, 1.0), (-3.0, 0.01), (0.0, 1e-4)] {
            let x = (ramp.clone() * 1.3).sin().reshape([2, 6, 50, 70]) * spread + offset;
            let expected = activation::silu(burns.forward(x.clone()));
            let run = |x, weight, bias| group_norm_silu(x, weight, bias, groups, 1e-6);
            let kernel = run(x.clone(), weight.clone(), bias.clone());
            let composed = run(plain(x), plain(weight.clone()), plain(bias.clone())).inner();
            for got in [kernel, composed] {
                // Values up to 100, rounded differently; and means are rounded to f32, an error
                // that is relative to the spread.
                let tolerance = 2e-4 + 30.0 * f32::EPSILON * f32::abs(offset) / spread;
                let worst = worst(got, expected.clone());
                assert!(worst < tolerance, "offset {offset}, spread {spread}: {worst}");
            }
        }
    }

    #[test]
    fn group_norm_silu_given_its_own_statistics_equals_group_norm_silu() {
        let [batch, groups, per_group, height, width] = [2, 3, 2, 7, 9];
        let x = random([batch, groups * per_group, height, width], 5);
        let (weight, bias) = (random([6], 6), random([6], 7));
        let expected = group_norm_silu(x.clone(), weight.clone(), bias.clone(), groups, 1e-6);
        let values = x.clone().try_into_vec_as::<f32>().unwrap();
        let statistics: Vec<_> = values.chunks(per_group * height * width).map(moments).collect();
        let run = |x, weight, bias| group_norm_silu_given(x, weight, bias, &statistics, 1e-6);
        let kernel = run(x.clone(), weight.clone(), bias.clone());
        // The same moments, with sums vectorised in another way.
        assert!(worst(kernel, expected.clone()) < 3e-6);
        let composed = run(plain(x.clone()), plain(weight.clone()), plain(bias.clone())).inner();
        assert!(worst(composed, expected.clone()) < 3e-6);
        // A part of the image with the statistics of the whole.
        let part = run(x.narrow(3, 2, 4), weight, bias);
        assert!(worst(part, expected.narrow(3, 2, 4)) < 3e-6);
    }
}
