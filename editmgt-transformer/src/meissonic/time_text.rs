//! The vectors that modulate every block, from timestep, pooled text and micro-conditions.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use editmgt_core::{StepInput, Upload, UploadPart, Uploaded};

use crate::conditioning::{Mlp, micro_sinusoids, sinusoids};
use crate::meissonic::lora::{LinearRole, LinearRoles};

/// Channels of one embedded value.
pub(crate) const SINUSOID: usize = 256;

/// Channels of the embedded micro-conditions.
pub(crate) const MICRO: usize = 5 * SINUSOID;

/// Timesteps are embedded in units of 1/1000, as in the official code.
const TIMESTEP_SCALE: f32 = 1000.0;

/// Embeds the timestep and adds the embedded text vector.
#[derive(Module, Debug)]
pub(crate) struct TimeTextEmbedding {
    timestep_embedder: Mlp,
    text_embedder: Mlp,
}

/// The embedded numbers of a pass, within an upload.
pub(crate) struct NumberParts {
    batch: usize,
    micro: UploadPart,
    timestep: UploadPart,
    start: UploadPart,
}

impl NumberParts {
    pub(crate) fn new(input: &StepInput<'_>, upload: &mut Upload) -> Self {
        let scaled: Vec<f32> = input.timestep.iter().map(|t| t * TIMESTEP_SCALE).collect();
        Self {
            batch: input.micro.len(),
            micro: upload.floats(micro_sinusoids(input.micro, SINUSOID)),
            timestep: upload.floats(sinusoids(&scaled, SINUSOID)),
            start: upload.floats(sinusoids(&[0.0], SINUSOID)),
        }
    }

    /// The micro-conditions, `[B, 5 * 256]`.
    pub(crate) fn micro(&self, sent: &Uploaded) -> Tensor<2> {
        sent.floats(self.micro, [self.batch, MICRO])
    }

    /// The timesteps, `[B, 256]`.
    pub(crate) fn timestep(&self, sent: &Uploaded) -> Tensor<2> {
        sent.floats(self.timestep, [self.batch, SINUSOID])
    }

    /// Timestep 0, that of the reference, `[1, 256]`.
    pub(crate) fn start(&self, sent: &Uploaded) -> Tensor<2> {
        sent.floats(self.start, [1, SINUSOID])
    }
}

/// The conditioning vectors of a forward pass, `[B, D]` each, before the SiLU of the blocks.
#[derive(Debug)]
pub(crate) struct Conditioning {
    /// Of the text and image streams.
    pub(crate) canvas: Tensor<2>,
    /// Of the reference stream: the same at timestep 0.
    pub(crate) reference: Tensor<2>,
}

impl TimeTextEmbedding {
    pub(crate) fn new(width: usize, device: &Device) -> Self {
        Self {
            timestep_embedder: Mlp::new(SINUSOID, width, true, device),
            text_embedder: Mlp::new(width, width, true, device),
        }
    }

    /// Embedded timesteps, and projected pooled text with micro-conditions, to `[B, D]` each.
    ///
    /// # Shapes
    /// - `timestep`: `[B, 256]`
    /// - `start`: `[1, 256]`
    /// - `pooled`: `[B, D]`
    pub(crate) fn forward(
        &self,
        timestep: Tensor<2>,
        start: Tensor<2>,
        pooled: Tensor<2>,
    ) -> Conditioning {
        let text = self.text_embedder.forward(pooled);
        let embed = |timestep| self.timestep_embedder.forward(timestep);
        Conditioning { canvas: embed(timestep) + text.clone(), reference: embed(start) + text }
    }

    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles) {
        roles.declare(LinearRole::Conditioning, self.timestep_embedder.layers());
        roles.declare(LinearRole::Conditioning, self.text_embedder.layers());
    }
}
