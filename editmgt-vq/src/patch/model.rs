use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use editmgt_core::{CodecSpec, GridSize, Result, Tiling, TokenGrid, VqCodec};

use super::PatchVqConfig;
use super::decoder::PatchDecoder;
use super::encoder::PatchEncoder;
use crate::images::check_images;
use crate::quantizer::VectorQuantizer;
use crate::resample::shrink_codes;
use crate::tiles::{Area, Assembled};

/// With [`Tiling::Auto`], images whose activations are estimated to need more are computed in
/// tiles: 1 GiB.
const WHOLE_BYTES: usize = 1 << 30;
/// Side of the tiles of [`Tiling::Auto`], in pixels.
const AUTO_SIDE: usize = 512;

/// The patch-local codec: a token depends only on its patch; the decoder also uses neighbouring
/// tokens.
///
/// Edits use it as a [`VqCodec`]; its other methods are the intermediate stages, for training. They
/// are differentiable, except [`nearest_codes`](Self::nearest_codes).
///
/// Weights are f32, f16 or bf16; images are cast to the weights' type. Distances are computed in
/// f32.
///
/// Built by [`PatchVqConfig::init`].
#[derive(Module, Debug)]
pub struct PatchVqModel {
    encoder: PatchEncoder,
    quantize: VectorQuantizer,
    decoder: PatchDecoder,
    #[module(skip)]
    spec: CodecSpec,
}

impl PatchVqModel {
    /// The config is valid.
    pub(crate) fn new(config: &PatchVqConfig, device: &Device) -> Self {
        Self {
            encoder: PatchEncoder::new(config, device),
            quantize: VectorQuantizer::new(config.num_codes, config.code_channels, device),
            decoder: PatchDecoder::new(config, device),
            spec: config.spec(),
        }
    }

    /// Encodes images into latents, before quantization.
    ///
    /// # Shapes
    /// `[B, 3, H, W]` RGB in 0..1, to `[B, C, H/f, W/f]`.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) as [`VqCodec::encode`].
    pub fn encode_latents(&self, images: Tensor<4>) -> Result<Tensor<4>> {
        check_images(&images, self.spec.downsample_factor)?;
        Ok(self.encoder.forward(images.cast(self.encoder.dtype())))
    }

    /// The id of the nearest code of each vector, by Euclidean distance; the lowest id in a tie.
    ///
    /// # Shapes
    /// `[B, C, h, w]`, to `[B, h, w]`.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) if the vectors have other channels than the
    /// codebook, or are empty.
    pub fn nearest_codes(&self, latents: Tensor<4>) -> Result<Tensor<3, Int>> {
        self.quantize.nearest_checked(latents)
    }

    /// The codes of a grid, in the weights' dtype.
    ///
    /// # Shapes
    /// `[B, h, w]` tokens, to `[B, C, h, w]`.
    ///
    /// # Errors
    /// [`Error::MaskTokenRemains`](editmgt_core::Error::MaskTokenRemains) if any id is not a
    /// codebook index, [`Error::Grid`](editmgt_core::Error::Grid) for an empty grid.
    pub fn embed(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        self.quantize.embed(tokens)
    }

    /// Decodes codes into images, without clipping to 0..1.
    ///
    /// # Shapes
    /// `[B, C, h, w]`, to `[B, 3, h*f, w*f]` RGB in f32.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) if the codes have other channels than the
    /// codebook, or are empty.
    pub fn decode_unclipped(&self, codes: Tensor<4>) -> Result<Tensor<4>> {
        self.quantize.check_codes(&codes)?;
        Ok(self.decoder.forward(codes.cast(self.decoder.dtype())).cast(DType::F32))
    }

    /// The codebook.
    ///
    /// # Shapes
    /// `[codes, channels]`.
    pub fn codebook(&self) -> Tensor<2> {
        self.quantize.codebook()
    }

    /// Replaces the codebook.
    ///
    /// # Shapes
    /// `codes`: `[codes, channels]`.
    ///
    /// # Errors
    /// [`Error::Shape`](editmgt_core::Error::Shape) if the number of codes or the channels differ.
    pub fn with_codebook(mut self, codes: Tensor<2>) -> Result<Self> {
        self.quantize = self.quantize.with_codebook(codes)?;
        Ok(self)
    }
}

impl VqCodec for PatchVqModel {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn is_local(&self) -> bool {
        true
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        self.quantize.tokens(self.encode_latents(images)?)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        self.decode_small(tokens, 1)
    }

