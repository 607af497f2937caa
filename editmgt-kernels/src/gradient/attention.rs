//! Gradients of attention.

use burn::tensor::Tensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::plane::{Planes, Scratch, View};
use super::record::{Operation, input};
use crate::buffers::Buffer;
use crate::host::HostTensor;
use crate::lanes::{dispatch, dot, exp, largest, sum};

/// `softmax(q kᵀ / √d) v`; the probabilities are kept for the backward pass.
///
/// # Shapes
/// - `query`: `[B, heads, N, d]`, `key`: `[B, heads, S, d]`, `value`: `[B, heads, S, c]`
/// - result: `[B, heads, N, c]`
pub(crate) fn attention(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
) -> Option<Tensor<4>> {
    let ([batch, heads, tokens, channels], [.., keys, width]) = (query.dims(), value.dims());
    let fits = key.dims() == [batch, heads, keys, channels]
        && value.dims() == [batch, heads, keys, width]
        && [batch, heads, tokens, keys, channels, width].iter().all(|&size| size > 0);
    if !fits {
        return None;
    }
    let operation = Operation::of(|| [input(query), input(key), input(value)])?;
    let planes = Planes::current();
    let [query, key, value] = [0, 1, 2].map(|index| operation.values(index));
    let scale = 1.0 / (channels as f32).sqrt();
    let count = batch * heads;
    let of_query = move |plane: usize| plane * tokens * channels..(plane + 1) * tokens * channels;
    let of_key = move |plane: usize| plane * keys * channels..(plane + 1) * keys * channels;
    let of_value = move |plane: usize| plane * keys * width..(plane + 1) * keys * width;

    let mut probabilities = Buffer::new(count * tokens * keys);
    let mut out = crate::buffers::take(count * tokens * width);
    {
        let (query, key, value) = (query.values(), key.values(), value.values());
        let tasks =
            probabilities.par_chunks_mut(tokens * keys).zip(out.par_chunks_mut(tokens * width));
        tasks.enumerate().for_each_init(Scratch::default, |scratch, (plane, (scores, out))| {
            let query = View::dense(&query[of_query(plane)], [tokens, channels]);
            let key = View::dense(&key[of_key(plane)], [keys, channels]);
            let value = View::dense(&value[of_value(plane)], [keys, width]);
            planes.multiply(query, key.transpose(), false, scores, scratch);
            dispatch(SoftmaxRows { scores, keys, scale });
            planes.multiply(View::dense(scores, [tokens, keys]), value, false, out, scratch);
        });
    }
    let out = HostTensor::new(out).into_tensor([batch, heads, tokens, width]);
    Some(operation.finish(out, move |gradient, _| {
        let (query, key, value) = (query.values(), key.values(), value.values());
        let gradient = gradient.values();
        let mut of_queries = crate::buffers::take(query.len());
        let mut of_keys = crate::buffers::take(key.len());
        let mut of_values = crate::buffers::take(value.len());
        let tasks = (of_queries.par_chunks_mut(tokens * channels))
            .zip(of_keys.par_chunks_mut(keys * channels))
            .zip(of_values.par_chunks_mut(keys * width));
        let start = || (Scratch::default(), vec![0.0; tokens * keys]);
        tasks.enumerate().for_each_init(start, |(scratch, scores), (plane, tasks)| {
            let ((to_query, to_key), to_value) = tasks;
            let weights = &probabilities[plane * tokens * keys..][..tokens * keys];
            let gradient = &gradient[plane * tokens * width..][..tokens * width];
            let gradient = View::dense(gradient, [tokens, width]);
            let query = View::dense(&query[of_query(plane)], [tokens, channels]);
            let key = View::dense(&key[of_key(plane)], [keys, channels]);
            let value = View::dense(&value[of_value(plane)], [keys, width]);
            let averages = View::dense(weights, [tokens, keys]);
            planes.multiply(averages.transpose(), gradient, false, to_value, scratch);
            planes.multiply(gradient, value.transpose(), false, scores, scratch);
            dispatch(SoftmaxGradients { scores, weights, keys, scale });
            let scores = View::dense(scores, [tokens, keys]);
            planes.multiply(scores, key, false, to_query, scratch);
            planes.multiply(scores.transpose(), query, false, to_key, scratch);
        });
        [of_queries, of_keys, of_values].map(|values| Some(HostTensor::new(values)))
    }))
}

/// Replaces scores by the softmax of `scale` times them.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let largest = largest(row);
    for x in row.iter_mut() {
        *x = exp((*x - largest) * scale);
    }
    let factor = 1.0 / sum(row, |x| x);
    for x in row {
        *x *= factor;
    }
}

/// Replaces the gradient of a softmax by that of the scores before `scale`.
#[inline(always)]
fn softmax_backward(gradient: &mut [f32], weights: &[f32], scale: f32) {
    let average = dot(gradient, weights);
    for (gradient, weight) in gradient.iter_mut().zip(weights) {
        *gradient = (*gradient - average) * weight * scale;
    }
}

/// [`softmax`] of rows of scores.
struct SoftmaxRows<'a> {
    scores: &'a mut [f32],
    keys: usize,
    scale: f32,
}

impl WithSimd for SoftmaxRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.scores.chunks_exact_mut(self.keys) {
            softmax(row, self.scale);
        }
    }
}

/// [`softmax_backward`] of rows.
struct SoftmaxGradients<'a> {
    scores: &'a mut [f32],
    weights: &'a [f32],
    keys: usize,
    scale: f32,
}

impl WithSimd for SoftmaxGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let weights = self.weights.chunks_exact(self.keys);
        for (scores, weights) in self.scores.chunks_exact_mut(self.keys).zip(weights) {
            softmax_backward(scores, weights, self.scale);
        }
    }
}
