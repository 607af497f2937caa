//! Linear layers.

use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor, bf16, f16, module};

use crate::gradient;
use crate::host::{HostTensor, is_dense, on_flex, on_host};
use crate::kept::{self, Packed};
use crate::matrix::{Dense, Matrix};
use crate::narrow;
use crate::number::Widen;
use crate::operands::Operands;
use crate::product::{Right, is_gemv, product, product_of};
use crate::quantized::{QuantizedTensor, dequantize};

/// `x · weight + bias`.
///
/// The weight may be f16 or bf16 where `x` and bias are f32. It is widened, so the result equals
/// that of the same weight in f32, bit for bit where a kernel runs. Widening takes no memory where
/// [`widens`]. Within [`Operands::Bf16`] the kernel rounds `x` and the weight to bf16 instead; within
/// [`PackedWeights`](crate::PackedWeights) it keeps the packed weight. A
/// [quantised](crate::QuantizedMatrix) weight is expanded a panel at a time, and never kept packed; in
/// [`Operands::Exact`] the result is that of the expanded weight in f32, bit for bit.
///
/// # Shapes
/// - `x`: `[…, N, inputs]`
/// - `weight`: `[inputs, outputs]`, `bias`: `[outputs]`
/// - result: `[…, N, outputs]`, in the dtype of `x`
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
    if let Some(quantized) = QuantizedTensor::of(&weight) {
        let dtype = x.dtype();
        let (x, bias) = (x.cast(DType::F32), bias.map(|bias| bias.cast(DType::F32)));
        let out = if fits && on_host(&x) && bias.as_ref().is_none_or(on_host) {
            expanding(x, &quantized.view(), bias)
        } else {
            module::linear(x, dequantize(weight), bias)
        };
        return out.cast(dtype);
    }
    let rows = on_host(&x) && bias.as_ref().is_none_or(on_host);
    if fits && rows && on_flex(&weight.device()) {
        match weight.dtype() {
            DType::F32 => return dense::<f32, D>(x, weight, bias),
            DType::F16 => return dense::<f16, D>(x, weight, bias),
            DType::BF16 => return dense::<bf16, D>(x, weight, bias),
            _ => {}
        }
    }
    if fits && let Some(out) = gradient::linear(&x, &weight, bias.as_ref()) {
        return out;
    }
    let dtype = x.dtype();
    module::linear(x, weight.cast(dtype), bias)
}

/// `x.matmul(weight)`, of which the weight may be a transposed view. Within
/// [`Recording::Kernels`](crate::Recording) it is [`linear`].
///
/// # Shapes
/// `x`: `[N, inputs]`, `weight`: `[inputs, outputs]`, result: `[N, outputs]`
pub fn matmul(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let fits = x.dims()[1] == weight.dims()[0] && weight.shape().num_elements() > 0;
    if fits && let Some(out) = gradient::linear(&x, &weight, None) {
        return out;
    }
    x.matmul(weight)
}

fn dense<W: Widen, const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let sizes @ [inputs, outputs] = weight.dims();
    let mut shape = x.dims();
    let rows = shape.iter().product::<usize>() / inputs;
    shape[D - 1] = outputs;
    let (x, bias) = (HostTensor::take(x), bias.map(HostTensor::take));
    let (left, bias) = (x.values(), bias.as_ref().map(HostTensor::values));
    let values = HostTensor::<W>::of(weight.clone());
    let matrix = &Dense::new(values.values(), sizes);
    let operands = Operands::current();
    let packed = || {
        // A copy lies elsewhere each time.
        let address = is_dense::<W, 2>(&weight).then(|| values.values().as_ptr().addr())?;
        kept::packed(&weight, address, matrix, operands)
    };
    let product = match operands {
        Operands::Exact if is_gemv(rows) => product(left, matrix, bias),
        Operands::Exact => {
            let packed = packed();
            let packed = packed.as_deref().and_then(Packed::exact);
            product_of(left, Right { matrix, packed }, bias)
        }
        Operands::Bf16 => {
            let packed = packed();
            narrow::product(left, matrix, packed.as_deref().and_then(Packed::bf16), bias)
        }
    };
    HostTensor::new(product).into_tensor(shape)
}

/// The product with a matrix whose panels are expanded when they are packed, and are not kept.
fn expanding<M: Matrix, const D: usize>(
    x: Tensor<D>,
    right: &M,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let mut shape = x.dims();
    [_, shape[D - 1]] = right.sizes();
    let (x, bias) = (HostTensor::take(x), bias.map(HostTensor::take));
    let (left, bias) = (x.values(), bias.as_ref().map(HostTensor::values));
    let product = match Operands::current() {
        Operands::Exact => product(left, right, bias),
        Operands::Bf16 => narrow::product(left, right, None, bias),
    };
    HostTensor::new(product).into_tensor(shape)
}

/// Whether [`linear`] on this device widens f16 and bf16 weights while it packs them, without a
/// copy in f32.
pub fn widens(device: &Device) -> bool {
    on_flex(device)
}

/// [`linear`] with the weight and the bias of a layer.
///
/// # Shapes
/// `[…, N, inputs]` to `[…, N, outputs]`.
pub fn linear_layer<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{plain, random, worst};

    #[test]
    fn linear_equals_burns_linear() {
        let (x, weight) = (random([2, 70, 33], 1), random([33, 90], 2));
        for bias in [None, Some(random([90], 3))] {
            let expected = module::linear(x.clone(), weight.clone(), bias.clone());
            // Sums of 33 products of values up to 2, in another order.
            assert!(worst(linear(x.clone(), weight.clone(), bias), expected) < 1e-5);
        }
    }

    #[test]
    fn transposed_weights_and_empty_inputs_work() {
        let (x, weight) = (random([5, 33], 1), random([90, 33], 2).swap_dims(0, 1));
        let expected = module::linear(x.clone(), weight.clone(), None);
        assert!(worst(linear(x.clone(), weight.clone(), None), expected) < 1e-5);
        assert_eq!(linear(x.slice(0..0), weight, None).dims(), [0, 90]);
    }

    #[test]
    fn half_precision_weights_equal_the_same_weights_in_f32() {
        let weight = random([33, 90], 2);
        for dtype in [DType::F16, DType::BF16] {
            let narrow = weight.clone().cast(dtype);
            let same = narrow.clone().cast(DType::F32);
            for rows in [1, 70] {
                let x = random([rows, 33], 1);
                let expected = linear(x.clone(), same.clone(), None);
                assert_eq!(worst(linear(x.clone(), narrow.clone(), None), expected.clone()), 0.0);
                // The composition, as in training.
                let composed = linear(plain(x), plain(narrow.clone()), None);
                assert_eq!(composed.dtype(), DType::F32);
                assert!(worst(composed.inner(), expected) < 1e-5);
            }
        }
    }
}
