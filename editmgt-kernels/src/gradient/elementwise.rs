//! Gradients of elementwise functions.

use burn::tensor::Tensor;

use super::record::{Operation, input};
use crate::activation::{Function, applied, times_derivative};

/// A function of single values.
pub(crate) fn elementwise<const D: usize>(x: &Tensor<D>, function: Function) -> Option<Tensor<D>> {
    let operation = Operation::of(|| [input(x)])?;
    let values = operation.values(0);
    let out = applied(values.clone(), function).into_tensor(x.dims());
    Some(
        operation
            .finish(out, move |gradient, _| [Some(times_derivative(gradient, function, &values))]),
    )
}
