//! Fused operations of an edit.
//!
//! Each operation here is one that burn can express as a composition of others. That composition is
//! what runs on a GPU (whose backends fuse it themselves), on ndarray, in half precision, and wherever
//! gradients are tracked. On tensors of the flex backend in f32 a kernel runs instead: one pass over
//! memory in place of several, vectorised, shared out over rayon's threads, and in place where nobody
//! else holds the numbers.
//!
//! Kernels are written in safe Rust that the compiler vectorises for the processor it finds at run time
//! (AVX-512, AVX2 or NEON; others get what every processor of their kind has). Sums have a fixed order, so
//! results do not depend on the number of threads. Products of matrices contract a product and a sum into one
//! rounding where the processor can; nothing else does, so all but these do not depend on the processor
//! either, by construction.
//!
//! What a kernel needs for a while, and what nobody needs any more, is used again within [`keep_buffers`].
//!
//! | operation | kernel | differs from the composition by |
//! |---|---|---|
//! | [`gelu`], [`gelu_tanh`], [`gelu_tanh_gated`], [`quick_gelu`], [`silu`] | elementwise, with an own `exp` | that `exp`: 2 units in the last place |
//! | [`rms_norm`], [`modulated_layer_norm`], [`group_norm_silu`] | statistics in cache | the order of sums |
//! | [`norm_and_rotate`] | norm, rotation and layout of query or key heads | the order of sums |
//! | [`attention`] | tiles of scores that stay in the first cache | the order of sums, `exp` |
//! | [`join_tokens`] | all threads copy | nothing |
//! | [`conv2d`] | Winograd's form, or patches straight from the image | the order of sums |
//! | [`linear`], [`linear_layer`] | sums in registers, the bias with them; half-precision weights widened on the way | the order of sums |
//! | [`add`], [`add_gated`] | all threads | nothing |
#![forbid(unsafe_code)]

mod activation;
mod attention;
mod buffers;
mod convolution;
mod host;
mod join;
mod lanes;
mod linear;
mod norm;
mod number;
mod product;
mod rotation;
mod sums;
#[cfg(test)]
mod testing;
mod tile;
mod work;

pub use activation::{gelu, gelu_tanh, gelu_tanh_gated, quick_gelu, silu};
pub use attention::{KeyValues, attention};
pub use buffers::{KeptBuffers, keep_buffers};
pub use convolution::conv2d;
pub use join::join_tokens;
pub use linear::{linear, linear_layer, widens};
pub use norm::{group_norm_silu, modulated_layer_norm, rms_norm};
pub use rotation::norm_and_rotate;
pub use sums::{add, add_gated};
