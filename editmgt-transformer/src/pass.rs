//! What travels through the blocks during one forward pass.

use burn::tensor::{DType, Tensor};

use crate::attention::KeyWeights;
use crate::rope::Rotation;

/// The three token streams, `[B, N, D]` each.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) text: Tensor<3>,
    pub(crate) image: Tensor<3>,
    pub(crate) reference: Option<Tensor<3>>,
}

/// What stays the same for all blocks of a pass.
#[derive(Debug)]
pub(crate) struct BlockContext {
    /// SiLU of the conditioning of text and image, `[B, D]`.
    pub(crate) conditioning: Tensor<2>,
    /// Rotations of text, image, and both joined.
    pub(crate) text_rotation: Rotation,
    pub(crate) image_rotation: Rotation,
    pub(crate) joint_rotation: Rotation,
    /// Present when the reference takes part.
    pub(crate) reference: Option<ReferenceContext>,
}

/// The reference's side of [`BlockContext`].
#[derive(Debug)]
pub(crate) struct ReferenceContext {
    /// SiLU of the conditioning at timestep 0, `[B, D]`.
    pub(crate) conditioning: Tensor<2>,
    /// Rotation on the reference's own grid.
    pub(crate) rotation: Rotation,
    /// Absent for a strength of 1.
    pub(crate) weights: Option<KeyWeights>,
}

impl BlockContext {
    pub(crate) fn weights(&self) -> Option<&KeyWeights> {
        self.reference.as_ref()?.weights.as_ref()
    }
}

/// The official clip of the residual stream in f16: no infinity survives a block.
pub(crate) fn clip_f16(x: Tensor<3>) -> Tensor<3> {
    const LARGEST: f32 = 65504.0;
    match x.dtype() {
        DType::F16 => x.clamp(-LARGEST, LARGEST),
        _ => x,
    }
}
