//! Fused operations of an edit.
//!
//! Each operation here is one that burn can express as a composition of others. That composition is
//! what runs on a GPU (whose backends fuse it themselves), on ndarray, in half precision, and wherever
//! gradients are tracked. On tensors of the flex backend in f32 a kernel runs instead: one pass over
//! memory in place of several, vectorised, shared out over rayon's threads, and in place where nobody
//! else holds the numbers.
//!
//! Kernels are written in safe Rust that the compiler vectorises for the processor it finds at run time.
//! None of them contracts a product and a sum into one rounding, and sums have a fixed order, so their
//! results do not depend on the processor or the number of threads, by construction (one processor was
//! at hand to see it; products of matrices are flex's own, and may depend on both).
//!
//! | operation | kernel | differs from the composition by |
//! |---|---|---|
//! | [`gelu`], [`gelu_tanh`], [`gelu_tanh_gated`], [`quick_gelu`], [`silu`] | elementwise, with an own `exp` | that `exp`: 2 units in the last place |
//! | [`rms_norm`], [`modulated_layer_norm`], [`group_norm_silu`] | statistics in cache | the order of sums |
//! | [`norm_and_rotate`] | norm, rotation and layout of query or key heads | the order of sums |
//! | [`attention`] | tiles of scores that stay in cache | the order of sums, `exp` |
//! | [`join_tokens`] | all threads copy | nothing |
//! | [`conv2d`] | Winograd's form, or patches straight from the image | the order of sums |
//! | [`linear`], [`linear_layer`], [`add`], [`add_gated`] | the bias, the sum, by all threads | nothing, or the order of sums |
#![forbid(unsafe_code)]

mod activation;
mod attention;
mod convolution;
mod host;
mod join;
mod lanes;
mod linear;
mod norm;
mod rotation;
mod sums;
#[cfg(test)]
mod testing;
mod work;

pub use activation::{gelu, gelu_tanh, gelu_tanh_gated, quick_gelu, silu};
pub use attention::{Values, attention};
pub use convolution::conv2d;
pub use join::join_tokens;
pub use linear::{linear, linear_layer};
pub use norm::{group_norm_silu, modulated_layer_norm, rms_norm};
pub use rotation::norm_and_rotate;
pub use sums::{add, add_gated};
