//! What half precision must not lose: norm statistics and softmax are computed in f32.

use burn::tensor::module::attention as attention_op;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Tensor};

/// Whether values of this type are widened.
pub(crate) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Runs `f` on `x` in f32, and gives the result in `x`'s own type.
pub(crate) fn in_f32<const D: usize>(
    x: Tensor<D>,
    f: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = x.dtype();
    if is_half(dtype) { f(x.cast(DType::F32)).cast(dtype) } else { f(x) }
}

/// Queries, keys and values, each `[B, heads, L, head_dim]`.
pub(crate) struct Heads {
    pub(crate) query: Tensor<4>,
    pub(crate) key: Tensor<4>,
    pub(crate) value: Tensor<4>,
}

/// Softmax attention; `true` in `mask` hides a key. Backends differ in the type that they sum
/// half-precision scores in, so these are widened. (Prompts are short and are encoded once an
/// edit: the cost doesn't show.)
pub(crate) fn attention(
    heads: Heads,
    mask: Option<Tensor<4, Bool>>,
    options: AttentionModuleOptions,
) -> Tensor<4> {
    let Heads { query, key, value } = heads;
    let (key, value) = if is_half(query.dtype()) {
        (key.cast(DType::F32), value.cast(DType::F32))
    } else {
        (key, value)
    };
    in_f32(query, |query| attention_op(query, key, value, mask, None, options))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::testing::difference;

    /// Scores of 64 are 0.25 apart in bf16; before they are scaled, those of the second case are
    /// beyond f16. With autodiff, attention is composed of operations in the dtype that it is
    /// given.
    #[test]
    fn scores_and_softmax_are_f32() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            for (dtype, tolerance) in [(DType::BF16, 2e-3), (DType::F16, 2.5e-4)] {
                for size in [4.0, 100.0] {
                    let random = |size| {
                        let normal = Distribution::Normal(0.0, size);
                        Tensor::<4>::random([1, 2, 12, 16], normal, &device).cast(dtype)
                    };
                    let (query, key) = (random(size), random(size));
                    // Below 1, so that a rounding of what comes out has a bound.
                    let value = Distribution::Uniform(-1.0, 1.0);
                    let value = Tensor::<4>::random([1, 2, 12, 16], value, &device).cast(dtype);
                    let of = |dtype| {
                        let part = |x: &Tensor<4>| x.clone().cast(dtype);
                        let heads =
                            Heads { query: part(&query), key: part(&key), value: part(&value) };
                        attention(heads, None, Default::default())
                    };
                    let got = of(dtype);
                    assert_eq!(got.dtype(), dtype);
                    // One rounding, to 8 bits or 11.
                    let error = difference(got.cast(DType::F32), of(DType::F32));
                    assert!(error <= tolerance, "{dtype:?} on {device:?}, {size}: {error}");
                }
            }
        }
    }
}
