//! A shared stage is a stage.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{
    ActiveRows, AttentionRequest, CodecSpec, GridSize, HoldMask, HoldRequest, MgtTransformer,
    RegionHold, Result, StepCache, StepInput, StepOutput, TextConditioning, TextEncoder, TextSpec,
    Tiling, TokenGrid, TransformerSpec, Truncation, VqCodec,
};

impl<T: VqCodec + ?Sized> VqCodec for Arc<T> {
    fn spec(&self) -> &CodecSpec {
        (**self).spec()
    }

    fn is_local(&self) -> bool {
        (**self).is_local()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        (**self).encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        (**self).decode(tokens)
    }

    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        (**self).decode_small(tokens, shrink)
    }

    fn tile_side(&self, grid: GridSize, tiling: Tiling) -> Option<usize> {
        (**self).tile_side(grid, tiling)
    }

    fn encode_tiled(&self, images: Tensor<4>, side: usize) -> Result<TokenGrid> {
        (**self).encode_tiled(images, side)
    }

    fn decode_tiled(&self, tokens: &TokenGrid, side: usize) -> Result<Tensor<4>> {
        (**self).decode_tiled(tokens, side)
    }

    fn encode_with(&self, images: Tensor<4>, tiling: Tiling) -> Result<TokenGrid> {
        (**self).encode_with(images, tiling)
    }

    fn decode_with(&self, tokens: &TokenGrid, tiling: Tiling) -> Result<Tensor<4>> {
        (**self).decode_with(tokens, tiling)
    }
}

impl<T: TextEncoder + ?Sized> TextEncoder for Arc<T> {
    fn spec(&self) -> TextSpec {
        (**self).spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        (**self).encode(prompts)
    }

    fn encode_each(&self, prompts: &[&str]) -> Result<Vec<TextConditioning>> {
        (**self).encode_each(prompts)
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        (**self).truncation(prompt)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        (**self).spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        (**self).prompt_rows(prompt)
    }
}

impl<T: MgtTransformer + ?Sized> MgtTransformer for Arc<T> {
    fn spec(&self) -> &TransformerSpec {
        (**self).spec()
    }

    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput> {
        (**self).forward(input, request)
    }

    fn caches_steps(&self) -> bool {
        (**self).caches_steps()
    }

    fn forward_cached(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        cache: &mut StepCache,
        active: Option<&ActiveRows>,
    ) -> Result<StepOutput> {
        (**self).forward_cached(input, request, cache, active)
    }

    fn takes_reference(&self) -> bool {
        (**self).takes_reference()
    }

    fn inner_grid(&self, tokens: GridSize) -> GridSize {
        (**self).inner_grid(tokens)
    }
}

impl<T: RegionHold + ?Sized> RegionHold for Arc<T> {
    fn needs_scores(&self) -> bool {
        (**self).needs_scores()
    }

    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        (**self).hold(request)
    }

    fn threshold(&self, request: &HoldRequest<'_>, image: usize) -> Option<f32> {
        (**self).threshold(request, image)
    }
}
