//! Gradients of normalisation layers.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Operation, input};
use super::rows::sum_rows;
use crate::buffers;
use crate::host::HostTensor;
use crate::lanes::{sum, vectorised};
use crate::norm::{self, inverse_rms};
use crate::work::{for_rows, map_rows};

/// [`crate::rms_norm`].
pub(crate) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    epsilon: f64,
) -> Option<Tensor<D>> {
    let operation = Operation::of(|| [input(x), input(weight)])?;
    let [channels] = weight.dims();
    let out = norm::rms_norm(operation.tensor::<D>(0), operation.tensor(1), epsilon);
    let (x, weight) = (operation.values(0), operation.values(1));
    Some(operation.finish(out, move |gradient, wanted| {
        let (x, weight) = (x.values(), weight.values());
        let of_weight = wanted[1].then(|| {
            let gradient = gradient.values();
            let sums = sum_rows(gradient.len() / channels, channels, |row, sums| {
                let x = &x[row * channels..][..channels];
                let gradient = &gradient[row * channels..][..channels];
                let factor = inverse_rms(x, epsilon);
                for ((sum, x), gradient) in sums.iter_mut().zip(x).zip(gradient) {
                    *sum += x * factor * gradient;
                }
            });
            HostTensor::new(sums)
        });
        let of_x = wanted[0].then(|| {
            map_rows(gradient, channels, |row, gradient| {
                let x = &x[row * channels..][..channels];
                gradient.iter_mut().zip(weight).for_each(|(gradient, weight)| *gradient *= weight);
                rms_backward(x, inverse_rms(x, epsilon), gradient);
            })
        });
        [of_x, of_weight]
    }))
}

/// Replaces the gradient of `x · factor`, where `factor` is [`inverse_rms`] of `x`, by that of `x`.
#[inline(always)]
pub(super) fn rms_backward(x: &[f32], factor: f32, gradient: &mut [f32]) {
    let product = dot(x, gradient) / x.len() as f32 * factor * factor;
    gradient
        .iter_mut()
        .zip(x)
        .for_each(|(gradient, x)| *gradient = factor * (*gradient - x * product));
}

/// The sum of products, in the order of [`sum`].
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    sum(&lanes, |x| x)
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
        // Mean and inverse deviation of each row.
        let mut statistics = buffers::take(batch * rows * 2);
        for_rows(&mut statistics, 2, |row, to| {
            let x = &x[row * channels..][..channels];
            let mean = sum(x, |x| x) / channels as f32;
            let variance = sum(x, |x| (x - mean) * (x - mean)) / channels as f32;
            to.copy_from_slice(&[mean, 1.0 / (variance + epsilon as f32).sqrt()]);
        });
        let (statistics, _) = statistics.as_chunks::<2>();

        let mut shifts = vec![0.0; batch * channels];
        let mut scales = vec![0.0; batch * channels];
        if wanted[1] || wanted[2] {
            let gradient = gradient.values();
            let items = shifts.par_chunks_mut(channels).zip(scales.par_chunks_mut(channels));
            items.enumerate().for_each(|(item, (shifts, scales))| {
                vectorised(|| {
                    for row in item * rows..(item + 1) * rows {
                        let [mean, factor] = statistics[row];
                        let x = &x[row * channels..][..channels];
                        let gradient = &gradient[row * channels..][..channels];
                        let sums = shifts.iter_mut().zip(scales.iter_mut());
                        for (((shift, scale), x), gradient) in sums.zip(x).zip(gradient) {
                            *shift += gradient;
                            *scale += gradient * ((x - mean) * factor);
                        }
                    }
                });
            });
        }
        let of_x = wanted[0].then(|| {
            map_rows(gradient, channels, |row, gradient| {
                let [mean, factor] = statistics[row];
                let x = &x[row * channels..][..channels];
                let scale = &scale[row / rows * channels..][..channels];
                gradient
                    .iter_mut()
                    .zip(scale)
                    .for_each(|(gradient, scale)| *gradient *= 1.0 + scale);
                let count = channels as f32;
                let total = sum(gradient, |x| x);
                let average = total / count;
                // Σ gradient · (x - mean) · factor, as the difference of two sums.
                let along = (dot(gradient, x) - mean * total) * factor / count;
                for (gradient, x) in gradient.iter_mut().zip(x) {
                    *gradient = factor * (*gradient - average - (x - mean) * factor * along);
                }
            })
        });
        let of = |index: usize, sums: Vec<f32>| wanted[index].then(|| HostTensor::new(sums));
        [of_x, of(1, shifts), of(2, scales)]
    }))
}
