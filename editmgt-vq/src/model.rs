use std::borrow::Cow;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::Conv2d;
use burn::tensor::{DType, Device, Int, Tensor};
use editmgt_core::{CodecSpec, GridSize, Result, Tiling, TokenGrid, VqCodec};
use editmgt_kernels::BufferPool;

use crate::VqConfig;
use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::images::{IMAGE_CHANNELS, check_images};
use crate::quantizer::VectorQuantizer;
use crate::resample::shrink_codes;
use crate::resnet::conv1x1;
use crate::tiles::{self, Tiles, largest_activation, units};

/// With [`Tiling::Auto`], images whose activations are estimated to need more are computed in
/// tiles: 4 GiB. The official codec computes 1024x1024 whole and 1280x1280 in tiles.
const WHOLE_BYTES: usize = 1 << 32;
/// Activations alive at the same time when the largest one is computed (a shortcut, the input and
/// the output of a layer).
const ACTIVATIONS: usize = 3;
/// Side of the tiles of [`Tiling::Auto`], in pixels.
const AUTO_SIDE: usize = 256;

/// The VQ codec of the official checkpoints (diffusers `VQModel`).
///
/// Edits use it as a [`VqCodec`]; its other methods are the intermediate stages, for verification
/// and training. They are differentiable, except [`nearest_codes`](Self::nearest_codes).
///
/// Weights are f32, f16 or bf16; images are cast to the weights' type. With f16 weights and
/// `force_upcast` in the config, which marks a checkpoint whose activations may overflow f16,
/// encoder and decoder run in f32: each call widens a copy of the weights that it needs, and drops
/// it at the end. Norms and distances are computed in f32.
///
/// Built by [`VqConfig::init`].
#[derive(Module, Debug)]
pub struct VqModel {
    encoder: Encoder,
    quant_conv: Conv2d,
    quantize: VectorQuantizer,
    post_quant_conv: Conv2d,
    decoder: Decoder,
    #[module(skip)]
    spec: CodecSpec,
    force_upcast: bool,
}

impl VqModel {
    /// The config is valid.
    pub(crate) fn new(config: &VqConfig, device: &Device) -> Self {
        let (latent, code) = (config.latent_channels, config.code_channels());
        Self {
            encoder: Encoder::new(config, device),
            quant_conv: conv1x1([latent, code]).init(device),
            quantize: VectorQuantizer::new(config.num_vq_embeddings, code, device),
            post_quant_conv: conv1x1([code, latent]).init(device),
            decoder: Decoder::new(config, device),
            spec: config.spec(),
            force_upcast: config.force_upcast,
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
        self.encoded(images, |encoder, images| Ok(encoder.forward(images)))
    }

    /// As [`encode_latents`](Self::encode_latents), in tiles.
    pub(crate) fn encode_latents_tiled(
        &self,
        images: Tensor<4>,
        tiles: Tiles,
    ) -> Result<Tensor<4>> {
        self.encoded(images, |encoder, images| tiles::run(&units(encoder.steps()), images, tiles))
    }

    fn encoded(
        &self,
        images: Tensor<4>,
        run: impl FnOnce(&Encoder, Tensor<4>) -> Result<Tensor<4>> + Send,
    ) -> Result<Tensor<4>> {
        check_images(&images, self.spec.downsample_factor)?;
        let (encoder, quant_conv) = (self.widened(&self.encoder), self.widened(&self.quant_conv));
        let images = images.cast(quant_conv.weight.val().dtype());
        let latents = BufferPool::current().install(|| run(&encoder, images))?;
        Ok(quant_conv.forward(latents))
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
        self.decoded(codes, |decoder, latents| Ok(decoder.forward(latents)))
    }

    /// As [`decode_unclipped`](Self::decode_unclipped), in tiles.
    pub(crate) fn decode_unclipped_tiled(
        &self,
        codes: Tensor<4>,
        tiles: Tiles,
    ) -> Result<Tensor<4>> {
        self.decoded(codes, |decoder, latents| tiles::run(&units(decoder.steps()), latents, tiles))
    }

    fn decoded(
        &self,
        codes: Tensor<4>,
        run: impl FnOnce(&Decoder, Tensor<4>) -> Result<Tensor<4>> + Send,
    ) -> Result<Tensor<4>> {
        self.quantize.check_codes(&codes)?;
        let post_quant_conv = self.widened(&self.post_quant_conv);
        let codes = codes.cast(post_quant_conv.weight.val().dtype());
        let (decoder, latents) = (self.widened(&self.decoder), post_quant_conv.forward(codes));
        let images = BufferPool::current().install(|| run(&decoder, latents))?;
        Ok(images.cast(DType::F32))
    }

    #[cfg(test)]
    pub(crate) fn decoder_steps(&self) -> Vec<tiles::Step<'_>> {
        self.decoder.steps()
    }

