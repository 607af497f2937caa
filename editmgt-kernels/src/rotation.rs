//! Rotary position embedding of normalised heads (Su et al., arXiv 2104.09864).

use burn::tensor::{DType, Tensor, s};

use crate::buffers;
use crate::host::{HostTensor, on_host};
use crate::norm::{inverse_rms, rms_norm};
use crate::work::{RowChange, for_rows};

/// Normalises query or key heads ([`rms_norm`]), rotates them by the angles of their positions and
/// moves heads before tokens.
///
/// Pairs of adjacent channels (0, 1), (2, 3), … are rotated, in f32. The result has all even
/// channels first, then all odd ones: the products of queries and keys, which are all that
/// attention uses, don't change if both are reordered alike, and restoring the order would cost one
/// more strided copy.
///
/// # Shapes
/// - `x`: `[B, N, heads, d]`, `weight`: `[d]`
/// - `cos`, `sin`: `[1, N, 1, d/2]`, or `[B, N, 1, d/2]` for positions of each item, f32
/// - result: `[B, heads, N, d]`, in the dtype of `x`
pub fn norm_and_rotate(
    x: Tensor<4>,
    weight: Tensor<1>,
    epsilon: f64,
    cos: Tensor<4>,
    sin: Tensor<4>,
) -> Tensor<4> {
    if on_host(&x) && on_host(&weight) && on_host(&cos) && on_host(&sin) {
        return kernel(x, weight, epsilon, cos, sin);
    }
    let dtype = x.dtype();
    let x = rms_norm(x, weight, epsilon).cast(DType::F32);
    let even = x.clone().slice(s![.., .., .., 0..;2]);
    let odd = x.slice(s![.., .., .., 1..;2]);
    let rotated_even = even.clone() * cos.clone() - odd.clone() * sin.clone();
    let rotated_odd = odd * cos + even * sin;
    Tensor::cat(vec![rotated_even, rotated_odd], 3).cast(dtype).swap_dims(1, 2)
}

fn kernel(
    x: Tensor<4>,
    weight: Tensor<1>,
    epsilon: f64,
    cos: Tensor<4>,
    sin: Tensor<4>,
) -> Tensor<4> {
    let [batch, tokens, heads, channels] = x.dims();
    let pairs = channels / 2;
    let [items, ..] = cos.dims();
    assert!(
        [1, batch].contains(&items) && cos.dims() == [items, tokens, 1, pairs],
        "cos must have an angle for each pair of each token"
    );
    assert_eq!(sin.dims(), cos.dims(), "sin must have the shape of cos");
    let [cos, sin] = [cos, sin].map(HostTensor::take);
    let (x, weight) = (HostTensor::take(x), HostTensor::take(weight));
    let mut out = buffers::take(x.values().len());
    let change = NormAndRotate {
        x: x.values(),
        weight: weight.values(),
        epsilon,
        cos: cos.values(),
        sin: sin.values(),
        tokens,
        heads,
        items,
    };
    for_rows(&mut out, channels, change);
    HostTensor::new(out).into_tensor([batch, heads, tokens, channels])
}

/// Fills rows of `[B, heads, N, d]`.
struct NormAndRotate<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f64,
    cos: &'a [f32],
    sin: &'a [f32],
    tokens: usize,
    heads: usize,
    /// Items of the angles: 1 or those of `x`.
    items: usize,
}

impl RowChange for NormAndRotate<'_> {
    #[inline(always)]
    fn change(&self, index: usize, to: &mut [f32]) {
        let Self { tokens, heads, items, .. } = *self;
        let (channels, pairs) = (to.len(), to.len() / 2);
        let (plane, token) = (index / tokens, index % tokens);
        let (item, head) = (plane / heads, plane % heads);
        let from = &self.x[((item * tokens + token) * heads + head) * channels..][..channels];
        let weight = &self.weight[..channels];
        let factor = inverse_rms(from, self.epsilon);
        let angles = (item % items * tokens + token) * pairs;
        let (cos, sin) = (&self.cos[angles..][..pairs], &self.sin[angles..][..pairs]);
        let (evens, odds) = to.split_at_mut(pairs);
        for pair in 0..pairs {
            let even = from[2 * pair] * factor * weight[2 * pair];
            let odd = from[2 * pair + 1] * factor * weight[2 * pair + 1];
            evens[pair] = even * cos[pair] - odd * sin[pair];
            odds[pair] = odd * cos[pair] + even * sin[pair];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{plain, random, worst};

    #[test]
    fn kernel_equals_composition() {
        // The same angles for all items, and each item's.
        for items in [1, 2] {
            let angles = random([items, 40, 1, 8], 1);
            // A part of a table, as the text's rows are.
            let [cos, sin] = [angles.clone().cos(), angles.sin()].map(|x| x.narrow(1, 3, 37));
            let (x, weight) = (random([2, 37, 5, 16], 2), random([16], 3));
            let got = norm_and_rotate(x.clone(), weight.clone(), 1e-6, cos.clone(), sin.clone());
            let expected =
                norm_and_rotate(plain(x), plain(weight), 1e-6, plain(cos), plain(sin)).inner();
            assert_eq!(got.dims(), [2, 5, 37, 16]);
            assert!(worst(got, expected) < 2e-6, "{items}");
        }
    }
}
