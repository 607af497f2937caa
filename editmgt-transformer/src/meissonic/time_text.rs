//! The vectors that modulate every block, from timestep, pooled text and micro-conditions.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::conditioning::{Mlp, sinusoids};
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

    /// Timesteps `[B]` and projected pooled text with micro-conditions `[B, D]`, to `[B, D]` each.
    pub(crate) fn forward(&self, timestep: &[f32], pooled: Tensor<2>) -> Conditioning {
        let (device, dtype) = (pooled.device(), pooled.dtype());
        let text = self.text_embedder.forward(pooled);
        let embed = |timestep: &[f32]| {
            let scaled: Vec<f32> = timestep.iter().map(|t| t * TIMESTEP_SCALE).collect();
            self.timestep_embedder.forward(sinusoids(&scaled, [1, SINUSOID], &device, dtype))
        };
        Conditioning { canvas: embed(timestep) + text.clone(), reference: embed(&[0.0]) + text }
    }

    pub(crate) fn declare_roles(&self, roles: &mut LinearRoles) {
        roles.declare(LinearRole::Conditioning, self.timestep_embedder.layers());
        roles.declare(LinearRole::Conditioning, self.text_embedder.layers());
    }
}
