//! Fused operations of an edit.
//!
//! Each operation has two implementations. The *composition* of burn's tensor operations runs on
//! GPUs (whose backends fuse it themselves), on ndarray, in half precision, and wherever gradients
//! are tracked. On f32 tensors of the flex backend a *kernel* runs instead: one pass over memory in
//! place of several, vectorised, parallel over rayon's threads, and in place if the input's storage
//! isn't shared.
//!
//! Kernels are written in safe Rust that the compiler vectorises for the processor found at run
//! time (AVX-512, AVX2 or NEON; the baseline of the architecture otherwise). Sums have a fixed
//! order, so results do not depend on the number of threads. Matrix products use fused multiply-add
//! where the processor has it; nothing else does, so all other results do not depend on the
//! processor either. The exception to safe Rust are the processor's instructions for bf16, in one
//! module, with its safety argument: `intrinsics.rs`.
//!
//! Half-precision attention on a GPU is in the layout of burn's fused kernel ([`attention_dtype`],
//! [`padded_attention`]).
//!
//! Kernels reuse large buffers within the [`BufferPool`] that a forward pass runs in. Products of
//! linear layers round their operands to the precision of [`Operands`], and keep packed weights
//! within [`PackedWeights`].
//!
//! Where burn's autodiff records operations, compositions run, or within [`Recording::Kernels`]
//! kernels with backward passes: those of [`linear`], [`attention`], [`conv2d`], activations,
//! [`rms_norm`], [`modulated_layer_norm`], [`norm_and_rotate`], [`join_tokens`], [`add_gated`] and
//! [`weighted_nll`].
//!
//! | operation | kernel | differs from the composition by |
//! |---|---|---|
//! | [`gelu`], [`gelu_tanh`], [`gelu_tanh_gated`], [`quick_gelu`], [`silu`] | elementwise, with a vectorised `exp` | `exp` to 2 units in the last place |
//! | [`rms_norm`], [`modulated_layer_norm`], [`group_norm_silu`], [`group_norm_silu_given`] | statistics in cache | the order of sums |
//! | [`norm_and_rotate`] | norm, rotation and layout of query or key heads | the order of sums |
//! | [`attention`] | tiled, with an online softmax; scores stay in the L1 cache | the order of sums, `exp` |
//! | [`join_tokens`] | parallel copy | nothing |
//! | [`conv2d`] | Winograd's algorithm, or im2col a few rows at a time | the order of sums |
//! | [`linear`], [`linear_layer`] | packed and tiled (GotoBLAS), bias fused, half-precision and [quantised](QuantizedMatrix) weights widened while they are packed | the order of sums |
//! | [`nearest_rows`] | a running minimum in place of all distances | the order of sums |
//! | [`embed`] | of a quantised table only the rows of ids | nothing |
//! | [`add`], [`add_gated`] | parallel | nothing |
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

mod activation;
mod attention;
mod block;
mod blocks;
mod buffers;
mod convolution;
mod gradient;
mod host;
mod integer;
mod intrinsics;
mod join;
mod kept;
mod lanes;
mod likelihood;
mod limit;
mod linear;
mod matrix;
mod narrow;
mod narrow_attention;
mod nearest;
mod norm;
mod number;
mod operands;
mod packed_attention;
mod padded;
mod product;
mod quantized;
mod recording;
mod rotation;
mod scope;
mod sums;
#[cfg(test)]
mod testing;
mod tile;
mod work;

pub use activation::{gelu, gelu_tanh, gelu_tanh_gated, quick_gelu, silu};
pub use attention::{KeyPlaces, KeyValues, KeyWeights, attention};
pub use block::{BLOCK, Block, UnknownBits, WeightBits};
pub use buffers::BufferPool;
pub use convolution::conv2d;
pub use join::join_tokens;
pub use kept::PackedWeights;
pub use likelihood::weighted_nll;
pub use limit::loop_limit;
pub use linear::{linear, linear_layer, widens};
pub use nearest::nearest_rows;
pub use norm::{group_norm_silu, group_norm_silu_given, modulated_layer_norm, rms_norm};
pub use operands::{Operands, WithOperands};
pub use padded::{attention_dtype, attention_operand, padded_attention};
pub use quantized::{
    QuantizedMatrix, RowGroup, dequantize, dequantized_dtype, embed, narrow_inputs, quantized_bits,
    reads_quantized,
};
pub use recording::Recording;
pub use rotation::norm_and_rotate;
pub use sums::{add, add_gated};
