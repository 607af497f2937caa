//! Gradients of normalisation layers.

use burn::tensor::Tensor;

use super::record::{Operation, input};
use super::rows::{RowSum, sum_items, sum_rows};
use crate::buffers;
use crate::host::HostTensor;
use crate::lanes::{dot, sum};
use crate::norm::{self, inverse_rms};
use crate::work::{RowChange, for_rows, map_rows};

/// [`crate::rms_norm`].
pub(crate) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    epsilon: f64,
) -> Option<Tensor<D>> {
    let operation = Operation::of(|| [input(x), input(weight)])?;
    let out = norm::rms_norm(operation.tensor::<D>(0), operation.tensor(1), epsilon);
    let (x, weight) = (operation.values(0), operation.values(1));
    Some(
        operation.finish(out, move |gradient, wanted| {
            rms_gradients(gradient, &x, &weight, epsilon, wanted)
        }),
    )
}

/// One function for tensors of any rank, so that it is compiled once, in this crate.
fn rms_gradients(
    gradient: HostTensor,
    x: &HostTensor,
    weight: &HostTensor,
    epsilon: f64,
    wanted: [bool; 2],
) -> [Option<HostTensor>; 2] {
    let (x, weight) = (x.values(), weight.values());
    let channels = weight.len();
    let of_weight = wanted[1].then(|| {
        let row = RmsWeight { x, gradient: gradient.values(), epsilon };
        HostTensor::new(sum_rows(x.len() / channels, channels, row))
    });
    let of_x = wanted[0].then(|| map_rows(gradient, channels, RmsInput { x, weight, epsilon }));
    [of_x, of_weight]
}

/// The gradient of the weight of an RMS norm.
pub(super) struct RmsWeight<'a> {
    pub(super) x: &'a [f32],
    pub(super) gradient: &'a [f32],
    pub(super) epsilon: f64,
}

impl RowSum for RmsWeight<'_> {
    #[inline(always)]
    fn add(&self, row: usize, sums: &mut [f32]) {
        let channels = sums.len();
        let x = &self.x[row * channels..][..channels];
        let gradient = &self.gradient[row * channels..][..channels];
        let factor = inverse_rms(x, self.epsilon);
        for ((sum, x), gradient) in sums.iter_mut().zip(x).zip(gradient) {
            *sum += x * factor * gradient;
        }
    }
}

/// Replaces a row of the gradient of an RMS norm by that of its input.
pub(super) struct RmsInput<'a> {
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) epsilon: f64,
}

impl RowChange for RmsInput<'_> {
    #[inline(always)]
    fn change(&self, row: usize, gradient: &mut [f32]) {
        let x = &self.x[row * gradient.len()..][..gradient.len()];
        let factor = inverse_rms(x, self.epsilon);
        for (gradient, weight) in gradient.iter_mut().zip(self.weight) {
            *gradient *= weight;
        }
        let product = dot(x, gradient) / x.len() as f32 * factor * factor;
        for (gradient, x) in gradient.iter_mut().zip(x) {
            *gradient = factor * (*gradient - x * product);
        }
    }
}

/// [`crate::modulated_layer_norm`].
pub(crate) fn modulated_layer_norm(
    x: &Tensor<3>,
    shift: &Tensor<3>,
    scale: &Tensor<3>,
    epsilon: f64,
) -> Option<Tensor<3>> {
    let [batch, rows, channels] = x.dims();
    let fits = [shift, scale].iter().all(|of_item| of_item.dims() == [batch, 1, channels]);
    if !fits || x.shape().num_elements() == 0 {
        return None;
    }
    let operation = Operation::of(|| [input(x), input(shift), input(scale)])?;
    let [x, shift, scale] = [0, 1, 2].map(|index| operation.tensor::<3>(index));
    let out = norm::modulated_layer_norm(x, shift, scale, epsilon);
    let (x, scale) = (operation.values(0), operation.values(2));
    Some(operation.finish(out, move |gradient, wanted| {
        let (x, scale) = (x.values(), scale.values());
        let mut statistics = buffers::take(batch * rows * 2);
        for_rows(&mut statistics, 2, Statistics { x, channels, epsilon });
        let (statistics, _) = statistics.as_chunks::<2>();
        let [of_shift, of_scale] = if wanted[1] || wanted[2] {
            let row = Modulations { x, gradient: gradient.values(), statistics };
            let sums = sum_items([batch, rows, 2 * channels], row);
            let part = |first: usize| {
                let items = sums.chunks_exact(2 * channels);
                let of_items = items.flat_map(|item| &item[first..][..channels]).copied();
                HostTensor::new(of_items.collect())
            };
            [wanted[1].then(|| part(0)), wanted[2].then(|| part(channels))]
        } else {
            [None, None]
        };
        let of_x = wanted[0]
            .then(|| map_rows(gradient, channels, ModulatedInput { x, scale, statistics, rows }));
        [of_x, of_shift, of_scale]
    }))
}

/// Mean and inverse deviation of each row.
struct Statistics<'a> {
    x: &'a [f32],
    channels: usize,
    epsilon: f64,
}

impl RowChange for Statistics<'_> {
    #[inline(always)]
    fn change(&self, row: usize, to: &mut [f32]) {
        let x = &self.x[row * self.channels..][..self.channels];
        let mean = sum(x, |x| x) / x.len() as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
        to[0] = mean;
        to[1] = 1.0 / (variance + self.epsilon as f32).sqrt();
    }
}

/// The gradients of an item's shift and scale, one after the other.
struct Modulations<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
    statistics: &'a [[f32; 2]],
}

impl RowSum for Modulations<'_> {
    #[inline(always)]
    fn add(&self, row: usize, sums: &mut [f32]) {
        let channels = sums.len() / 2;
        let [mean, factor] = self.statistics[row];
        let x = &self.x[row * channels..][..channels];
        let gradient = &self.gradient[row * channels..][..channels];
        let (shifts, scales) = sums.split_at_mut(channels);
        for (shift, gradient) in shifts.iter_mut().zip(gradient) {
            *shift += gradient;
        }
        for ((scale, x), gradient) in scales.iter_mut().zip(x).zip(gradient) {
            *scale += gradient * ((x - mean) * factor);
        }
    }
}

/// Replaces a row of the gradient of a modulated layer norm by that of its input.
struct ModulatedInput<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    statistics: &'a [[f32; 2]],
    /// Rows of an item.
    rows: usize,
}

impl RowChange for ModulatedInput<'_> {
    #[inline(always)]
    fn change(&self, row: usize, gradient: &mut [f32]) {
        let channels = gradient.len();
        let [mean, factor] = self.statistics[row];
        let x = &self.x[row * channels..][..channels];
        let scale = &self.scale[row / self.rows * channels..][..channels];
        for (gradient, scale) in gradient.iter_mut().zip(scale) {
            *gradient *= 1.0 + scale;
        }
        let total = sum(gradient, |x| x);
        let average = total / channels as f32;
        // Σ gradient · (x - mean) · factor, as the difference of two sums.
        let along = (dot(gradient, x) - mean * total) * factor / channels as f32;
        for (gradient, x) in gradient.iter_mut().zip(x) {
            *gradient = factor * (*gradient - average - (x - mean) * factor * along);
        }
    }
}
