//! Properties of the whole model that hold for any weights.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor};
use editmgt_core::{
    AttentionRequest, Error, GridSize, ItemRows, MgtTransformer, MicroConditions, ReferenceInput,
    StepInput, TextConditioning, TextRows, TokenGrid,
};

use crate::{Connector, MgtConfig, MgtModel};

const BATCH: usize = 2;
const TEXT_ROWS: usize = 5;

fn tiny(resample: bool) -> MgtConfig {
    MgtConfig {
        num_layers: 2,
        num_single_layers: 2,
        attention_head_dim: 8,
        num_attention_heads: 2,
        joint_attention_dim: 12,
        pooled_projection_dim: 6,
        axes_dims_rope: [2, 2, 4],
        vocab_size: 20,
        codebook_size: 16,
        downsample: resample,
        upsample: resample,
        connector_type: Connector::Linear,
        ..MgtConfig::official()
    }
}

/// Inputs of a pass, with arbitrary but fixed tokens.
struct Inputs {
    tokens: TokenGrid,
    reference: TokenGrid,
    text: TextConditioning,
    micro: Vec<MicroConditions>,
    timestep: Vec<f32>,
}

fn tokens(batch: usize, size: GridSize, step: u32) -> TokenGrid {
    let ids = (0..(batch * size.len()) as u32).map(|i| i * step % 20).collect();
    TokenGrid::new(batch, size, ids).unwrap()
}

impl Inputs {
    fn new(size: GridSize, reference: GridSize) -> Self {
        let device = Device::flex();
        let normal = Distribution::Normal(0.0, 1.0);
        Self {
            tokens: tokens(BATCH, size, 7),
            reference: tokens(BATCH, reference, 3),
            text: TextConditioning {
                hidden: Tensor::random([BATCH, TEXT_ROWS, 12], normal, &device),
                pooled: Tensor::random([BATCH, 6], normal, &device),
            },
            micro: vec![MicroConditions::uncropped(512, 768); BATCH],
            timestep: vec![11.0, 3.0],
        }
    }

    fn square() -> Self {
        Self::new(GridSize::new(4, 6), GridSize::new(4, 6))
    }

    fn edit(&self, strength: f32) -> StepInput<'_> {
        let reference = Some(ReferenceInput { tokens: &self.reference, strength });
        StepInput { reference, ..self.text_to_image() }
    }

    fn text_to_image(&self) -> StepInput<'_> {
        StepInput {
            tokens: &self.tokens,
            reference: None,
            text: &self.text,
            micro: &self.micro,
            timestep: &self.timestep,
        }
    }
}

fn model(resample: bool) -> MgtModel {
    tiny(resample).init(&Device::flex()).unwrap()
}

fn logits(model: &MgtModel, input: StepInput<'_>) -> Tensor<3> {
    model.forward(&input, &AttentionRequest::none()).unwrap().logits
}

fn difference(a: Tensor<3>, b: Tensor<3>) -> f32 {
    (a - b).abs().max().into_scalar::<f32>()
}

#[test]
fn the_official_model_has_the_official_parameters() {
    #[derive(Default)]
    struct Shapes {
        path: Vec<String>,
        found: Vec<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert!(!param.is_initialized(), "building the model allocated {:?}", self.path);
            self.found.push((self.path.join("."), param.lazy_shape().to_vec()));
        }
    }
    let model = MgtConfig::official().init(&Device::flex()).unwrap();
    let mut shapes = Shapes::default();
    model.visit(&mut shapes);
    let parameters: usize = shapes.found.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
    assert_eq!(parameters, 1_009_306_624);
    assert_eq!(shapes.found.len(), 869);
    // Linear weights are [in, out] in burn.
    for (path, shape) in [
        ("embed.embeddings.weight", &[8256, 1024][..]),
        ("embed.conv", &[1024, 1024, 1, 1]),
        ("mlm_layer.conv2", &[8192, 1024, 1, 1]),
        ("cond_embed.linear_1.weight", &[2304, 1024]),
        ("down_block.conv", &[1024, 1024, 2, 2]),
        ("up_block.norm.gamma", &[1024]),
        ("connector.projector.weight", &[2304, 1024]),
        ("transformer_blocks.13.norm1_context.linear.weight", &[1024, 6144]),
        ("transformer_blocks.0.attn.norm_added_q.gamma", &[128]),
        ("transformer_blocks.0.ff_context.proj_in.bias", &[4096]),
        ("single_transformer_blocks.27.norm.linear.weight", &[1024, 3072]),
        ("single_transformer_blocks.0.proj_out.weight", &[5120, 1024]),
        ("time_text_embed.timestep_embedder.linear_1.weight", &[256, 1024]),
    ] {
        let found = shapes.found.iter().find(|(found, _)| found == path);
        assert_eq!(found.map(|(_, shape)| &shape[..]), Some(shape), "{path}");
    }
}

#[test]
fn items_of_a_batch_know_nothing_of_each_other() {
    let (model, mut inputs) = (model(true), Inputs::square());
    let before = logits(&model, inputs.edit(1.5));
    let second = inputs.tokens.size().len();
    inputs.tokens.ids_mut()[second..].fill(9);
    inputs.reference.ids_mut()[second..].fill(4);
    inputs.timestep[1] = 0.0;
    inputs.micro[1].width = 64.0;
    let after = logits(&model, inputs.edit(1.5));
    assert_eq!(difference(before.clone().narrow(0, 0, 1), after.clone().narrow(0, 0, 1)), 0.0);
    assert!(difference(before.narrow(0, 1, 1), after.narrow(0, 1, 1)) > 1e-3);
}

