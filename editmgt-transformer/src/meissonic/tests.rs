//! Properties of the model for any weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Distribution, Tensor};
use editmgt_core::{
    AttentionRequest, Error, GridSize, ItemRows, MgtTransformer, MicroConditions, ReferenceInput,
    StepInput, TextConditioning, TextRows, TokenGrid,
};

use crate::{Connector, MgtConfig, MgtModel};

const BATCH: usize = 2;
const TEXT_ROWS: usize = 5;

pub(crate) fn tiny(resample: bool) -> MgtConfig {
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
pub(crate) struct Inputs {
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
        Self::with_text(size, reference, 12)
    }

    pub(crate) fn with_text(size: GridSize, reference: GridSize, text_size: usize) -> Self {
        let device = Device::flex();
        let normal = Distribution::Normal(0.0, 1.0);
        Self {
            tokens: tokens(BATCH, size, 7),
            reference: tokens(BATCH, reference, 3),
            text: TextConditioning {
                hidden: Tensor::random([BATCH, TEXT_ROWS, text_size], normal, &device),
                pooled: Tensor::random([BATCH, 6], normal, &device),
            },
            micro: vec![MicroConditions::uncropped(512, 768); BATCH],
            timestep: vec![11.0, 3.0],
        }
    }

    pub(crate) fn square() -> Self {
        Self::new(GridSize::new(4, 6), GridSize::new(4, 6))
    }

    pub(crate) fn tokens(&self) -> &TokenGrid {
        &self.tokens
    }

    /// Replaces each token of the canvas, given its place in the batch.
    pub(crate) fn change_tokens(&mut self, change: impl Fn(usize, u32) -> u32) {
        let ids = self.tokens.ids_mut().iter_mut().enumerate();
        ids.for_each(|(index, id)| *id = change(index, *id));
    }

    pub(crate) fn edit(&self, strength: f32) -> StepInput<'_> {
        let reference = Some(ReferenceInput { tokens: &self.reference, strength });
        StepInput { reference, ..self.text_to_image() }
    }

    pub(crate) fn text_to_image(&self) -> StepInput<'_> {
        StepInput {
            tokens: &self.tokens,
            reference: None,
            text: &self.text,
            micro: &self.micro,
            timestep: &self.timestep,
        }
    }
}

pub(crate) fn model(resample: bool) -> MgtModel {
    tiny(resample).init(&Device::flex()).unwrap()
}

pub(crate) fn logits(model: &MgtModel, input: StepInput<'_>) -> Tensor<3> {
    model.forward(&input, &AttentionRequest::none()).unwrap().logits
}

pub(crate) fn difference(a: Tensor<3>, b: Tensor<3>) -> f32 {
    (a - b).abs().max().into_scalar::<f32>()
}

/// Root mean square of `a - b` over that of `b`: unlike the largest difference it hardly depends
/// on the draw of random weights.
pub(crate) fn relative_rms(a: Tensor<3>, b: Tensor<3>) -> f32 {
    let squares = |x: Tensor<3>| x.square().mean().into_scalar::<f32>();
    (squares(a - b.clone()) / squares(b)).sqrt()
}

#[test]
fn building_the_official_model_allocates_nothing() {
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
    let model = MgtConfig::official().init(&Device::flex()).unwrap();
    let mut count = Count::default();
    model.visit(&mut count);
    assert_eq!((count.tensors, count.parameters), (869, 1_009_306_624));
}

#[test]
fn batch_items_are_independent() {
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
fn logits_are_continuous_in_strength_down_to_text_to_image() {
    let (model, inputs) = (model(true), Inputs::square());
    let plain = logits(&model, inputs.text_to_image());
    let distance = |strength| difference(logits(&model, inputs.edit(strength)), plain.clone());
    assert_eq!(distance(0.0), 0.0);
    assert!(distance(1e-9) < 1e-5);
    // Continuous at strength 1, which takes a path without weights.
    let at = |strength| logits(&model, inputs.edit(strength));
    assert!(difference(at(1.0), at(1.0 + 1e-6)) < 1e-4);
    assert!(distance(1.0) > 1e-3);
    assert!(difference(at(1.0), at(2.0)) > 1e-4);
    assert!(at(f32::MAX).is_finite().all().into_scalar::<bool>());
    // The model keeps no state between passes.
    assert_eq!(difference(logits(&model, inputs.text_to_image()), plain), 0.0);
}

#[test]
fn any_grid_has_a_row_of_logits_per_token() {
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
fn capture_follows_the_request_in_its_order() {
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

    // Text and image don't depend on the reference in the first block; they do in later ones.
    let without = maps(inputs.text_to_image(), &request).unwrap();
    assert_eq!(got.map(1, 0), without.map(1, 0));
    assert_ne!(got.map(2, 0), without.map(2, 0));

    // Capture doesn't change the logits.
    let captured = model.forward(&inputs.edit(1.5), &request).unwrap().logits;
    assert_eq!(difference(captured, logits(&model, inputs.edit(1.5))), 0.0);
}

/// Casts all weights.
pub(crate) struct Cast(pub(crate) DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.cast(self.0))
    }
}

#[test]
fn half_precision_follows_f32() {
    let (model, inputs) = (model(true), Inputs::new(GridSize::new(3, 5), GridSize::new(4, 4)));
    let items = vec![ItemRows { item: 1, rows: TextRows::Rows(vec![0, 3]) }];
    let request = AttentionRequest { blocks: vec![1, 3], items };
    let exact = model.forward(&inputs.edit(1.1), &request).unwrap();
    // A few times the rounding of the dtype (2^-8 and 2^-11).
    for (dtype, tolerance) in [(DType::BF16, 0.05), (DType::F16, 0.01)] {
        let half = model.clone().map(&mut Cast(dtype)).forward(&inputs.edit(1.1), &request);
        let half = half.unwrap();
        assert_eq!(half.logits.dtype(), dtype);
        let error = relative_rms(half.logits.cast(DType::F32), exact.logits.clone());
        assert!(error < tolerance, "{dtype:?}: {error}");
        let (half, exact) = (half.maps.unwrap(), exact.maps.as_ref().unwrap());
        let moved: f32 =
            half.map(1, 0).iter().zip(exact.map(1, 0)).map(|(a, b)| (a - b).abs()).sum();
        assert!(moved < tolerance, "{dtype:?}: {moved} of the map's sum of 1");
    }
}

#[test]
fn forward_rejects_invalid_inputs() {
    let model = model(true);
    let inputs = Inputs::square();
    let refused =
        |input: StepInput<'_>| model.forward(&input, &AttentionRequest::none()).unwrap_err();
    let mut unknown = inputs.tokens.clone();
    unknown.ids_mut()[3] = 20;
    let error = refused(StepInput { tokens: &unknown, ..inputs.edit(1.0) });
    assert!(matches!(error, Error::TokenOutOfRange { id: 20, limit: 20, .. }), "{error}");

    let empty = TextConditioning {
        hidden: Tensor::zeros([BATCH, 0, 12], &Device::flex()),
        pooled: inputs.text.pooled.clone(),
    };
    let error = refused(StepInput { text: &empty, ..inputs.edit(1.0) });
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
