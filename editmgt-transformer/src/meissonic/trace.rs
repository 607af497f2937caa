use burn::tensor::Tensor;

/// The intermediate results of a forward pass, to find the first one that differs when a checkpoint
/// or a backend is ported. See [`MgtModel::forward_traced`](crate::MgtModel::forward_traced).
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
    /// The inputs of the first block, `[B, N, D]`.
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
    /// The streams after a single block, except the last.
    Single {
        /// Index of the block, counted from the first double block.
        block: usize,
        /// Text rows, then image rows.
        joint: &'a Tensor<3>,
        /// As in [`Trace::Input`].
        reference: Option<&'a Tensor<3>>,
    },
    /// The image rows after the last block, which computes only these.
    Last(&'a Tensor<3>),
    /// The features from which the head computes logits, `[B, H*W, D]`.
    Output(&'a Tensor<3>),
}
