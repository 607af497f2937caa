//! Gradients of linear layers.

use burn::tensor::Tensor;

use super::record::{Operation, input};
use super::rows::column_sums;
use super::transpose::{Transposed, transposed};
use crate::host::HostTensor;
use crate::linear::linear as forward;
use crate::matrix::{Dense, Matrix};
use crate::narrow;
use crate::operands::Operands;
use crate::product;

/// [`crate::linear`]. All three products, forward and backward, have the operands of the forward
/// pass.
pub(crate) fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let sizes = weight.dims();
    match bias {
        Some(bias) => {
            let operation = Operation::of(|| [input(x), input(weight), input(bias)])?;
            Some(record::<D, 3>(operation, sizes))
        }
        None => {
            let operation = Operation::of(|| [input(x), input(weight)])?;
            Some(record::<D, 2>(operation, sizes))
        }
    }
}

/// Inputs are `x`, the weight, and the bias if there are three.
fn record<const D: usize, const N: usize>(
    operation: Operation<N>,
    [inputs, outputs]: [usize; 2],
) -> Tensor<D> {
    let bias = (N > 2).then(|| operation.tensor(2));
    let out = forward::<D>(operation.tensor(0), operation.tensor(1), bias);
    let operands = Operands::current();
    let x = operation.is_tracked(1).then(|| operation.values(0));
    let weight = operation.is_tracked(0).then(|| operation.values(1));
    let kept = Kept { x, weight, sizes: [inputs, outputs], operands };
    operation.finish(out, move |gradient, wanted| {
        let gradient = gradient.values();
        std::array::from_fn(|index| {
            wanted[index].then(|| {
                HostTensor::new(match index {
                    0 => kept.of_x(gradient),
                    1 => kept.of_weight(gradient),
                    _ => column_sums(gradient, outputs),
                })
            })
        })
    })
}

/// What the backward pass needs. Its methods are compiled once, in this crate, for tensors of any
/// rank.
struct Kept {
    x: Option<HostTensor>,
    weight: Option<HostTensor>,
    /// Inputs and outputs.
    sizes: [usize; 2],
    operands: Operands,
}

impl Kept {
    fn of_x(&self, gradient: &[f32]) -> Vec<f32> {
        let [inputs, outputs] = self.sizes;
        let weight = self.weight.as_ref().expect("kept where the gradient of x is wanted");
        let weight = Transposed::new(weight.values(), [outputs, inputs]);
        multiply(self.operands, gradient, &weight)
    }

    fn of_weight(&self, gradient: &[f32]) -> Vec<f32> {
        let [inputs, outputs] = self.sizes;
        let x = self.x.as_ref().expect("kept where the gradient of the weight is wanted");
        let rows = gradient.len() / outputs;
        let left = transposed(x.values(), inputs);
        multiply(self.operands, &left, &Dense::new(gradient, [rows, outputs]))
    }
}

/// `left · right` with operands of this precision.
fn multiply<M: Matrix>(operands: Operands, left: &[f32], right: &M) -> Vec<f32> {
    match operands {
        Operands::Exact => product::product(left, right, None),
        Operands::Bf16 | Operands::Int8 => narrow::product(left, right, None, None),
    }
}
