//! Gradients of residual additions.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::record::{Operation, input};
use crate::host::HostTensor;
use crate::lanes::vectorised;
use crate::sums;
use crate::work::map_rows;

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
            let (y, gradient) = (y.values(), gradient.values());
            let mut gates = vec![0.0; batch * channels];
            gates.par_chunks_mut(channels).enumerate().for_each(|(item, gates)| {
                vectorised(|| {
                    for row in item * rows..(item + 1) * rows {
                        let y = &y[row * channels..][..channels];
                        let gradient = &gradient[row * channels..][..channels];
                        for ((gate, y), gradient) in gates.iter_mut().zip(y).zip(gradient) {
                            *gate += y * gradient;
                        }
                    }
                });
            });
            HostTensor::new(gates)
        });
        let of_x = wanted[0].then(|| gradient.clone());
        let of_y = wanted[1].then(|| {
            let gate = gate.values();
            map_rows(gradient, channels, |row, gradient| {
                let gate = &gate[row / rows * channels..][..channels];
                gradient.iter_mut().zip(gate).for_each(|(gradient, gate)| *gradient *= gate);
            })
        });
        [of_x, of_y, of_gate]
    }))
}
