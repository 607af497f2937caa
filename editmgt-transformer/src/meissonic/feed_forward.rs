use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use editmgt_kernels::gelu_tanh;

use crate::meissonic::lora::{LinearRole, LinearRoles};
use crate::meissonic::pass::Stream;
use crate::meissonic::rows::linear_rows;

/// Hidden channels per channel, in the feed-forward layers of every block.
pub(crate) const EXPANSION: usize = 4;

/// Linear, GELU (tanh form), linear.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    proj_in: Linear,
    proj_out: Linear,
}

impl FeedForward {
    pub(crate) fn new(width: usize, device: &Device) -> Self {
        let hidden = width * EXPANSION;
        Self {
            proj_in: LinearConfig::new(width, hidden).init(device),
            proj_out: LinearConfig::new(hidden, width).init(device),
        }
    }

    /// `[B, N, D]` to `[B, N, D]`.
    pub(crate) fn forward(&self, x: Tensor<3>, stream: Stream) -> Tensor<3> {
        linear_rows(&self.proj_out, gelu_tanh(linear_rows(&self.proj_in, x, stream)), stream)
    }

    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles, role: LinearRole) {
        roles.declare(role, [&self.proj_in, &self.proj_out]);
    }
}
