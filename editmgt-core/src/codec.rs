use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;
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

    /// Whether a change of one part of the image leaves the tokens and the decoded pixels far from
    /// it as they are. `false` (the default) for a codec with global norms or attention, where
    /// every token and pixel may drift a little with any change.
    fn is_local(&self) -> bool {
        false
    }

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

    /// Decodes `[B, h, w]` tokens into a picture `shrink` times smaller, to look at on the way:
    /// `[B, 3, max(h / shrink, 1) * f, max(w / shrink, 1) * f]` RGB in 0..1, rounded down.
    ///
    /// Unless a codec knows better, the whole picture is decoded and averaged, which saves nothing.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode), and [`Error::Value`](crate::Error::Value) for 0.
    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        let small = tokens.size().shrunk(shrink)?;
        let f = self.spec().downsample_factor;
        match shrink {
            1 => self.decode(tokens),
            _ => {
                let image = self.decode(tokens)?;
                Ok(adaptive_avg_pool2d(image, [small.height * f, small.width * f]))
            }
        }
    }
}
