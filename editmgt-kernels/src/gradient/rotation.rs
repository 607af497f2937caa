//! Gradients of the rotation of normalised heads.

use burn::tensor::Tensor;

use super::norm::{RmsInput, RmsWeight};
use super::record::{Operation, input};
use super::rows::sum_rows;
use crate::buffers;
use crate::host::HostTensor;
use crate::rotation;
use crate::work::{RowChange, for_rows};

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
    let [items, ..] = cos.dims();
    let [x, cos, sin] = [0, 2, 3].map(|index| operation.tensor::<4>(index));
    let out = rotation::norm_and_rotate(x, operation.tensor(1), epsilon, cos, sin);
    let [x, weight, cos, sin] = [0, 1, 2, 3].map(|index| operation.values(index));
    Some(operation.finish(out, move |gradient, wanted| {
        let (x, weight) = (x.values(), weight.values());
        let (cos, sin, gradient) = (cos.values(), sin.values(), gradient.values());
        let mut normed = buffers::take(x.len());
        let sizes = [tokens, heads, items];
        for_rows(&mut normed, channels, Unrotated { gradient, cos, sin, sizes });
        let of_weight = wanted[1].then(|| {
            let row = RmsWeight { x, gradient: &normed, epsilon };
            HostTensor::new(sum_rows(x.len() / channels, channels, row))
        });
        for_rows(&mut normed, channels, RmsInput { x, weight, epsilon });
        [Some(HostTensor::new(normed)), of_weight, None, None]
    }))
}

/// The gradient of the normalised heads, in their layout `[B, N, heads, d]`.
struct Unrotated<'a> {
    gradient: &'a [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    /// Tokens, heads, and items that have angles of their own.
    sizes: [usize; 3],
}

impl RowChange for Unrotated<'_> {
    #[inline(always)]
    fn change(&self, index: usize, to: &mut [f32]) {
        let ([tokens, heads, items], channels) = (self.sizes, to.len());
        let pairs = channels / 2;
        let (head, token) = (index % heads, index / heads % tokens);
        let item = index / heads / tokens;
        let from = ((item * heads + head) * tokens + token) * channels;
        let (evens, odds) = self.gradient[from..][..channels].split_at(pairs);
        let angles = (item % items * tokens + token) * pairs;
        let (cos, sin) = (&self.cos[angles..][..pairs], &self.sin[angles..][..pairs]);
        for (pair, to) in to.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            to[0] = evens[pair] * cos[pair] + odds[pair] * sin[pair];
            to[1] = odds[pair] * cos[pair] - evens[pair] * sin[pair];
        }
    }
}
