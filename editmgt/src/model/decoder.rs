//! The precision in which a codec decodes.

use burn::tensor::{DType, Tensor};
use editmgt_backends::Dtype;
use editmgt_core::{CodecSpec, GridSize, Result, Tiling, TokenGrid, VqCodec};
use editmgt_kernels::Operands;

use super::options::LoadOptions;
use super::precision::InferencePrecision;

/// A codec in f32 whose decoder rounds the operands of its convolutions as the transformer does
/// those of its products. Its encoder doesn't: there rounding would change which of thousands of
/// codes is nearest.
struct NarrowDecoder<C> {
    codec: C,
    operands: Operands,
}

/// The codec with a decoder that computes in these [operands](decoder_operands).
pub(crate) fn with_decoder<C: VqCodec + 'static>(codec: C, operands: Operands) -> Box<dyn VqCodec> {
    if operands == Operands::Exact {
        return Box::new(codec);
    }
    Box::new(NarrowDecoder { codec, operands })
}

/// The operands of a decoder's convolutions: those of the transformer's products, if the codec is
/// in f32.
pub(crate) fn decoder_operands(options: &LoadOptions) -> Operands {
    let policy = options.dtype;
    if policy.vq != Dtype::F32 {
        return Operands::Exact;
    }
    let transformer = DType::from(policy.transformer);
    InferencePrecision::new(&options.device, transformer, policy.compute).operands
}

impl<C: VqCodec> VqCodec for NarrowDecoder<C> {
    fn spec(&self) -> &CodecSpec {
        self.codec.spec()
    }

    fn is_local(&self) -> bool {
        self.codec.is_local()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        self.codec.encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        self.operands.install(|| self.codec.decode(tokens))
    }

    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        self.operands.install(|| self.codec.decode_small(tokens, shrink))
    }

    fn tile_side(&self, grid: GridSize, tiling: Tiling) -> Option<usize> {
        self.codec.tile_side(grid, tiling)
    }

    fn encode_tiled(&self, images: Tensor<4>, side: usize) -> Result<TokenGrid> {
        self.codec.encode_tiled(images, side)
    }

    fn decode_tiled(&self, tokens: &TokenGrid, side: usize) -> Result<Tensor<4>> {
        self.operands.install(|| self.codec.decode_tiled(tokens, side))
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use burn::tensor::Distribution;
    use editmgt_backends::{Compute, DtypePolicy};

    use super::*;
    use crate::Editor;

    /// Tokens are those of f32 in every precision; pixels differ by a few levels at most.
    #[test]
    fn only_the_decoder_is_narrow() {
        let editor = |policy| Editor::embedded().dtype(policy).build().unwrap();
        let exact = editor(DtypePolicy::uniform(Dtype::F32));
        let exact = &exact.model().codec;
        let bf16 = DtypePolicy::networks(Dtype::Bf16);
        let uniform = Distribution::Uniform(0.0, 1.0);
        let size = 8 * exact.spec().downsample_factor;
        let image = Tensor::random([1, 3, size, size], uniform, &burn::tensor::Device::flex());
        let tokens = exact.encode(image.clone()).unwrap();
        let expected = exact.decode(&tokens).unwrap();
        for policy in [bf16, DtypePolicy::uniform(Dtype::F32).with_compute(Compute::Int8)] {
            let editor = editor(policy);
            let codec = &editor.model().codec;
            assert_eq!(codec.encode(image.clone()).unwrap(), tokens);
            for tiling in [Tiling::Off, Tiling::Auto] {
                let decoded = codec.decode_with(&tokens, tiling).unwrap();
                let error = (decoded - expected.clone()).abs().max().into_scalar::<f32>();
                assert!(error < 0.02, "{policy:?}: {error}");
            }
        }
    }
}