    fn tile_side(&self, grid: GridSize, tiling: Tiling) -> Option<usize> {
        let longer = grid.height.max(grid.width).saturating_mul(self.spec.downsample_factor);
        match tiling {
            Tiling::Off => None,
            Tiling::Pixels(side) => (longer > side).then_some(side),
            Tiling::Auto => {
                (self.decoder.whole_bytes(grid.len()) > WHOLE_BYTES).then_some(AUTO_SIDE)
            }
        }
    }

    /// Sides that are not a multiple of the downsampling factor are rounded down to one, but to one
    /// token at least.
    fn encode_tiled(&self, images: Tensor<4>, side: usize) -> Result<TokenGrid> {
        let f = self.spec.downsample_factor;
        check_images(&images, f)?;
        let [.., height, width] = images.dims();
        let grid = [height / f, width / f];
        let mut latents = Assembled::new(grid);
        for area in Area::tiles(grid, (side / f).max(1)) {
            let image = area.finer(f).crop(images.clone(), &Area::whole([height, width]));
            latents.put(area, self.encode_latents(image)?);
        }
        self.quantize.tokens(latents.finish())
    }

    /// Sides as in [`encode_tiled`](VqCodec::encode_tiled). Each tile is decoded with a margin of
    /// the tokens that it depends on.
    fn decode_tiled(&self, tokens: &TokenGrid, side: usize) -> Result<Tensor<4>> {
        let (f, margin) = (self.spec.downsample_factor, self.decoder.margin());
        let codes = self.embed(tokens)?;
        let [.., height, width] = codes.dims();
        let grid = [height, width];
        let mut image = Assembled::new([height * f, width * f]);
        for area in Area::tiles(grid, (side / f).max(1)) {
            let wider = area.with_margin(margin, grid);
            let part = self.decode_unclipped(wider.crop(codes.clone(), &Area::whole(grid)))?;
            let area = area.finer(f);
            let part = area.crop(part, &wider.finer(f));
            image.put(area, part.clamp(0.0, 1.0));
        }
        Ok(image.finish())
    }

