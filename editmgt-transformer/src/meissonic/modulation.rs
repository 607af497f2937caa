//! The layer that modulates a block.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::conditioning::conditioning_rows;
use crate::meissonic::lora::{LinearRole, LinearRoles};
use crate::meissonic::pass::Stream;
use crate::meissonic::rows::linear;

/// Computes the shifts, scales and gates of a block from the conditioning.
#[derive(Module, Debug)]
pub(crate) struct AdaLayerNorm {
    linear: Linear,
}

impl AdaLayerNorm {
    /// A layer for `parts` vectors of the given width.
    pub(crate) fn new(width: usize, parts: usize, device: &Device) -> Self {
        Self { linear: LinearConfig::new(width, parts * width).init(device) }
    }

    /// `[B, D]`, after SiLU, to `[B, 1, D]` each.
    pub(crate) fn forward<const PARTS: usize>(
        &self,
        conditioning: &Tensor<2>,
        stream: Stream,
    ) -> [Tensor<3>; PARTS] {
        let parts =
            conditioning_rows(conditioning.clone(), |rows| linear(&self.linear, [rows], stream));
        let parts = parts.unsqueeze_dim::<3>(1);
        parts
            .chunk(PARTS, 2)
            .try_into()
            .expect("a norm is built for the number of parts that its block reads")
    }

    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles, role: LinearRole) {
        roles.declare(role, [&self.linear]);
    }
}
