//! Inputs of the stages: the shapes of an edit, with arbitrary contents.

use burn::module::Module;
use burn::tensor::{DType, Device, Distribution, Tensor};
use editmgt::{Compute, Dtype, InferencePrecision, WithOperands};
use editmgt_checkpoint::cast_module;
use editmgt_core::{
    AttentionMaps, AttentionRequest, GridSize, MgtTransformer, MicroConditions, ReferenceInput,
    Result, StepInput, StepOutput, TextConditioning, TokenGrid, TransformerSpec,
};

/// Materialises every parameter in this dtype. (A module creates its parameters at the first read,
/// which would count in the first run.)
pub(super) fn made<M: Module>(module: M, dtype: DType) -> M {
    cast_module(module, dtype)
}

/// [`made`] in the precision in which models are loaded.
pub(super) fn for_inference<M: Module + WithOperands>(
    module: M,
    device: &Device,
    (dtype, compute): (Dtype, Compute),
) -> M {
    InferencePrecision::new(device, dtype.into(), compute).cast(module)
}

/// An image of noise, `[1, 3, size, size]`, 0 to 1.
pub(super) fn picture(size: usize, device: &Device) -> Tensor<4> {
    Tensor::random([1, 3, size, size], Distribution::Uniform(0.0, 1.0), device)
}

/// `batch` token grids in which no two neighbours are equal.
pub(super) fn codes(batch: usize, size: GridSize, codebook: usize) -> Result<TokenGrid> {
    // A prime coprime to the codebook size visits all of it.
    let ids = (0..batch * size.len()).map(|i| (i * 7919 % codebook) as u32);
    TokenGrid::new(batch, size, ids.collect())
}

/// The inputs of a guided pass: two items, with text, a canvas of mask tokens and a reference.
pub(super) struct Pass {
    pub(super) canvas: TokenGrid,
    pub(super) reference: TokenGrid,
    pub(super) text: TextConditioning,
    pub(super) micro: MicroConditions,
}

/// Unconditional and conditional.
pub(super) const GUIDED: usize = 2;

/// The strength of the official script, which has a cost.
const STRENGTH: f32 = 1.1;

impl Pass {
    pub(super) fn new(
        spec: &TransformerSpec,
        grid: GridSize,
        text_rows: usize,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            canvas: TokenGrid::filled(GUIDED, grid, spec.mask_token),
            reference: codes(GUIDED, grid, spec.codebook_size)?,
            text: text(GUIDED, text_rows, spec, device),
            micro: MicroConditions::uncropped(grid.height, grid.width),
        })
    }

    /// Runs one pass.
    pub(super) fn run(
        &self,
        model: &dyn MgtTransformer,
        request: &AttentionRequest,
    ) -> Result<StepOutput> {
        let input = StepInput {
            tokens: &self.canvas,
            reference: Some(ReferenceInput { tokens: &self.reference, strength: STRENGTH }),
            text: &self.text,
            micro: &[self.micro; GUIDED],
            timestep: &[1.0; GUIDED],
        };
        model.forward(&input, request)
    }
}

/// Features of `batch` prompts.
pub(super) fn text(
    batch: usize,
    rows: usize,
    spec: &TransformerSpec,
    device: &Device,
) -> TextConditioning {
    let normal = Distribution::Normal(0.0, 1.0);
    TextConditioning {
        hidden: Tensor::random([batch, rows, spec.text_size], normal, device),
        pooled: Tensor::random([batch, spec.pooled_size], normal, device),
    }
}

/// A transformer that returns a precomputed output immediately, to measure the rest of a step.
pub(super) struct Recorded {
    spec: TransformerSpec,
    logits: Tensor<3>,
    maps: AttentionMaps,
}

impl Recorded {
    /// Answers for a guided batch of one image with the attention of these blocks.
    pub(super) fn new(
        spec: TransformerSpec,
        grid: GridSize,
        blocks: Vec<usize>,
        device: &Device,
    ) -> Result<Self> {
        let shape = [GUIDED, grid.len(), spec.codebook_size];
        let cells = grid.div_ceil(spec.grid_factor);
        // One peak, as for an edit of one object.
        let near = |cell: usize| {
            let at = |i: usize, side: usize| (i as f32 + 0.5) / side as f32 - 0.4;
            let (y, x) =
                (at(cell / cells.width, cells.height), at(cell % cells.width, cells.width));
            (-20.0 * (x * x + y * y)).exp()
        };
        let map: Vec<f32> = (0..cells.len()).map(near).collect();
        let values = map.repeat(blocks.len());
        Ok(Self {
            spec,
            logits: Tensor::random(shape, Distribution::Normal(0.0, 3.0), device),
            maps: AttentionMaps::new(blocks, 1, cells, values)?,
        })
    }
}

impl MgtTransformer for Recorded {
    fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    fn forward(&self, _: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput> {
        let maps = (!request.is_empty()).then(|| self.maps.clone());
        Ok(StepOutput { logits: self.logits.clone(), maps })
    }
}