    /// Estimated bytes of the activations of an image of this grid, computed whole in f32.
    fn whole_bytes(&self, grid: GridSize) -> usize {
        let f = self.spec.downsample_factor;
        let (height, width) = (grid.height.saturating_mul(f), grid.width.saturating_mul(f));
        let latent_channels = self.post_quant_conv.weight.lazy_shape()[0];
        let encoder = largest_activation(&self.encoder.steps(), IMAGE_CHANNELS, [height, width]);
        let decoder =
            largest_activation(&self.decoder.steps(), latent_channels, [grid.height, grid.width]);
        encoder.max(decoder).saturating_mul(ACTIVATIONS * DType::F32.size())
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

    /// The module to run: itself, or a copy in f32.
    fn widened<'a, M: Module>(&self, module: &'a M) -> Cow<'a, M> {
        let is_f16 = self.quant_conv.weight.val().dtype() == DType::F16;
        if self.force_upcast && is_f16 {
            Cow::Owned(module.clone().map(&mut Cast(DType::F32)))
        } else {
            Cow::Borrowed(module)
        }
    }
}

impl VqCodec for VqModel {
    fn spec(&self) -> &CodecSpec {
        &self.spec
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        self.quantize.tokens(self.encode_latents(images)?)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        self.decode_small(tokens, 1)
    }

    /// The decoder sees the means of neighbouring codes, about `shrink²` times fewer than in
    /// [`decode`](VqCodec::decode).
    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        let codes = shrink_codes(self.embed(tokens)?, shrink)?;
        Ok(self.decode_unclipped(codes)?.clamp(0.0, 1.0))
    }

    fn tile_side(&self, grid: GridSize, tiling: Tiling) -> Option<usize> {
        let longer = grid.height.max(grid.width).saturating_mul(self.spec.downsample_factor);
        match tiling {
            Tiling::Off => None,
            Tiling::Pixels(side) => (longer > side).then_some(side),
            Tiling::Auto => (self.whole_bytes(grid) > WHOLE_BYTES).then_some(AUTO_SIDE),
        }
    }

    fn encode_tiled(&self, images: Tensor<4>, side: usize) -> Result<TokenGrid> {
        self.quantize.tokens(self.encode_latents_tiled(images, Tiles::of_side(side))?)
    }

    fn decode_tiled(&self, tokens: &TokenGrid, side: usize) -> Result<Tensor<4>> {
        let tiles = Tiles::of_side(side);
        Ok(self.decode_unclipped_tiled(self.embed(tokens)?, tiles)?.clamp(0.0, 1.0))
    }
}

