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
