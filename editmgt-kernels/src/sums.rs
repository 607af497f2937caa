//! Sums of streams.

use burn::tensor::Tensor;

use crate::host::{Host, on_host};
use crate::work::{PIECE, map_rows};

/// `x + y`, both of one shape.
pub fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    if !(on_host(&x) && on_host(&y) && x.dims() == y.dims()) {
        return x + y;
    }
    let shape = x.dims();
    let x = Host::take(x);
    let numbers = x.numbers();
    let sum = map_rows(Host::take(y), PIECE, |index, y| {
        let x = &numbers[index * PIECE..][..y.len()];
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    });
    sum.into_tensor(shape)
}

/// `x + y * gate`: `[B, N, D]` each, and a gate of `[B, 1, D]` that is one for all rows of an item.
pub fn add_gated(x: Tensor<3>, y: Tensor<3>, gate: Tensor<3>) -> Tensor<3> {
    let shape @ [batch, rows, channels] = x.dims();
    let fits = y.dims() == shape && gate.dims() == [batch, 1, channels];
    if !(fits && on_host(&x) && on_host(&y) && on_host(&gate)) {
        return x + y * gate;
    }
    let (x, gate) = (Host::take(x), Host::take(gate));
    let (x, gates) = (x.numbers(), gate.numbers());
    let sum = map_rows(Host::take(y), channels, |row, y| {
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
    fn sums_are_sums() {
        // Larger than a task, and no multiple of a piece.
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
