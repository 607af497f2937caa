//! Gradients of elementwise functions.

use burn::tensor::Tensor;

use super::record::{Operation, input};
use crate::host::HostTensor;
use crate::work::{CHUNK, map, map_rows};

/// A function with this value and this derivative.
pub(crate) fn elementwise<const D: usize>(
    x: &Tensor<D>,
    value: impl Fn(f32) -> f32 + Sync,
    derivative: impl Fn(f32) -> f32 + Sync + Send + 'static,
) -> Option<Tensor<D>> {
    let operation = Operation::of(|| [input(x)])?;
    let x = operation.values(0);
    let out = map(x.clone(), value).into_tensor(operation.tensor::<D>(0).dims());
    Some(operation.finish(out, move |gradient, _| {
        let x = x.values();
        let gradient = map_rows(gradient, CHUNK, |index, gradient| {
            let x = &x[index * CHUNK..][..gradient.len()];
            gradient.iter_mut().zip(x).for_each(|(gradient, &x)| *gradient *= derivative(x));
        });
        [Some::<HostTensor>(gradient)]
    }))
}
