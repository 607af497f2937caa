//! Linear layers.

use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor, bf16, f16, module};

use crate::gradient;
use crate::host::{HostTensor, is_dense, on_flex, on_host};
use crate::integer;
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
/// [`widens`]. Within other [`Operands`] the kernel rounds `x` and the weight instead; within
/// [`PackedWeights`](crate::PackedWeights) it keeps the packed weight. A
/// [quantised](crate::QuantizedMatrix) weight is expanded a panel at a time, and never kept packed;
/// in [`Operands::Exact`] the result is that of the expanded weight in f32, bit for bit.
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
    let quantized = QuantizedTensor::of(&weight).is_some();
    let dtype = x.dtype();
    let (x, bias) = if quantized {
        (x.cast(DType::F32), bias.map(|bias| bias.cast(DType::F32)))
    } else {
        (x, bias)
    };
    let rows = on_host(&x) && bias.as_ref().is_none_or(on_host);
    let known = quantized || on_flex(&weight.device()) && Dtype::of(&weight).is_some();
    if fits && rows && known {
        let shape: [usize; D] =
            std::array::from_fn(|axis| if axis == D - 1 { outputs } else { shape[axis] });
        let out = on_cpu(HostTensor::take(x), weight, bias.map(HostTensor::take));
        return out.into_tensor(shape).cast(dtype);
    }
    if fits
        && !quantized
        && let Some(out) = gradient::linear(&x, &weight, bias.as_ref())
    {
        return out;
    }
    let weight = if quantized { dequantize(weight) } else { weight.cast(dtype) };
    module::linear(x, weight, bias).cast(dtype)
}

/// A dtype of weights that kernels read.
enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    fn of(weight: &Tensor<2>) -> Option<Self> {
        match weight.dtype() {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

/// Rows times a weight that is dense or quantised: one function for tensors of any rank, so that
/// the products are compiled once, in this crate.
///
/// # Panics
/// If the weight is neither.
fn on_cpu(x: HostTensor, weight: Tensor<2>, bias: Option<HostTensor>) -> HostTensor {
    let (left, bias) = (x.values(), bias.as_ref().map(HostTensor::values));
    if let Some(quantized) = QuantizedTensor::of(&weight) {
        return HostTensor::new(expanding(left, &quantized.view(), bias));
    }
    HostTensor::new(match Dtype::of(&weight).expect("the caller has looked at the weight") {
        Dtype::F32 => dense::<f32>(left, weight, bias),
        Dtype::F16 => dense::<f16>(left, weight, bias),
        Dtype::Bf16 => dense::<bf16>(left, weight, bias),
    })
}

fn dense<W: Widen>(left: &[f32], weight: Tensor<2>, bias: Option<&[f32]>) -> Vec<f32> {
    let sizes @ [inputs, _] = weight.dims();
    let values = HostTensor::<W>::of(weight.clone());
    let matrix = &Dense::new(values.values(), sizes);
    let operands = Operands::current();
    let packed = |operands| {
        // A copy lies elsewhere each time.
        let address = is_dense::<W, 2>(&weight).then(|| values.values().as_ptr().addr())?;
        kept::packed(&weight, address, matrix, operands)
    };
    let in_bf16 = |left: &[f32], bias| {
        let packed = packed(Operands::Bf16);
        narrow::product(left, matrix, packed.as_deref().and_then(Packed::bf16), bias)
    };
    match operands {
        Operands::Exact if is_gemv(left.len() / inputs) => product(left, matrix, bias),
        Operands::Exact => {
            let packed = packed(operands);
            let packed = packed.as_deref().and_then(Packed::exact);
            product_of(left, Right { matrix, packed }, bias)
        }
        Operands::Bf16 => in_bf16(left, bias),
        Operands::Int8 => {
            let rows = integer::Rows::new(left, inputs);
            if rows.are_peaked() {
                return in_bf16(left, bias);
            }
            let packed = packed(operands);
            let packed = packed.as_deref().and_then(Packed::int8);
            integer::product(left, &rows, matrix, packed, bias, |left| in_bf16(left, bias))
        }
    }
}

/// The product with a matrix whose panels are expanded when they are packed, and are not kept.
fn expanding<M: Matrix>(left: &[f32], right: &M, bias: Option<&[f32]>) -> Vec<f32> {
    match Operands::current() {
        Operands::Exact => product(left, right, bias),
        Operands::Bf16 | Operands::Int8 => narrow::product(left, right, None, bias),
    }
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
