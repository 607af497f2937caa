//! Kernels with backward passes, for tensors whose gradients are recorded.
//!
//! Each function returns `None` where no kernel runs: outside
//! [`Recording::Kernels`](crate::Recording), and for tensors that are not f32 tensors of the flex
//! backend with autodiff.

mod attention;
mod convolution;
mod elementwise;
mod join;
mod likelihood;
mod linear;
mod norm;
mod plane;
mod record;
mod rotation;
mod rows;
mod sums;
#[cfg(all(test, feature = "autodiff"))]
mod tests;
mod transpose;

pub(crate) use attention::attention;
pub(crate) use convolution::conv2d;
pub(crate) use elementwise::elementwise;
pub(crate) use join::join_tokens;
pub(crate) use likelihood::weighted_nll;
pub(crate) use linear::linear;
pub(crate) use norm::{modulated_layer_norm, rms_norm};
pub(crate) use rotation::norm_and_rotate;
pub(crate) use sums::add_gated;
