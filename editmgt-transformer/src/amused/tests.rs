//! Properties of the model for any weights.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use editmgt_core::{
    AttentionRequest, Error, GridSize, ItemRows, MgtTransformer, MicroConditions, ReferenceInput,
    StepInput, TextConditioning, TextRows, TokenGrid,
};

use crate::meissonic::tests::{Cast, difference, relative_rms};
use crate::{UVit2DConfig, UVit2DModel};

const BATCH: usize = 2;
const TEXT_ROWS: usize = 5;

fn tiny(resample: bool) -> UVit2DConfig {
    UVit2DConfig {
        hidden_size: 16,
        cond_embed_dim: 6,
        micro_cond_encode_dim: 8,
        micro_cond_embed_dim: 40,
        encoder_hidden_size: 10,
        vocab_size: 20,
        codebook_size: 16,
        in_channels: 14,
        block_out_channels: 12,
        num_res_blocks: 2,
        downsample: resample,
        upsample: resample,
        block_num_heads: 3,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 24,
        ..UVit2DConfig::default()
    }
}

fn model(resample: bool) -> UVit2DModel {
    tiny(resample).init(&Device::flex()).unwrap()
}

/// Inputs of a pass, with arbitrary but fixed tokens.
struct Inputs {
    tokens: TokenGrid,
    text: TextConditioning,
    micro: Vec<MicroConditions>,
    timestep: Vec<f32>,
}

impl Inputs {
    fn new(size: GridSize) -> Self {
        let (device, normal) = (Device::flex(), Distribution::Normal(0.0, 1.0));
        let ids = (0..(BATCH * size.len()) as u32).map(|i| i * 7 % 20).collect();
        Self {
            tokens: TokenGrid::new(BATCH, size, ids).unwrap(),
            text: TextConditioning {
                hidden: Tensor::random([BATCH, TEXT_ROWS, 10], normal, &device),
                pooled: Tensor::random([BATCH, 6], normal, &device),
            },
            micro: vec![MicroConditions::uncropped(512, 768); BATCH],
            timestep: vec![11.0, 3.0],
        }
    }

    fn input(&self) -> StepInput<'_> {
        let Self { tokens, text, micro, timestep } = self;
        StepInput { tokens, reference: None, text, micro, timestep }
    }
}

fn logits(model: &UVit2DModel, inputs: &Inputs) -> Tensor<3> {
    model.forward(&inputs.input(), &AttentionRequest::none()).unwrap().logits
}

#[test]
fn official_sizes_have_the_official_numbers_of_parameters() {
    #[derive(Default)]
    struct Count {
        tensors: usize,
        parameters: usize,
    }
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert!(!param.is_initialized());
            self.tensors += 1;
            self.parameters += param.lazy_shape().num_elements();
        }
    }
    for (config, tensors, parameters) in [
        (UVit2DConfig::amused_512(), 478, 608_257_792),
        (UVit2DConfig::amused_256(), 474, 603_537_664),
    ] {
        let mut count = Count::default();
        config.init(&Device::flex()).unwrap().visit(&mut count);
        assert_eq!((count.tensors, count.parameters), (tensors, parameters));
    }
}

#[test]
fn batch_items_are_independent() {
    let (model, mut inputs) = (model(true), Inputs::new(GridSize::new(4, 6)));
    let before = logits(&model, &inputs);
    let second = inputs.tokens.size().len();
    inputs.tokens.ids_mut()[second..].fill(9);
    inputs.micro[1].width = 64.0;
    let after = logits(&model, &inputs);
    assert_eq!(difference(before.clone().narrow(0, 0, 1), after.clone().narrow(0, 0, 1)), 0.0);
    assert!(difference(before.narrow(0, 1, 1), after.narrow(0, 1, 1)) > 1e-3);
}

#[test]
fn timesteps_change_nothing() {
    let (model, mut inputs) = (model(false), Inputs::new(GridSize::new(4, 6)));
    let before = logits(&model, &inputs);
    inputs.timestep = vec![0.0, 700.0];
    assert_eq!(difference(before, logits(&model, &inputs)), 0.0);
}

/// Odd sides are padded before 2x2 tokens are merged, and cropped after.
#[test]
fn any_grid_has_a_row_of_logits_per_token() {
    for resample in [false, true] {
        let model = model(resample);
        for size in [(1, 1), (3, 5), (2, 7)] {
            let size = GridSize::new(size.0, size.1);
            let got = logits(&model, &Inputs::new(size));
            assert_eq!(got.dims(), [BATCH, size.len(), 16]);
            assert!(got.is_finite().all().into_scalar::<bool>());
        }
    }
}

