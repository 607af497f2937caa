//! Partial steps beside a full one: the full-size model with random weights, 512x512, guided.
//!
//! `cargo bench --bench cached`, on an idle machine with 8 GB; compare within one run. The first
//! argument of the partial steps is the share of the picture that is active, in percent.

use std::sync::OnceLock;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor};
use divan::Bencher;
use editmgt_core::{
    ActiveRows, AttentionRequest, GridSize, MgtTransformer, MicroConditions, ReferenceInput,
    StepCache, StepInput, TextConditioning, TokenGrid,
};
use editmgt_transformer::{MgtConfig, MgtModel};

/// Unconditional and conditional.
const GUIDED: usize = 2;
const GRID: GridSize = GridSize::new(32, 32);
const TEXT_ROWS: usize = 77;

fn main() {
    divan::main();
}

/// Parameters are created at the first read, which must not count.
struct Made;

impl ModuleMapper for Made {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor + 0.0)
    }
}

struct Inputs {
    model: MgtModel,
    tokens: TokenGrid,
    text: TextConditioning,
}

impl Inputs {
    /// The same for all benchmarks: the model takes 4 GB.
    fn get() -> &'static Self {
        static INPUTS: OnceLock<Inputs> = OnceLock::new();
        INPUTS.get_or_init(|| {
            let device = Device::flex();
            let model = MgtConfig::official().init(&device).expect("the official config is valid");
            let model = model.map(&mut Made);
            let spec = model.spec().clone();
            let normal = Distribution::Normal(0.0, 1.0);
            let ids = (0..GUIDED * GRID.len()).map(|i| (i * 7919 % spec.codebook_size) as u32);
            Self {
                model,
                tokens: TokenGrid::new(GUIDED, GRID, ids.collect()).expect("an id for each token"),
                text: TextConditioning {
                    hidden: Tensor::random([GUIDED, TEXT_ROWS, spec.text_size], normal, &device),
                    pooled: Tensor::random([GUIDED, spec.pooled_size], normal, &device),
                },
            }
        })
    }

    fn step(&self, cache: &mut StepCache, active: Option<&ActiveRows>) -> Tensor<3> {
        let input = StepInput {
            tokens: &self.tokens,
            reference: Some(ReferenceInput { tokens: &self.tokens, strength: 1.1 }),
            text: &self.text,
            micro: &[MicroConditions::uncropped(512, 512); GUIDED],
            timestep: &[9.0; GUIDED],
        };
        let none = AttentionRequest::none();
        let output = self.model.forward_cached(&input, &none, cache, active);
        output.expect("the inputs fit the model").logits
    }
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn full(bencher: Bencher) {
    let (inputs, mut cache) = (Inputs::get(), StepCache::new());
    bencher.bench_local(|| inputs.step(&mut cache, None));
}

#[divan::bench(args = [5, 15, 40, 100], sample_count = 3, sample_size = 1)]
fn partial(bencher: Bencher, percent: usize) {
    let (inputs, mut cache) = (Inputs::get(), StepCache::new());
    inputs.step(&mut cache, None);
    let factor = inputs.model.spec().grid_factor;
    let cells = GRID.div_ceil(factor).len();
    let active: Vec<bool> =
        (0..GUIDED * cells).map(|cell| cell % cells * 100 < percent * cells).collect();
    let active = ActiveRows::new(GRID, factor, &active).expect("a flag for each cell");
    bencher.bench_local(|| inputs.step(&mut cache, active.as_ref()));
}
