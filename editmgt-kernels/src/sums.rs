//! Residual additions.

use burn::tensor::Tensor;

use crate::host::{HostTensor, on_host};
use crate::work::{CHUNK, RowChange, map_rows};

/// `x + y`.
///
/// # Shapes
/// Any shape, the same for `x`, `y` and the result.
pub fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    if !(on_host(&x) && on_host(&y) && x.dims() == y.dims()) {
        return x + y;
    }
    let shape = x.dims();
    sum(&HostTensor::take(x), HostTensor::take(y)).into_tensor(shape)
}

/// One function for tensors of any rank, so that it is compiled once, in this crate.
fn sum(x: &HostTensor, y: HostTensor) -> HostTensor {
    map_rows(y, CHUNK, Add(x.values()))
}

/// Of a chunk.
struct Add<'a>(&'a [f32]);

impl RowChange for Add<'_> {
    #[inline(always)]
    fn change(&self, index: usize, y: &mut [f32]) {
        let x = &self.0[index * CHUNK..][..y.len()];
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
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
        return x + y * gate;
    }
    let (x, gate) = (HostTensor::take(x), HostTensor::take(gate));
    let gated = AddGated { x: x.values(), gates: gate.values(), rows };
    map_rows(HostTensor::take(y), channels, gated).into_tensor(shape)
}

struct AddGated<'a> {
    x: &'a [f32],
    gates: &'a [f32],
    /// Rows of an item.
    rows: usize,
}

impl RowChange for AddGated<'_> {
    #[inline(always)]
    fn change(&self, row: usize, y: &mut [f32]) {
        let channels = y.len();
        let x = &self.x[row * channels..][..channels];
        let gate = &self.gates[row / self.rows * channels..][..channels];
        for ((y, x), gate) in y.iter_mut().zip(x).zip(gate) {
            *y = x + *y * gate;
        }
    }
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
