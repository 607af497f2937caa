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

/// The intermediate results of a forward pass, for those who port a checkpoint or a backend and
/// look for the first number that differs. See [`MgtModel::forward_traced`](crate::MgtModel).
#[derive(Debug)]
#[non_exhaustive]
pub enum Trace<'a> {
    /// The vectors that modulate the blocks, `[B, D]`.
    Conditioning {
        /// Pooled text and micro-conditions, projected.
        pooled: &'a Tensor<2>,
        /// Of text and image.
        canvas: &'a Tensor<2>,
        /// Of the reference (timestep 0).
        reference: &'a Tensor<2>,
    },
    /// The embedded canvas, `[B, H*W, D]`, before 2x2 tokens are merged.
    Embedding(&'a Tensor<3>),
    /// The streams as they enter the first block, `[B, N, D]`.
    Input {
        /// `T` rows.
        text: &'a Tensor<3>,
        /// One row per cell of the inner grid.
        image: &'a Tensor<3>,
        /// One row per cell of the reference's inner grid.
        reference: Option<&'a Tensor<3>>,
    },
    /// The streams after a double block.
    Double {
        /// Index of the block.
        block: usize,
        /// As in [`Trace::Input`].
        text: &'a Tensor<3>,
        /// As in [`Trace::Input`].
        image: &'a Tensor<3>,
        /// As in [`Trace::Input`].
        reference: Option<&'a Tensor<3>>,
    },
    /// The streams after a single block but the last.
    Single {
        /// Index of the block, counted from the first double block.
        block: usize,
        /// Text rows, then image rows.
        joint: &'a Tensor<3>,
        /// As in [`Trace::Input`].
        reference: Option<&'a Tensor<3>>,
    },
    /// The image rows after the last block, which computes nothing else.
    Last(&'a Tensor<3>),
    /// The features that the head turns into logits, `[B, H*W, D]`.
    Output(&'a Tensor<3>),
}
