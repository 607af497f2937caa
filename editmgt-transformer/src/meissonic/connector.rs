use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::meissonic::lora::{LinearRole, LinearRoles};
use crate::meissonic::pass::Stream;
use crate::meissonic::rows::linear_rows;

/// Projects text rows to the transformer's width.
#[derive(Module, Debug)]
pub(crate) struct TextConnector {
    projector: Linear,
}

impl TextConnector {
    pub(crate) fn new(text_size: usize, width: usize, device: &Device) -> Self {
        Self { projector: LinearConfig::new(text_size, width).init(device) }
    }

    /// `[B, T, text_size]` to `[B, T, D]`.
    pub(crate) fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        linear_rows(&self.projector, hidden, Stream::Canvas)
    }

    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles) {
        roles.declare(LinearRole::Canvas, [&self.projector]);
    }
}
