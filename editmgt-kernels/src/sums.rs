//! Residual additions.

use burn::tensor::Tensor;

use crate::gradient;
use crate::host::{HostTensor, on_host};
use crate::work::{CHUNK, map_rows};

/// `x + y`.
///
/// # Shapes
/// Any shape, the same for `x`, `y` and the result.
pub fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    if !(on_host(&x) && on_host(&y) && x.dims() == y.dims()) {
        return x + y;
    }
    let shape = x.dims();
    let x = HostTensor::take(x);
    let values = x.values();
    let sum = map_rows(HostTensor::take(y), CHUNK, |index, y| {
        let x = &values[index * CHUNK..][..y.len()];
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
    sum.into_tensor(shape)
}

/// `x + y * gate`.
///
/// # Shapes
/// - `x`, `y` and the result: `[B, N, D]`
/// - `gate`: `[B, 1, D]`, one vector for each item
pub fn add_gated(x: Tensor<3>, y: Tensor<3>, gate: Tensor<3>) -> Tensor<3> {
    let shape @ [batch, rows, channels] = x.dims();
    let fits = y.dims() == shape && gate.dims() == [batch, 1, channels];
    if !(fits && on_host(&x) && on_host(&y) && on_host(&gate)) {
        let recorded = gradient::add_gated(&x, &y, &gate);
        return recorded.unwrap_or_else(|| x + y * gate);
    }
    let (x, gate) = (HostTensor::take(x), HostTensor::take(gate));
    let (x, gates) = (x.values(), gate.values());
    let sum = map_rows(HostTensor::take(y), channels, |row, y| {
        let x = &x[row * channels..][..channels];
        let gate = &gates[row / rows * channels..][..channels];
        for ((y, x), gate) in y.iter_mut().zip(x).zip(gate) {
            *y = x + *y * gate;
        }
    });
    sum.into_tensor(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, worst};

    #[test]
    fn kernels_equal_tensor_sums() {
        // Larger than a task, and not a multiple of the chunk length.
        let [x, y] = [random([3, 127, 301], 1), random([3, 127, 301], 2)];
        let gate = random([3, 1, 301], 3);
        let expected = x.clone() + y.clone();
        assert_eq!(worst(add(x.clone(), y.clone()), expected), 0.0);
        let expected = x.clone() + y.clone() * gate.clone();
        assert_eq!(worst(add_gated(x.clone(), y.clone(), gate.clone()), expected.clone()), 0.0);
        // In place.
        assert_eq!(worst(add_gated(x, y * 1.0, gate), expected), 0.0);
    }
}
