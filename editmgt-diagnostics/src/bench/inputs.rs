//! What the stages work on: the shapes of an edit, filled with anything.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use editmgt_core::{
    AttentionMaps, AttentionRequest, GridSize, MgtTransformer, MicroConditions, ReferenceInput,
    Result, StepInput, StepOutput, TextConditioning, TokenGrid, TransformerSpec,
};

/// Every parameter, made and in this dtype. (A module makes its parameters when they are first
/// read; that would count as part of the first run.)
pub(super) fn made<M: Module>(module: M, dtype: DType) -> M {
    module.map(&mut Made(dtype))
}

struct Made(DType);

impl ModuleMapper for Made {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}

/// A picture of noise, `[1, 3, size, size]`, 0 to 1.
pub(super) fn picture(size: usize, device: &Device) -> Tensor<4> {
    Tensor::random([1, 3, size, size], Distribution::Uniform(0.0, 1.0), device)
}

/// `batch` grids of codes, no two neighbours alike.
pub(super) fn codes(batch: usize, size: GridSize, codebook: usize) -> Result<TokenGrid> {
    // A prime with no factor in common with a codebook visits all of it.
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

/// The strength of the official script: one that has a cost.
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

    /// One pass.
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

/// Gives the same answer at once, whatever it is asked: what is left of a step is no network.
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
        // One hill, as an edit of one thing has.
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