/// Blocks as wide as the layers take the text as it is.
#[test]
fn blocks_of_the_layers_width_have_no_mapping_of_the_text() {
    let config = UVit2DConfig { block_out_channels: 16, block_num_heads: 4, ..tiny(true) };
    let model = config.init(&Device::flex()).unwrap();
    let mut seen = 0;
    let inputs = Inputs::new(GridSize::new(4, 4));
    let mut context = None;
    model
        .forward_traced(&inputs.input(), &AttentionRequest::none(), |point, x| match point {
            crate::UVit2DPoint::Context => context = Some(x.clone()),
            crate::UVit2DPoint::BlockText(..) => {
                assert_eq!(difference(x.clone(), context.clone().unwrap()), 0.0);
                seen += 1;
            }
            _ => {}
        })
        .unwrap();
    assert_eq!(seen, 4);
}

#[test]
fn maps_are_distributions_over_the_inner_grid() {
    let (model, inputs) = (model(true), Inputs::new(GridSize::new(4, 6)));
    let item = |item, rows| ItemRows { item, rows };
    let request = AttentionRequest {
        // Two layers, the first and the last convolutional block.
        blocks: vec![5, 0, 4, 3],
        items: vec![
            item(1, TextRows::All),
            item(0, TextRows::Rows(vec![4, 2])),
            item(0, TextRows::Rows(vec![2])),
            item(0, TextRows::Rows(vec![4])),
        ],
    };
    let output = model.forward(&inputs.input(), &request).unwrap();
    let maps = output.maps.unwrap();
    assert_eq!((maps.blocks(), maps.items()), (&[5, 0, 4, 3][..], 4));
    assert_eq!(maps.size(), GridSize::new(2, 3));
    for layer in 0..4 {
        for item in 0..4 {
            let sum: f32 = maps.map(layer, item).iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{layer}, {item}: {sum}");
        }
        for cell in 0..6 {
            let mean = (maps.map(layer, 2)[cell] + maps.map(layer, 3)[cell]) / 2.0;
            assert!((maps.map(layer, 1)[cell] - mean).abs() < 1e-6);
        }
        assert_ne!(maps.map(layer, 2), maps.map(layer, 3));
    }
    assert_eq!(difference(output.logits, logits(&model, &inputs)), 0.0);
}

#[test]
fn half_precision_follows_f32() {
    let (model, inputs) = (model(true), Inputs::new(GridSize::new(3, 5)));
    let exact = logits(&model, &inputs);
    // A few times the rounding of the dtype (2^-8 and 2^-11).
    for (dtype, tolerance) in [(DType::BF16, 0.05), (DType::F16, 0.01)] {
        let half = logits(&model.clone().map(&mut Cast(dtype)), &inputs);
        assert_eq!(half.dtype(), dtype);
        let error = relative_rms(half.cast(DType::F32), exact.clone());
        assert!(error < tolerance, "{dtype:?}: {error}");
    }
}

#[test]
fn forward_rejects_invalid_inputs() {
    let (model, inputs) = (model(true), Inputs::new(GridSize::new(4, 4)));
    let refused =
        |input: StepInput<'_>| model.forward(&input, &AttentionRequest::none()).unwrap_err();
    assert!(!model.takes_reference());
    let reference = Some(ReferenceInput { tokens: &inputs.tokens, strength: 1.0 });
    let error = refused(StepInput { reference, ..inputs.input() });
    assert!(matches!(error, Error::Value { what: "reference", .. }), "{error}");

    let mut unknown = inputs.tokens.clone();
    unknown.ids_mut()[3] = 20;
    let error = refused(StepInput { tokens: &unknown, ..inputs.input() });
    assert!(matches!(error, Error::TokenOutOfRange { id: 20, limit: 20, .. }), "{error}");

    let empty = TextConditioning {
        hidden: Tensor::zeros([BATCH, 0, 10], &Device::flex()),
        pooled: inputs.text.pooled.clone(),
    };
    let error = refused(StepInput { text: &empty, ..inputs.input() });
    assert!(matches!(error, Error::Shape { what: "text rows", .. }), "{error}");

    let items = vec![ItemRows { item: 0, rows: TextRows::All }];
    let request = AttentionRequest { blocks: vec![6], items };
    let error = model.forward(&inputs.input(), &request).unwrap_err();
    assert!(matches!(error, Error::Value { what: "attention block", .. }), "{error}");
}
