//! Gradients of the rotation of normalised heads.

use burn::tensor::Tensor;

use super::norm::rms_backward;
use super::record::{Operation, input};
use super::rows::sum_rows;
use crate::buffers;
use crate::host::HostTensor;
use crate::norm::inverse_rms;
use crate::rotation;
use crate::work::for_rows;

/// [`crate::norm_and_rotate`]; angles are constants.
pub(crate) fn norm_and_rotate(
    x: &Tensor<4>,
    weight: &Tensor<1>,
    epsilon: f64,
    cos: &Tensor<4>,
    sin: &Tensor<4>,
) -> Option<Tensor<4>> {
    let operation = Operation::of(|| [input(x), input(weight), input(cos), input(sin)])?;
    if operation.is_tracked(2) || operation.is_tracked(3) {
        return None;
    }
    let [_, tokens, heads, channels] = x.dims();
    let (pairs, [items, ..]) = (channels / 2, cos.dims());
    let [x, cos, sin] = [0, 2, 3].map(|index| operation.tensor::<4>(index));
    let out = rotation::norm_and_rotate(x, operation.tensor(1), epsilon, cos, sin);
    let [x, weight, cos, sin] = [0, 1, 2, 3].map(|index| operation.values(index));
    Some(operation.finish(out, move |gradient, wanted| {
        let (x, weight) = (x.values(), weight.values());
        let (cos, sin, gradient) = (cos.values(), sin.values(), gradient.values());
        // The gradient of the normalised heads, in their layout [B, N, heads, d].
        let mut normed = buffers::take(x.len());
        for_rows(&mut normed, channels, |index, to| {
            let (head, token) = (index % heads, index / heads % tokens);
            let item = index / heads / tokens;
            let from = &gradient[((item * heads + head) * tokens + token) * channels..][..channels];
            let angles = (item % items * tokens + token) * pairs;
            let (cos, sin) = (&cos[angles..][..pairs], &sin[angles..][..pairs]);
            let (evens, odds) = from.split_at(pairs);
            let (to, _) = to.as_chunks_mut::<2>();
            for (pair, to) in to.iter_mut().enumerate() {
                *to = [
                    evens[pair] * cos[pair] + odds[pair] * sin[pair],
                    odds[pair] * cos[pair] - evens[pair] * sin[pair],
                ];
            }
        });
        let of_weight = wanted[1].then(|| {
            HostTensor::new(sum_rows(x.len() / channels, channels, |row, sums| {
                let x = &x[row * channels..][..channels];
                let normed = &normed[row * channels..][..channels];
                let factor = inverse_rms(x, epsilon);
                for ((sum, x), gradient) in sums.iter_mut().zip(x).zip(normed) {
                    *sum += x * factor * gradient;
                }
            }))
        });
        for_rows(&mut normed, channels, |row, gradient| {
            let x = &x[row * channels..][..channels];
            gradient.iter_mut().zip(weight).for_each(|(gradient, weight)| *gradient *= weight);
            rms_backward(x, inverse_rms(x, epsilon), gradient);
        });
        [Some(HostTensor::new(normed)), of_weight, None, None]
    }))
}
