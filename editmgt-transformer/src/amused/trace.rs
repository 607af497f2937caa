/// The convolutional blocks of the way in or of the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stack {
    /// Before the layers.
    Down,
    /// After them.
    Up,
}

/// A part of a layer: its output before the residual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerPart {
    /// The norm before self attention.
    Norm1,
    /// Self attention.
    Attention1,
    /// The norm before the attention to the text.
    Norm2,
    /// Attention to the text.
    Attention2,
    /// The norm before the feed-forward network.
    Norm3,
    /// The feed-forward network.
    FeedForward,
}

/// The points of a forward pass at which [`UVit2DModel::forward_traced`] shows the intermediate
/// result, to find the first one that differs when a checkpoint or a backend is ported.
///
/// All are `[B, N, C]`, tokens of a grid row by row.
///
/// [`UVit2DModel::forward_traced`]: crate::UVit2DModel::forward_traced
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UVit2DPoint {
    /// The text rows, projected and normalised.
    Context,
    /// The embedded micro-conditions, `[B, 1, 5 * channels]`.
    MicroConditions,
    /// The vector that modulates every block, `[B, 1, D]`, before SiLU.
    Conditioning,
    /// The embedded canvas, `H * W` tokens.
    Embedding,
    /// After 2x2 tokens are merged.
    Merged,
    /// After a 3x3 convolution per channel.
    Depthwise(Stack, usize),
    /// After the global response norm.
    ResponseNorm(Stack, usize),
    /// After the convolutions of a block and their modulation.
    Convolutions(Stack, usize),
    /// The keys' and values' input of a block's attentions, `T` rows.
    BlockText(Stack, usize),
    /// The output of a block's first attention before the residual.
    BlockAttention(Stack, usize),
    /// After a block.
    Block(Stack, usize),
    /// The input of the first layer.
    ToHidden,
    /// A part of a layer.
    LayerPart(usize, LayerPart),
    /// After a layer.
    Layer(usize),
    /// The input of the first block of the way out.
    FromHidden,
    /// The features from which the head computes logits, `H * W` tokens.
    Output,
}
