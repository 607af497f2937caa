use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor, bf16, f16, module};

use crate::host::{Host, on_flex, on_host};
use crate::number::Number;
use crate::product::product;

/// `x · weight + bias`: rows `[…, N, inputs]`, weight `[inputs, outputs]`, bias `[outputs]`.
///
/// The weight may be f16 or bf16 where rows and bias are f32: it is widened, so the result is that of the
/// same weight in f32, bit for bit where a kernel runs. That takes no memory if [`widens`] says so.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let [inputs, outputs] = weight.dims();
    let shape = x.dims();
    let fits = D > 1
        && shape[D - 1] == inputs
        && inputs.min(outputs) > 0
        && bias.as_ref().is_none_or(|bias| bias.dims() == [outputs]);
    let rows = on_host(&x) && bias.as_ref().is_none_or(on_host);
    if fits && rows && on_flex(&weight.device()) {
        match weight.dtype() {
            DType::F32 => return on_the_host::<f32, D>(x, weight, bias),
            DType::F16 => return on_the_host::<f16, D>(x, weight, bias),
            DType::BF16 => return on_the_host::<bf16, D>(x, weight, bias),
            _ => {}
        }
    }
    let dtype = x.dtype();
    module::linear(x, weight.cast(dtype), bias)
}

fn on_the_host<W: Number, const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let sizes @ [_, outputs] = weight.dims();
    let mut shape = x.dims();
    shape[D - 1] = outputs;
    let (x, weight, bias) = (Host::take(x), Host::<W>::of(weight), bias.map(Host::take));
    let bias = bias.as_ref().map(Host::numbers);
    Host::new(product(x.numbers(), weight.numbers(), sizes, bias)).into_tensor(shape)
}

/// Whether [`linear`] widens weights of f16 and bf16 where it lays them out, on this device.
pub fn widens(device: &Device) -> bool {
    on_flex(device)
}

/// [`linear`] with the weight and the bias of a layer.
pub fn linear_layer<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{plain, random, worst};

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

    #[test]
    fn of_halves_it_is_that_of_the_same_numbers() {
        let weight = random([33, 90], 2);
        for dtype in [DType::F16, DType::BF16] {
            let halves = weight.clone().cast(dtype);
            let same = halves.clone().cast(DType::F32);
            for rows in [1, 70] {
                let x = random([rows, 33], 1);
                let expected = linear(x.clone(), same.clone(), None);
                assert_eq!(worst(linear(x.clone(), halves.clone(), None), expected.clone()), 0.0);
                // As in training, where burn's layer runs.
                let composed = linear(plain(x), plain(halves.clone()), None);
                assert_eq!(composed.dtype(), DType::F32);
                assert!(worst(composed.inner(), expected) < 1e-5);
            }
        }
    }
}