#[test]
fn strength_fades_from_edit_to_text_to_image() {
    let (model, inputs) = (model(true), Inputs::square());
    let plain = logits(&model, inputs.text_to_image());
    let distance = |strength| difference(logits(&model, inputs.edit(strength)), plain.clone());
    assert_eq!(distance(0.0), 0.0);
    assert!(distance(1e-9) < 1e-5);
    // Neighbouring strengths give neighbouring logits, across the plain path of strength 1.
    let at = |strength| logits(&model, inputs.edit(strength));
    assert!(difference(at(1.0), at(1.0 + 1e-6)) < 1e-4);
    assert!(distance(1.0) > 1e-3);
    assert!(difference(at(1.0), at(2.0)) > 1e-4);
    assert!(at(f32::MAX).is_finite().all().into_scalar::<bool>());
    // Nothing of the passes before is left in the model.
    assert_eq!(difference(logits(&model, inputs.text_to_image()), plain), 0.0);
}

#[test]
fn any_grid_gives_a_row_of_logits_per_token() {
    for resample in [false, true] {
        let model = model(resample);
        for (size, reference) in [((1, 1), (2, 2)), ((3, 5), (4, 4)), ((2, 7), (1, 3))] {
            let size = GridSize::new(size.0, size.1);
            let inputs = Inputs::new(size, GridSize::new(reference.0, reference.1));
            let got = logits(&model, inputs.edit(1.1));
            assert_eq!(got.dims(), [BATCH, size.len(), 16]);
            assert!(got.is_finite().all().into_scalar::<bool>());
        }
    }
}

#[test]
fn capture_gives_what_was_asked_for_in_that_order() {
    let (model, inputs) = (model(true), Inputs::square());
    let cells = GridSize::new(2, 3);
    let maps = |input: StepInput<'_>, request: &AttentionRequest| {
        model.forward(&input, request).unwrap().maps
    };
    assert_eq!(maps(inputs.edit(1.5), &AttentionRequest::none()), None);

    let item = |item, rows| ItemRows { item, rows };
    let request = AttentionRequest {
        blocks: vec![3, 0, 1],
        items: vec![
            item(1, TextRows::All),
            item(0, TextRows::Rows(vec![4, 2])),
            item(0, TextRows::Rows(vec![2])),
            item(0, TextRows::Rows(vec![4])),
        ],
    };
    let got = maps(inputs.edit(1.5), &request).unwrap();
    assert_eq!((got.blocks(), got.items(), got.size()), (&[3, 0, 1][..], 4, cells));
    for layer in 0..3 {
        for cell in 0..cells.len() {
            let mean = (got.map(layer, 2)[cell] + got.map(layer, 3)[cell]) / 2.0;
            assert!((got.map(layer, 1)[cell] - mean).abs() < 1e-6);
        }
        let shares: f32 = got.map(layer, 0).iter().sum();
        assert!(shares > 0.0 && shares < 1.0, "text attends to text, too: {shares}");
    }

    // The first block's text and image don't know the reference yet; later ones do.
    let without = maps(inputs.text_to_image(), &request).unwrap();
    assert_eq!(got.map(1, 0), without.map(1, 0));
    assert_ne!(got.map(2, 0), without.map(2, 0));

    // Asking changes nothing.
    let asked = model.forward(&inputs.edit(1.5), &request).unwrap().logits;
    assert_eq!(difference(asked, logits(&model, inputs.edit(1.5))), 0.0);
}

#[test]
fn bad_input_is_a_typed_error() {
    let model = model(true);
    let inputs = Inputs::square();
    let refused =
        |input: StepInput<'_>| model.forward(&input, &AttentionRequest::none()).unwrap_err();
    let mut unknown = inputs.tokens.clone();
    unknown.ids_mut()[3] = 20;
    let error = refused(StepInput { tokens: &unknown, ..inputs.edit(1.0) });
    assert!(matches!(error, Error::TokenOutOfRange { id: 20, limit: 20, .. }), "{error}");

    let wordless = TextConditioning {
        hidden: Tensor::zeros([BATCH, 0, 12], &Device::flex()),
        pooled: inputs.text.pooled.clone(),
    };
    let error = refused(StepInput { text: &wordless, ..inputs.edit(1.0) });
    assert!(matches!(error, Error::Shape { what: "text rows", .. }), "{error}");

    let error = refused(StepInput { timestep: &[1.0], ..inputs.edit(1.0) });
    assert!(matches!(error, Error::Shape { what: "timesteps", .. }), "{error}");
    let error = refused(inputs.edit(-1.0));
    assert!(matches!(error, Error::Value { what: "reference strength", .. }), "{error}");

    let items = vec![ItemRows { item: 0, rows: TextRows::All }];
    let request = AttentionRequest { blocks: vec![4], items };
    let error = model.forward(&inputs.edit(1.0), &request).unwrap_err();
    assert!(matches!(error, Error::Value { what: "attention block", .. }), "{error}");
}
