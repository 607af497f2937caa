use burn::nn::Linear;
use burn::tensor::{Tensor, module};

use crate::host::{Host, on_host};
use crate::product::product;

/// `x · weight + bias`: rows `[…, N, inputs]`, weight `[inputs, outputs]`, bias `[outputs]`.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let [inputs, outputs] = weight.dims();
    let mut shape = x.dims();
    // burn-flex multiplies a single row as the weights lie, in half the time that laying them out takes.
    let fits = D > 1
        && shape[..D - 1].iter().product::<usize>() > 1
        && shape[D - 1] == inputs
        && inputs.min(outputs) > 0
        && bias.as_ref().is_none_or(|bias| bias.dims() == [outputs]);
    let hosts = on_host(&x) && on_host(&weight) && bias.as_ref().is_none_or(on_host);
    if !(hosts && fits) {
        return module::linear(x, weight, bias);
    }
    shape[D - 1] = outputs;
    let (x, weight, bias) = (Host::take(x), Host::take(weight), bias.map(Host::take));
    let bias = bias.as_ref().map(Host::numbers);
    Host::new(product(x.numbers(), weight.numbers(), [inputs, outputs], bias)).into_tensor(shape)
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
            // Sums of 33 products of numbers up to 2, in another order.
            assert!(worst(linear(x.clone(), weight.clone(), bias), expected) < 1e-5);
        }
    }

    #[test]
    fn of_a_turned_weight_and_no_rows() {
        let (x, weight) = (random([5, 33], 1), random([90, 33], 2).swap_dims(0, 1));
        let expected = module::linear(x.clone(), weight.clone(), None);
        assert!(worst(linear(x.clone(), weight.clone(), None), expected) < 1e-5);
        assert_eq!(linear(x.slice(0..0), weight, None).dims(), [0, 90]);
    }
}
