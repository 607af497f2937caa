use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Result, TokenGrid};

/// What a codec is, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecSpec {
    /// Pixels per token, along each side.
    pub downsample_factor: usize,
    /// Number of codes; valid ids are `0..codebook_size`.
    pub codebook_size: usize,
}

/// Turns images into discrete tokens and back.
pub trait VqCodec: Send + Sync {
    /// Downsampling and codebook size.
    fn spec(&self) -> &CodecSpec;

    /// Encodes `[B, 3, H, W]` RGB in 0..1 into `[B, H/f, W/f]` tokens, `f` the downsampling.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the image is not RGB, is empty, or a side is no
    /// multiple of `f`.
    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid>;

    /// Decodes `[B, h, w]` tokens into `[B, 3, h*f, w*f]` RGB in 0..1.
    ///
    /// # Errors
    /// [`Error::MaskTokenRemains`](crate::Error::MaskTokenRemains) while a token is no code.
    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>>;
}