/// Casts all weights.
pub(crate) struct Cast(pub(crate) DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::module::ModuleVisitor;
    use editmgt_core::{Error, GridSize};

    use super::*;
    use crate::testing::{Waves, image};

    /// Two resolutions, so two pixels per token.
    fn tiny() -> VqConfig {
        VqConfig {
            layers_per_block: 1,
            norm_num_groups: 2,
            latent_channels: 3,
            num_vq_embeddings: 5,
            force_upcast: false,
            ..VqConfig::official().with_block_out_channels([2, 4])
        }
    }

    /// Weights that look random and are the same in every run.
    fn model(config: &VqConfig) -> VqModel {
        config.init(&Device::flex()).unwrap().map(&mut Waves)
    }

    /// Sizes of all parameters by their path, none of them initialised.
    #[derive(Default)]
    struct Sizes {
        path: Vec<String>,
        sizes: BTreeMap<String, usize>,
    }

    impl ModuleVisitor for Sizes {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert!(!param.is_initialized(), "{} was allocated", self.path.join("."));
            self.sizes.insert(self.path.join("."), param.lazy_shape().num_elements());
        }
    }

    #[test]
    fn the_official_size() {
        let mut visitor = Sizes::default();
        VqConfig::official().init(&Device::flex()).unwrap().visit(&mut visitor);
        let sizes = visitor.sizes;
        assert_eq!(sizes.len(), 277);
        assert_eq!(sizes.values().sum::<usize>(), 146_244_675);
        for (part, expected) in [
            ("encoder.", 58_693_568),
            ("quant_conv.", 4_160),
            ("quantize.embedding.weight", 524_288),
            ("post_quant_conv.", 4_160),
            ("decoder.", 87_018_499),
            ("encoder.down_blocks.3.downsamplers.0.conv.weight", 512 * 512 * 9),
            ("encoder.down_blocks.4.resnets.0.conv_shortcut.weight", 512 * 768),
            ("encoder.down_blocks.4.resnets.1.norm1.bias", 768),
            ("decoder.mid_block.resnets.1.conv2.weight", 768 * 768 * 9),
            ("decoder.up_blocks.0.resnets.2.norm2.weight", 768),
            ("decoder.up_blocks.1.resnets.0.conv_shortcut.weight", 768 * 512),
            ("decoder.up_blocks.3.upsamplers.0.conv.bias", 256),
            ("decoder.conv_norm_out.weight", 128),
        ] {
            let size = sizes.iter().filter(|(path, _)| path.starts_with(part)).map(|(_, n)| n);
            assert_eq!(size.sum::<usize>(), expected, "{part}");
        }
        // The finest and the coarsest resolution end without resampling.
        for part in ["encoder.down_blocks.4.downsamplers", "decoder.up_blocks.4.upsamplers"] {
            assert!(!sizes.keys().any(|path| path.starts_with(part)), "{part}");
        }
    }

    #[test]
    fn shapes_follow_the_factor_and_codes_may_have_their_own_width() {
        for (levels, vq_embed_dim, shape, grid) in [
            (vec![4], None, [1, 3, 1, 1], GridSize::new(1, 1)),
            (vec![2, 4], Some(7), [2, 3, 2, 6], GridSize::new(1, 3)),
            (vec![2, 4, 4], Some(1), [1, 3, 8, 4], GridSize::new(2, 1)),
        ] {
            let codec =
                model(&VqConfig { vq_embed_dim, ..tiny().with_block_out_channels(levels.clone()) });
            let channels = vq_embed_dim.unwrap_or(3);
            let latents = codec.encode_latents(image(shape)).unwrap();
            assert_eq!(latents.dims(), [shape[0], channels, grid.height, grid.width]);
            let tokens = codec.encode(image(shape)).unwrap();
            assert_eq!((tokens.batch(), tokens.size()), (shape[0], grid), "{levels:?}");
            assert!(tokens.ids().iter().all(|&id| id < 5), "{tokens:?}");
            assert_eq!(codec.decode(&tokens).unwrap().dims(), shape, "{levels:?}");
        }
    }

    #[test]
    fn images_that_do_not_fit_are_refused() {
        let codec = model(&tiny());
        for shape in [[0, 3, 4, 4], [1, 1, 4, 4], [1, 4, 4, 4], [1, 3, 0, 4], [1, 3, 4, 5]] {
            let error = codec.encode(Tensor::zeros(shape, &Device::flex())).unwrap_err();
            assert!(matches!(error, Error::Shape { .. }), "{shape:?}: {error}");
            assert!(error.to_string().contains(&format!("{shape:?}")), "{error}");
        }
    }

    #[test]
    fn an_image_that_is_no_number_is_refused() {
        for value in [f32::NAN, f32::INFINITY] {
            let error = model(&tiny()).encode(image([1, 3, 4, 4]) * value).unwrap_err();
            assert!(matches!(error, Error::Value { .. }), "{error}");
        }
    }

    #[test]
    fn unfinished_or_empty_grids_are_refused() {
        let codec = model(&tiny());
        let unfinished = TokenGrid::new(1, GridSize::new(2, 2), vec![4, 5, 0, 8255]).unwrap();
        let error = codec.decode(&unfinished).unwrap_err();
        let expected = "2 of 4 tokens are not codebook indices";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(matches!(error, Error::MaskTokenRemains { count: 2, total: 4, codebook_size: 5 }));
        for (batch, size) in [(0, GridSize::new(2, 2)), (1, GridSize::new(0, 2))] {
            let error = codec.decode(&TokenGrid::filled(batch, size, 0)).unwrap_err();
            assert!(matches!(error, Error::Grid { .. }), "{error}");
        }
    }

    #[test]
    fn vectors_that_are_no_codes_are_refused() {
        let codec = model(&tiny());
        for shape in [[0, 3, 2, 2], [1, 4, 2, 2], [1, 3, 0, 2]] {
            let vectors = Tensor::zeros(shape, &Device::flex());
            let error = codec.nearest_codes(vectors.clone()).unwrap_err();
            assert!(matches!(error, Error::Shape { .. }), "{shape:?}: {error}");
            let error = codec.decode_unclipped(vectors).unwrap_err();
            assert!(matches!(error, Error::Shape { .. }), "{shape:?}: {error}");
        }
    }

    #[test]
    fn decode_is_the_unclipped_image_clipped() {
        let codec = model(&tiny());
        let tokens = TokenGrid::new(1, GridSize::new(2, 2), vec![1, 4, 0, 2]).unwrap();
        let raw = codec.decode_unclipped(codec.embed(&tokens).unwrap()).unwrap();
        let raw = raw.try_into_vec_as::<f32>().unwrap();
        assert!(raw.iter().any(|v| !(0.0..=1.0).contains(v)), "{raw:?}: nothing to clip");
        let image = codec.decode(&tokens).unwrap().try_into_vec_as::<f32>().unwrap();
        let clipped: Vec<f32> = raw.iter().map(|v| v.clamp(0.0, 1.0)).collect();
        assert_eq!(image, clipped);
    }

    #[test]
    fn half_precision_runs_and_f16_upcasts_when_told() {
        let tokens = TokenGrid::new(1, GridSize::new(2, 2), vec![0, 1, 2, 3]).unwrap();
        let narrow = |model: &VqModel, dtype| model.clone().map(&mut Cast(dtype));
        let decode = |model: &VqModel| {
            let image = model.decode(&tokens).unwrap();
            assert_eq!(image.dtype(), DType::F32);
            image
        };
        for (dtype, force_upcast, upcasts) in [
            (DType::F16, true, true),
            (DType::F16, false, false),
            (DType::BF16, true, false),
            (DType::BF16, false, false),
        ] {
            let model = model(&VqConfig { force_upcast, ..tiny() });
            let half = narrow(&model, dtype);
            // The same weights, already rounded, in f32.
            let rounded = narrow(&half, DType::F32);
            let worst = (decode(&half) - decode(&rounded)).abs().max().into_scalar::<f32>();
            assert_eq!(worst == 0.0, upcasts, "{dtype:?} {force_upcast}: {worst}");
            // Half precision has 8 to 11 bits; a few layers of rounding cost some of them.
            assert!(worst < 0.05, "{dtype:?}: {worst}");
            let latents = half.encode_latents(image([1, 3, 4, 4])).unwrap();
            assert_eq!(latents.dtype(), if upcasts { DType::F32 } else { dtype });
            assert_eq!(half.encode(image([1, 3, 4, 4])).unwrap().size(), GridSize::new(2, 2));
        }
    }
}