    /// The decoder sees the means of neighbouring codes, about `shrink²` times fewer than in
    /// [`decode`](VqCodec::decode).
    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        let codes = shrink_codes(self.embed(tokens)?, shrink)?;
        Ok(self.decode_unclipped(codes)?.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use editmgt_core::{Error, GridSize};

    use super::*;
    use crate::model::Cast;
    use crate::testing::{Waves, image};

    fn tiny() -> PatchVqConfig {
        PatchVqConfig {
            encoder_channels: vec![6],
            code_channels: 3,
            num_codes: 7,
            decoder_channels: vec![8, 4],
            blocks_per_level: 1,
        }
    }

    /// Pseudo-random weights, the same in every run; codes are some of the latents.
    fn model(config: &PatchVqConfig) -> PatchVqModel {
        let model = config.init(&Device::flex()).unwrap().map(&mut Waves);
        let latents = model.encode_latents(image([1, 3, 12, 12])).unwrap();
        let rows = latents.permute([0, 2, 3, 1]).reshape([9, config.code_channels]);
        model.with_codebook(rows.narrow(0, 0, config.num_codes)).unwrap()
    }

    #[test]
    fn decode_small_decodes_mean_codes() {
        let codec = model(&tiny());
        let size = GridSize::new(5, 4);
        let tokens = TokenGrid::new(2, size, (0..40).map(|i| i % 7).collect()).unwrap();
        let values = |image: Tensor<4>| image.try_into_vec_as::<f32>().unwrap();
        let whole = values(codec.decode(&tokens).unwrap());
        assert_eq!(values(codec.decode_small(&tokens, 1).unwrap()), whole);
        let f = codec.spec().downsample_factor;
        for (shrink, [height, width]) in [(2, [2, 2]), (3, [1, 1]), (9, [1, 1])] {
            let image = codec.decode_small(&tokens, shrink).unwrap();
            assert_eq!(image.dims(), [2, 3, height * f, width * f], "{shrink}");
        }
        // The mean of a cell with one code is that code.
        let blocks = (0..16).map(|i| [3, 5, 1, 6][i / 8 * 2 + i % 4 / 2]).collect();
        let blocks = TokenGrid::new(1, GridSize::new(4, 4), blocks).unwrap();
        let one_each = TokenGrid::new(1, GridSize::new(2, 2), vec![3, 5, 1, 6]).unwrap();
        let (small, expected) =
            (codec.decode_small(&blocks, 2).unwrap(), codec.decode(&one_each).unwrap());
        for (got, expected) in values(small).into_iter().zip(values(expected)) {
            assert!((got - expected).abs() < 1e-5, "{got}, {expected}");
        }
        assert!(matches!(codec.decode_small(&tokens, 0), Err(Error::Value { .. })));
    }

    #[test]
    fn shapes_follow_the_levels() {
        for (levels, shape, grid) in [
            (vec![4], [1, 3, 2, 2], GridSize::new(1, 1)),
            (vec![4, 2], [2, 3, 4, 8], GridSize::new(1, 2)),
            (vec![4, 4, 2], [1, 3, 24, 8], GridSize::new(3, 1)),
        ] {
            let config = PatchVqConfig { decoder_channels: levels, ..tiny() };
            let codec = config.init(&Device::flex()).unwrap();
            let tokens = codec.encode(image(shape)).unwrap();
            assert_eq!((tokens.batch(), tokens.size()), (shape[0], grid));
            assert_eq!(codec.decode(&tokens).unwrap().dims(), shape);
        }
    }

    #[test]
    fn a_changed_patch_changes_only_its_token() {
        let codec = model(&tiny());
        let photo = image([1, 3, 12, 12]);
        let before = codec.encode(photo.clone()).unwrap();
        for (row, column) in [(0, 0), (1, 2), (2, 1)] {
            // The patch below or above, which has another token.
            let other = (row + 1) % 3;
            let rows = |row: usize| 4 * row..4 * row + 4;
            let patch = photo.clone().slice([0..1, 0..3, rows(other), rows(column)]);
            let edited = photo.clone().slice_assign([0..1, 0..3, rows(row), rows(column)], patch);
            let after = codec.encode(edited).unwrap();
            let mut expected = before.clone();
            expected.ids_mut()[3 * row + column] = before.ids()[3 * other + column];
            assert_ne!(expected, before, "the two patches have the same token");
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn the_decoder_uses_neighbouring_tokens() {
        let codec = model(&tiny());
        let corner = |id| {
            let mut tokens = TokenGrid::filled(1, GridSize::new(2, 2), 0);
            tokens.ids_mut()[3] = id;
            let image = codec.decode_unclipped(codec.embed(&tokens).unwrap()).unwrap();
            image.slice([0..1, 0..3, 0..4, 0..4]).try_into_vec_as::<f32>().unwrap()
        };
        assert!((1..7).any(|id| corner(id) != corner(0)));
    }

    #[test]
    fn rejects_invalid_images_codes_and_tokens() {
        let codec = model(&tiny());
        for shape in [[0, 3, 4, 4], [1, 1, 4, 4], [1, 3, 0, 4], [1, 3, 4, 5]] {
            let error = codec.encode(Tensor::zeros(shape, &Device::flex())).unwrap_err();
            assert!(matches!(error, Error::Shape { .. }), "{shape:?}: {error}");
        }
        for shape in [[0, 3, 2, 2], [1, 4, 2, 2], [1, 3, 0, 2]] {
            let vectors = Tensor::zeros(shape, &Device::flex());
            assert!(codec.nearest_codes(vectors.clone()).is_err(), "{shape:?}");
            assert!(codec.decode_unclipped(vectors).is_err(), "{shape:?}");
        }
        let unfinished = TokenGrid::new(1, GridSize::new(1, 2), vec![6, 7]).unwrap();
        let error = codec.decode(&unfinished).unwrap_err();
        assert!(matches!(error, Error::MaskTokenRemains { count: 1, .. }), "{error}");
        for shape in [[7, 2], [6, 3]] {
            let codes = Tensor::zeros(shape, &Device::flex());
            assert!(codec.clone().with_codebook(codes).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn half_precision_runs() {
        let codec = model(&tiny());
        let tokens = codec.encode(image([1, 3, 8, 8])).unwrap();
        let full = codec.decode(&tokens).unwrap();
        for dtype in [DType::F16, DType::BF16] {
            let half = codec.clone().map(&mut Cast(dtype));
            assert_eq!(half.encode(image([1, 3, 8, 8])).unwrap().size(), tokens.size());
            let image = half.decode(&tokens).unwrap();
            assert_eq!(image.dtype(), DType::F32);
            let worst = (image - full.clone()).abs().max().into_scalar::<f32>();
            // Half precision has 8 to 11 bits; a few layers of rounding cost some of them.
            assert!(worst < 0.05, "{dtype:?}: {worst}");
        }
    }
}
