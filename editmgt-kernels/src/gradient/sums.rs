//! Gradients of residual additions.

use burn::tensor::Tensor;

use super::record::{Operation, input};
use super::rows::{RowSum, sum_items};
use crate::host::HostTensor;
use crate::sums;
use crate::work::{RowChange, map_rows};

/// [`crate::add_gated`].
pub(crate) fn add_gated(x: &Tensor<3>, y: &Tensor<3>, gate: &Tensor<3>) -> Option<Tensor<3>> {
    let shape @ [batch, rows, channels] = x.dims();
    if y.dims() != shape || gate.dims() != [batch, 1, channels] || x.shape().num_elements() == 0 {
        return None;
    }
    let operation = Operation::of(|| [input(x), input(y), input(gate)])?;
    let [x, y, gate] = [0, 1, 2].map(|index| operation.tensor::<3>(index));
    let out = sums::add_gated(x, y, gate);
    let (y, gate) = (operation.values(1), operation.values(2));
    Some(operation.finish(out, move |gradient, wanted| {
        let of_gate = wanted[2].then(|| {
            let row = Products { y: y.values(), gradient: gradient.values() };
            HostTensor::new(sum_items([batch, rows, channels], row))
        });
        let of_x = wanted[0].then(|| gradient.clone());
        let of_y =
            wanted[1].then(|| map_rows(gradient, channels, Gated { gate: gate.values(), rows }));
        [of_x, of_y, of_gate]
    }))
}

struct Products<'a> {
    y: &'a [f32],
    gradient: &'a [f32],
}

impl RowSum for Products<'_> {
    #[inline(always)]
    fn add(&self, row: usize, sums: &mut [f32]) {
        let channels = sums.len();
        let y = &self.y[row * channels..][..channels];
        let gradient = &self.gradient[row * channels..][..channels];
        for ((sum, y), gradient) in sums.iter_mut().zip(y).zip(gradient) {
            *sum += y * gradient;
        }
    }
}

struct Gated<'a> {
    gate: &'a [f32],
    /// Rows of an item.
    rows: usize,
}

impl RowChange for Gated<'_> {
    #[inline(always)]
    fn change(&self, row: usize, gradient: &mut [f32]) {
        let gate = &self.gate[row / self.rows * gradient.len()..][..gradient.len()];
        for (gradient, gate) in gradient.iter_mut().zip(gate) {
            *gradient *= gate;
        }
    }
}
