use burn::nn::Linear;
use burn::tensor::{Tensor, module};

use crate::host::{Host, on_host, prepare_products};
use crate::work::map_rows;

/// `x · weight + bias`: rows `[…, N, inputs]`, weight `[inputs, outputs]`, bias `[outputs]`.
///
/// On flex all rows are those of a single product, and one of few rows is told to lay out its weights:
/// as they lie, rows a power of two apart, it takes twice as long.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let hosts = on_host(&x) && on_host(&weight) && bias.as_ref().is_none_or(on_host);
    if !hosts || D < 2 {
        return module::linear(x, weight, bias);
    }
    prepare_products();
    let [inputs, outputs] = weight.dims();
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    shape[D - 1] = outputs;
    let product = x.reshape([rows, inputs]).matmul(weight);
    let Some(bias) = bias else { return product.reshape(shape) };
    let bias = Host::take(bias);
    let numbers = bias.numbers();
    let sum = map_rows(Host::take(product), outputs, |_, row| {
        row.iter_mut().zip(numbers).for_each(|(x, bias)| *x += bias);
    });
    sum.into_tensor(shape)
}

/// [`linear`] with the weight and the bias of a layer.
pub fn linear_layer<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, worst};

    #[test]
    fn is_burns_own() {
        let (x, weight) = (random([2, 70, 33], 1), random([33, 90], 2));
        for bias in [None, Some(random([90], 3))] {
            let expected = module::linear(x.clone(), weight.clone(), bias.clone());
            // Sums of 33 products of numbers up to 2, in another order where rows are joined.
            assert!(worst(linear(x.clone(), weight.clone(), bias), expected) < 1e-5);
        }
    }
}
