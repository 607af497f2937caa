//! Partial steps beside a full one: the full-size model with random weights, 512x512, guided.
//!
//! `cargo bench --bench cached`, on an idle machine with 16 GB; compare within one run. The steps
//! are computed in f32, with operands in bf16, and in both with kept packed weights; the share of
//! the picture that is active is in percent.

use std::sync::OnceLock;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use divan::Bencher;
use editmgt_core::{
    ActiveRows, AttentionRequest, GridSize, MgtTransformer, MicroConditions, ReferenceInput,
    StepCache, StepInput, TextConditioning, TokenGrid,
};
use editmgt_kernels::{Operands, PackedWeights, WithOperands};
use editmgt_transformer::{MgtConfig, MgtModel};

/// Unconditional and conditional.
const GUIDED: usize = 2;
const GRID: GridSize = GridSize::new(32, 32);
const TEXT_ROWS: usize = 77;

fn main() {
    divan::main();
}

/// Parameters are created at the first read, which must not count; in bf16 the matrices only.
struct Made {
    matrices: DType,
    in_matrix: bool,
}

impl ModuleMapper for Made {
    fn enter_module(&mut self, _: &str, container_type: &str) {
        self.in_matrix = ["Struct:Linear", "Struct:Embedding"].contains(&container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dtype = if self.in_matrix && D == 2 { self.matrices } else { DType::F32 };
        param.map(|tensor| (tensor + 0.0).cast(dtype))
    }
}

/// How products are computed.
#[derive(Debug, Clone, Copy)]
enum Compute {
    F32,
    /// With packed weights that are kept.
    F32Kept,
    Bf16,
    Bf16Kept,
}

const COMPUTE: [Compute; 4] = [Compute::F32, Compute::F32Kept, Compute::Bf16, Compute::Bf16Kept];

impl Compute {
    fn weights(self) -> PackedWeights {
        PackedWeights::new(match self {
            Self::F32 | Self::Bf16 => 0,
            Self::F32Kept | Self::Bf16Kept => usize::MAX,
        })
    }
}

struct Inputs {
    f32: MgtModel,
    bf16: MgtModel,
    tokens: TokenGrid,
    text: TextConditioning,
}

impl Inputs {
    /// The same for all benchmarks: the models take 6 GB.
    fn get() -> &'static Self {
        static INPUTS: OnceLock<Inputs> = OnceLock::new();
        INPUTS.get_or_init(|| {
            let device = Device::flex();
            let model = MgtConfig::official().init(&device).expect("the official config is valid");
            let made = |matrices| Made { matrices, in_matrix: false };
            let f32 = model.map(&mut made(DType::F32));
            let bf16 = f32.clone().map(&mut made(DType::BF16)).with_operands(Operands::Bf16);
            let spec = f32.spec().clone();
            let normal = Distribution::Normal(0.0, 1.0);
            let ids = (0..GUIDED * GRID.len()).map(|i| (i * 7919 % spec.codebook_size) as u32);
            Self {
                f32,
                bf16,
                tokens: TokenGrid::new(GUIDED, GRID, ids.collect()).expect("an id for each token"),
                text: TextConditioning {
                    hidden: Tensor::random([GUIDED, TEXT_ROWS, spec.text_size], normal, &device),
                    pooled: Tensor::random([GUIDED, spec.pooled_size], normal, &device),
                },
            }
        })
    }

    fn step(
        &self,
        compute: Compute,
        cache: &mut StepCache,
        active: Option<&ActiveRows>,
    ) -> Tensor<3> {
        let input = StepInput {
            tokens: &self.tokens,
            reference: Some(ReferenceInput { tokens: &self.tokens, strength: 1.1 }),
            text: &self.text,
            micro: &[MicroConditions::uncropped(512, 512); GUIDED],
            timestep: &[9.0; GUIDED],
        };
        let none = AttentionRequest::none();
        let model = match compute {
            Compute::F32 | Compute::F32Kept => &self.f32,
            Compute::Bf16 | Compute::Bf16Kept => &self.bf16,
        };
        let output = model.forward_cached(&input, &none, cache, active);
        output.expect("the inputs fit the model").logits
    }
}

#[divan::bench(args = COMPUTE, sample_count = 3, sample_size = 1)]
fn full(bencher: Bencher, compute: Compute) {
    let (inputs, mut cache) = (Inputs::get(), StepCache::new());
    compute.weights().install(|| {
        // Packs what is kept.
        inputs.step(compute, &mut cache, None);
        bencher.bench_local(|| inputs.step(compute, &mut cache, None));
    });
}

#[divan::bench(args = COMPUTE, consts = [5, 15, 40], sample_count = 3, sample_size = 1)]
fn partial<const PERCENT: usize>(bencher: Bencher, compute: Compute) {
    let (inputs, mut cache) = (Inputs::get(), StepCache::new());
    let factor = inputs.f32.spec().grid_factor;
    let cells = GRID.div_ceil(factor).len();
    let active: Vec<bool> =
        (0..GUIDED * cells).map(|cell| cell % cells * 100 < PERCENT * cells).collect();
    let active = ActiveRows::new(GRID, factor, &active).expect("a flag for each cell");
    compute.weights().install(|| {
        inputs.step(compute, &mut cache, None);
        bencher.bench_local(|| inputs.step(compute, &mut cache, active.as_ref()));
    });
}
