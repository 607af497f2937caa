use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;
use serde::{Deserialize, Serialize};

use crate::{GridSize, Result, Tiling, TokenGrid};

/// The sizes of a codec.
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

    /// Encodes images into tokens.
    ///
    /// # Shapes
    /// `[B, 3, H, W]` RGB in 0..1, to `[B, H/f, W/f]` tokens; `f` is the downsampling factor.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the image is not RGB, is empty, or a side is not a
    /// multiple of `f`.
    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid>;

    /// Decodes tokens into images.
    ///
    /// # Shapes
    /// `[B, h, w]` tokens, to `[B, 3, h*f, w*f]` RGB in 0..1.
    ///
    /// # Errors
    /// [`Error::MaskTokenRemains`](crate::Error::MaskTokenRemains) if any id is not a codebook
    /// index.
    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>>;

    /// Decodes tokens into images `shrink` times smaller, for previews.
    ///
    /// The default implementation decodes at full size and average-pools; override it to save work.
    ///
    /// # Shapes
    /// `[B, h, w]` tokens, to `[B, 3, max(h / shrink, 1) * f, max(w / shrink, 1) * f]` RGB in 0..1,
    /// with quotients rounded down.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode), and [`Error::Value`](crate::Error::Value) if `shrink` is
    /// 0.
    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        let small = tokens.size().shrunk(shrink)?;
        let f = self.spec().downsample_factor;
        let image = self.decode(tokens)?;
        if shrink == 1 {
            return Ok(image);
        }
        Ok(adaptive_avg_pool2d(image, [small.height * f, small.width * f]))
    }

    /// Side of the tiles that an image of this token grid is computed in, in pixels; `None` (the
    /// default) if it is computed whole.
    fn tile_side(&self, grid: GridSize, tiling: Tiling) -> Option<usize> {
        let _ = (grid, tiling);
        None
    }

    /// As [`encode`](Self::encode), computed in tiles, in memory that the tiles bound. Up to
    /// rounding the result is that of [`encode`](Self::encode). The default implementation is
    /// [`encode`](Self::encode).
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    fn encode_tiled(&self, images: Tensor<4>, side: usize) -> Result<TokenGrid> {
        let _ = side;
        self.encode(images)
    }

    /// As [`decode`](Self::decode), computed in tiles, in memory that the tiles bound. Up to
    /// rounding the result is that of [`decode`](Self::decode). The default implementation is
    /// [`decode`](Self::decode).
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    fn decode_tiled(&self, tokens: &TokenGrid, side: usize) -> Result<Tensor<4>> {
        let _ = side;
        self.decode(tokens)
    }

    /// Encodes whole or in tiles, as [`tile_side`](Self::tile_side) says.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    fn encode_with(&self, images: Tensor<4>, tiling: Tiling) -> Result<TokenGrid> {
        let f = self.spec().downsample_factor.max(1);
        let [.., height, width] = images.dims();
        match self.tile_side(GridSize::new(height / f, width / f), tiling) {
            Some(side) => self.encode_tiled(images, side),
            None => self.encode(images),
        }
    }

    /// Decodes whole or in tiles, as [`tile_side`](Self::tile_side) says.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    fn decode_with(&self, tokens: &TokenGrid, tiling: Tiling) -> Result<Tensor<4>> {
        match self.tile_side(tokens.size(), tiling) {
            Some(side) => self.decode_tiled(tokens, side),
            None => self.decode(tokens),
        }
    }
}
