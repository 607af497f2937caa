//! A model of a few thousand parameters on edits made by a rule.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use editmgt_core::{Flow, GridSize, MicroConditions};
use editmgt_kernels::{Recording, WithOperands};
use editmgt_text::{SmallTextConfig, SmallTextEncoder, Vocabulary, WordTokenizer};
use editmgt_transformer::{Connector, MgtConfig, TextArchitecture};

use super::batch::BatchSettings;
use super::*;
use crate::data::DataOptions;
use crate::run::{
    AdamWOptions, Decay, Draws, Learner, LearnerOptions, LoopOptions, LrSchedule, Precision,
    Products, RunFolder, TrainError, TrainEvent, initialise, run,
};
use editmgt_world::Category;
use editmgt_world::{Split, World, shapes};

const CODES: u32 = 16;
const GRID: GridSize = GridSize::new(4, 4);
const ROWS: usize = 6;
const WIDTH: usize = 16;

pub(super) fn words() -> WordTokenizer {
    let words = ["make", "it", "red", "blue"].map(str::to_owned).into();
    WordTokenizer::new(Vocabulary { words, examples: Vec::new() }, ROWS).unwrap()
}

fn text_config() -> SmallTextConfig {
    SmallTextConfig {
        vocab_size: words().vocab_size(),
        max_position_embeddings: ROWS,
        hidden_size: WIDTH,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        projection_dim: WIDTH,
        ..SmallTextConfig::default()
    }
}

fn model(loss: &LossOptions, trained_text: bool) -> EditModel {
    model_on(&Device::flex().autodiff(), loss, trained_text)
}

pub(super) fn model_on(device: &Device, loss: &LossOptions, trained_text: bool) -> EditModel {
    let config = MgtConfig {
        num_layers: 2,
        num_single_layers: 2,
        attention_head_dim: 8,
        num_attention_heads: 2,
        joint_attention_dim: WIDTH,
        pooled_projection_dim: WIDTH,
        axes_dims_rope: [2, 2, 4],
        vocab_size: CODES as usize + 1,
        codebook_size: CODES as usize,
        downsample: true,
        upsample: true,
        text_encoder_architecture: TextArchitecture::Small,
        connector_type: Connector::Linear,
        ..MgtConfig::official()
    };
    let parts = EditParts {
        transformer: config.init(device).unwrap(),
        text: trained_text.then(|| text_config().init(device).unwrap()),
    };
    initialise(EditModel::new(parts, loss, WIDTH, device), &Draws::new(9))
}

/// "make it red" turns the first row of tokens into code 1, "make it blue" into code 2.
pub(super) struct Rule;

impl EditDataset for Rule {
    fn len(&self) -> u64 {
        24
    }

    fn grid(&self) -> GridSize {
        GRID
    }

    fn micro(&self) -> MicroConditions {
        MicroConditions::uncropped(32, 32)
    }

    fn examples(&self, indices: &[u64]) -> Result<Vec<EditExample>, TrainError> {
        let example = |&index: &u64| {
            let is_red = index % 2 == 0;
            let before: Vec<u32> =
                (0..GRID.len() as u32).map(|i| 3 + (i * 5 + index as u32) % (CODES - 3)).collect();
            let mut after = before.clone();
            after[..GRID.width].fill(if is_red { 1 } else { 2 });
            EditExample {
                changed: before.iter().zip(&after).map(|(before, after)| before != after).collect(),
                before,
                after,
                instruction: format!("make it {}", if is_red { "red" } else { "blue" }),
                category: Some(Category::Colour),
                contents: Vec::new(),
            }
        };
        Ok(indices.iter().map(example).collect())
    }
}

pub(super) fn everything() -> EditOptions {
    EditOptions {
        masking: MaskingOptions { fully_masked: 0.3 },
        conditions: ConditionOptions {
            text_dropout: 0.2,
            dropped_text: DroppedText::Reference,
            reference_dropout: 0.0,
        },
        timestep: TimestepConvention::MaskRatio,
        loss: LossOptions {
            changed_share: None,
            scored_tokens: None,
            changed_weight: 4.0,
            rarity: 0.5,
            map_weight: 0.15,
            map_blocks: vec![1, 2],
            changed_head_weight: 0.5,
            reference_head_weight: 0.25,
            contents_head_weight: 0.0,
            contents_head_block: None,
        },
        ..EditOptions::paper(4)
    }
}

fn batch(options: &EditOptions) -> EditBatch {
    let settings = BatchSettings {
        options,
        draws: &Draws::new(1),
        grid: GRID,
        micro: Rule.micro(),
        mask_token: CODES,
    };
    EditBatch::new(settings, 0, Rule.examples(&[0, 1, 2, 3]).unwrap()).unwrap()
}

fn loss(model: &EditModel, batch: &EditBatch, options: &EditOptions) -> Tensor<1> {
    let prompts: Vec<&str> = batch.prompts.iter().map(String::as_str).collect();
    let text = TextSide::Trained(words()).encode(model, &prompts).unwrap();
    model.loss(batch, &text, &options.loss).unwrap()
}

/// Paths of the parameters without a gradient.
struct Untouched<'a> {
    gradients: &'a GradientsParams,
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Untouched<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.gradients.get::<D>(param.id);
        let reached =
            gradient.is_some_and(|gradient| gradient.abs().max().into_scalar::<f32>() > 0.0);
        if !reached {
            self.found.push(self.path.join("."));
        }
    }
}

#[test]
fn a_step_lowers_the_loss_and_every_parameter_has_a_gradient() {
    for options in [everything(), EditOptions::paper(4)] {
        let model = model(&options.loss, true);
        let batch = batch(&options);
        let before = loss(&model, &batch, &options);
        let gradients = GradientsParams::from_grads(before.backward(), &model);
        let mut untouched =
            Untouched { gradients: &gradients, path: Vec::new(), found: Vec::new() };
        model.visit(&mut untouched);
        // A key's bias shifts all scores of a query equally, so softmax cancels it. The model's own
        // queries and keys are normalised after the bias; the small text encoder's are not.
        let unseen = ["text.layers.0.k_proj.bias"];
        let found: Vec<_> =
            untouched.found.iter().filter(|path| !unseen.contains(&path.as_str())).collect();
        assert!(found.is_empty(), "{found:?}");
        let mut optimizer = AdamWConfig::new().init();
        let model = optimizer.step(1e-3, model, gradients);
        let after = loss(&model, &batch, &options).into_scalar::<f32>();
        let before = before.into_scalar::<f32>();
        assert!(after < before, "{after} is not below {before}");
    }
}

fn learner_options() -> LearnerOptions {
    LearnerOptions {
        accumulate: 1,
        clip_norm: Some(1.0),
        ema: None,
        learning_rate: LrSchedule { peak: 0.003, warm_up: 0, decay: Decay::Cosine, floor: 0.0 },
        adamw: AdamWOptions {
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.01,
            no_decay: Vec::new(),
        },
    }
}

/// Losses of a few steps on one batch.
fn losses_with(recording: Recording, products: Products) -> Vec<f32> {
    let options = everything();
    let batch = batch(&options);
    let model = model(&options.loss, true);
    let learner = Learner::new(model, learner_options()).unwrap();
    let mut learner = learner.with_products(products).unwrap();
    let of_batch = |model: &EditModel| {
        let model = model.clone().with_operands(products.operands());
        recording.install(|| loss(&model, &batch, &options))
    };
    (0..12)
        .map(|step| learner.update(step, 12, |model, _| Ok(of_batch(model))).unwrap().loss)
        .collect()
}

#[test]
fn kernels_train_like_compositions() {
    let composed = losses_with(Recording::Compositions, Products::F32);
    assert!(composed[11] < composed[0] - 0.3, "{composed:?}");
    // Rounding of gradients that are almost zero decides about the size of Adam's first steps.
    for (products, tolerance) in [(Products::F32, 2e-4), (Products::Bf16, 3e-2)] {
        let kernels = losses_with(Recording::Kernels, products);
        for (composed, kernel) in composed.iter().zip(&kernels) {
            let difference = (composed - kernel).abs();
            assert!(difference < tolerance * composed, "{products:?}: {kernels:?}, {composed:?}");
        }
        assert_ne!(kernels, composed, "sums are in another order");
    }
}

#[test]
fn products_in_bf16_need_f32_precision() {
    let options = everything();
    let learner = Learner::new(model(&options.loss, true), learner_options()).unwrap();
    let learner = learner.with_precision(Precision::F16).unwrap();
    let error = learner.with_products(Products::Bf16).err().unwrap().to_string();
    assert!(error.contains("products") && error.contains("F16"), "{error}");
}

/// The whole model, against central differences along the gradient.
#[test]
fn the_gradient_is_the_slope() {
    let options = everything();
    let batch = batch(&options);
    let model = model(&options.loss, true);
    let value = loss(&model, &batch, &options);
    let gradients = GradientsParams::from_grads(value.backward(), &model);

    struct Move<'a> {
        gradients: &'a GradientsParams,
        by: f32,
    }
    impl burn::module::ModuleMapper for Move<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let gradient = self.gradients.get::<D>(param.id).unwrap();
            param.map(|value| {
                let moved = value.inner() + gradient.inner() * self.by;
                Tensor::from_inner(moved).require_grad()
            })
        }
    }
    struct Squares<'a>(&'a GradientsParams, f64);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).unwrap();
            self.1 += f64::from(gradient.square().sum().into_scalar::<f32>());
        }
    }
    let mut squares = Squares(&gradients, 0.0);
    model.visit(&mut squares);
    let square = squares.1;
    let at = |by: f32| {
        let moved = model.clone().map(&mut Move { gradients: &gradients, by });
        f64::from(loss(&moved, &batch, &options).into_scalar::<f32>())
    };
    // The step changes the loss by about one hundredth: far above rounding, and short enough for
    // the curvature to cancel out.
    let by = (0.01 / square) as f32;
    let slope = (at(by) - at(-by)) / (2.0 * f64::from(by));
    assert!((slope / square - 1.0).abs() < 0.01, "{slope}, expected {square}");
}

pub(super) fn learner() -> LearnerOptions {
    LearnerOptions {
        accumulate: 2,
        clip_norm: Some(10.0),
        ema: Some(0.5),
        learning_rate: LrSchedule { peak: 5e-3, warm_up: 2, decay: Decay::Cosine, floor: 0.0 },
        adamw: AdamWOptions {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            no_decay: vec![r"bias$".into(), r"embedding".into(), r"norm.*\.gamma$".into()],
        },
    }
}

fn trainer(steps: u64, text: TextSide) -> EditTrainer {
    let options = everything();
    let model = model(&options.loss, matches!(text, TextSide::Trained(_)));
    let data =
        EditData { train: Box::new(Rule), validation: Box::new(Rule), curriculum: Vec::new() };
    let plan = TrainingPlan::new(learner(), steps, 3);
    EditTrainer::new(model, text, data, options, plan).unwrap()
}

pub(super) const LOOP: LoopOptions =
    LoopOptions { steps: 6, log_every: 1, evaluate_every: 3, checkpoint_every: 2, keep: 1 };

/// The losses of a run that is stopped after `stop` steps.
fn losses(dir: &Path, resume: bool, stop: u64) -> Vec<f64> {
    let folder = RunFolder::open(dir, &everything(), resume).unwrap();
    let mut trainer = trainer(LOOP.steps, TextSide::Trained(words()));
    let mut losses = Vec::new();
    run(&mut trainer, &folder, &LOOP, &mut |event| match event {
        TrainEvent::Step { completed, metrics, .. } => {
            losses.push(metrics.get("loss").unwrap());
            if *completed == stop { Flow::Stop } else { Flow::Continue }
        }
        _ => Flow::Continue,
    })
    .unwrap();
    losses
}

#[test]
fn resumed_run_has_the_losses_of_an_unbroken_run() {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = losses(whole.path(), false, LOOP.steps);
    let mut got = losses(broken.path(), false, 3);
    got.extend(losses(broken.path(), true, LOOP.steps));
    assert_eq!(got, expected);
    let log = |dir: &Path| std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    assert_eq!(log(broken.path()), log(whole.path()));
}

#[test]
fn evaluation_improves_after_training() {
    use crate::run::Trainee;
    let mut trainer = trainer(40, TextSide::Trained(words()));
    let before = trainer.evaluate(0).unwrap();
    for step in 0..40 {
        trainer.step(step).unwrap();
    }
    let after = trainer.evaluate(0).unwrap();
    let changed = |metrics: &crate::run::Metrics| metrics.get("changed").unwrap();
    assert!(changed(&after) > changed(&before) + 0.2, "{before:?}, {after:?}");
    assert!(after.get("nll@1").unwrap() < before.get("nll@1").unwrap());
    assert_eq!(after.get("changed/colour"), after.get("changed"));
    for name in ["nll@0.75", "nll@0.5", "nll@0.25", "kept", "map_auc"] {
        assert!(after.get(name).unwrap().is_finite(), "{name}");
    }
}

#[test]
fn frozen_text_encoder_does_not_change() {
    use crate::run::Trainee;
    let text = initialise(text_config().init(&Device::flex()).unwrap(), &Draws::new(2));
    let frozen = SmallTextEncoder::new(text, words()).unwrap();
    let mut trainer = trainer(2, TextSide::Frozen(Box::new(frozen)));
    let first = trainer.step(0).unwrap().get("loss").unwrap();
    assert!(first.is_finite());
    assert!(trainer.trained().text().is_none());
    assert!(trainer.evaluate(0).is_ok());
}

#[test]
fn options_out_of_range_are_named() {
    let good = everything();
    assert!(good.validate([2, 2]).is_ok());
    let bad = |change: fn(&mut EditOptions)| {
        let mut options = everything();
        change(&mut options);
        options.validate([2, 2]).unwrap_err().to_string()
    };
    for (error, named) in [
        (bad(|o| o.batch = 0), "batch"),
        (bad(|o| o.evaluated = 0), "evaluated"),
        (bad(|o| o.masking.fully_masked = 1.5), "fully_masked"),
        (bad(|o| o.conditions.text_dropout = -0.1), "text_dropout"),
        (bad(|o| o.conditions.reference_dropout = f32::NAN), "reference_dropout"),
        (bad(|o| o.loss.changed_weight = 0.0), "changed_weight"),
        (bad(|o| o.loss.rarity = -0.5), "rarity"),
        (bad(|o| o.loss.map_weight = f32::INFINITY), "map_weight"),
        (bad(|o| o.loss.map_weight = 0.0), "map_blocks"),
        (bad(|o| o.loss.map_blocks = vec![4]), "map_blocks"),
        (bad(|o| o.loss.changed_head_weight = -1.0), "changed_head_weight"),
        (bad(|o| o.loss.reference_head_weight = f32::NAN), "reference_head_weight"),
        (bad(|o| o.loss.contents_head_block = Some(0)), "contents_head_block"),
        (bad(|o| o.loss.scored_tokens = Some(1)), "scored_tokens"),
        (bad(|o| o.loss.contents_head_weight = -1.0), "contents_head_weight"),
    ] {
        assert!(error.contains(named), "{error}");
    }
}

/// [`Rule`] with labels: 1 for a token above 6, else 0.
struct Labelled;

impl EditDataset for Labelled {
    fn len(&self) -> u64 {
        Rule.len()
    }

    fn grid(&self) -> GridSize {
        Rule.grid()
    }

    fn micro(&self) -> MicroConditions {
        Rule.micro()
    }

    fn content_classes(&self) -> Vec<usize> {
        vec![2]
    }

    fn examples(&self, indices: &[u64]) -> Result<Vec<EditExample>, TrainError> {
        let mut examples = Rule.examples(indices)?;
        for example in &mut examples {
            example.contents = example.before.iter().map(|&id| u32::from(id > 6)).collect();
        }
        Ok(examples)
    }
}

#[test]
fn heads_on_the_reference_learn() {
    use crate::run::Trainee;
    let options = EditOptions {
        loss: LossOptions {
            reference_head_weight: 1.0,
            contents_head_weight: 1.0,
            ..everything().loss
        },
        ..everything()
    };
    let own = |weight| LossOptions { contents_head_weight: weight, ..options.loss.clone() };
    let unknown = model(&options.loss, true).with_contents_head(&options.loss, &Rule, WIDTH);
    assert!(unknown.unwrap_err().to_string().contains("contents_head_weight"));
    let model = model(&options.loss, true);
    let model = model.with_contents_head(&options.loss, &Labelled, WIDTH).unwrap();
    let data = EditData {
        train: Box::new(Labelled),
        validation: Box::new(Labelled),
        curriculum: Vec::new(),
    };
    let plan = TrainingPlan::new(learner(), 60, 3);
    let side = TextSide::Trained(words());
    let settings = BatchSettings {
        options: &options,
        draws: &Draws::new(1),
        grid: GRID,
        micro: Rule.micro(),
        mask_token: CODES,
    };
    let examples = Labelled.examples(&[0, 1, 2, 3]).unwrap();
    let batch = EditBatch::new(settings, 0, examples).unwrap();
    let prompts: Vec<&str> = batch.prompts.iter().map(String::as_str).collect();
    let cost = |model: &EditModel, with: &LossOptions| {
        let text = side.encode(model, &prompts).unwrap();
        let loss = |options| model.loss(&batch, &text, options).unwrap().into_scalar::<f32>();
        loss(with) - loss(&LossOptions { reference_head_weight: 0.0, ..own(0.0) })
    };
    let contents = LossOptions { reference_head_weight: 0.0, ..own(1.0) };
    let region = own(0.0);
    let mut trainer =
        EditTrainer::new(model, TextSide::Trained(words()), data, options.clone(), plan).unwrap();
    let before = trainer.trained();
    for step in 0..60 {
        trainer.step(step).unwrap();
    }
    let after = trainer.trained();
    for (what, with) in [("contents", contents), ("region", region)] {
        let (before, after) = (cost(&before, &with), cost(&after, &with));
        assert!(before > 0.3 && after < 0.7 * before, "{what}: {before}, {after}");
    }
}

/// A stage of one step.
fn one_category() -> CurriculumStage {
    let world = serde_json::json!({"categories": ["remove"]});
    CurriculumStage { steps: 1, world: world.as_object().unwrap().clone() }
}

/// A data set that says which one it is: by the instructions.
struct Named(&'static str, u64, GridSize);

impl EditDataset for Named {
    fn len(&self) -> u64 {
        self.1
    }

    fn grid(&self) -> GridSize {
        self.2
    }

    fn micro(&self) -> MicroConditions {
        Rule.micro()
    }

    fn examples(&self, indices: &[u64]) -> Result<Vec<EditExample>, TrainError> {
        let mut examples = Rule.examples(indices)?;
        examples.iter_mut().for_each(|example| example.instruction = self.0.into());
        Ok(examples)
    }
}

#[test]
fn a_curriculum_comes_first_and_must_fit() {
    let data = |stages: &[(&'static str, u64, u64, GridSize)]| EditData {
        train: Box::new(Named("make it red", 24, GRID)),
        validation: Box::new(Rule),
        curriculum: stages
            .iter()
            .map(|&(name, steps, len, grid)| CurriculumData {
                steps,
                train: Box::new(Named(name, len, grid)),
            })
            .collect(),
    };
    let staged = data(&[("one", 2, 24, GRID), ("two", 1, 24, GRID)]);
    let order: Vec<String> = (0..5)
        .map(|step| staged.train_at(step).examples(&[0]).unwrap().remove(0).instruction)
        .collect();
    assert_eq!(order, ["one", "one", "two", "make it red", "make it red"]);
    let options = everything();
    let built = |data| {
        let model = model(&options.loss, true);
        let plan = TrainingPlan::new(learner(), 3, 3);
        EditTrainer::new(model, TextSide::Trained(words()), data, options.clone(), plan)
    };
    assert!(built(data(&[("one", 2, 24, GRID)])).is_ok());
    let other = GridSize::new(GRID.height, GRID.width + 2);
    for (stage, named) in [
        (("one", 3, 24, GRID), "steps of the curriculum"),
        (("one", u64::MAX, 24, GRID), "steps of the curriculum"),
        (("one", 0, 24, GRID), "1 or more in each stage"),
        (("one", 1, 23, GRID), "examples of the curriculum"),
        (("one", 1, 24, other), "grid of the curriculum"),
    ] {
        let error = built(data(&[stage])).err().unwrap().to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// From a config to an edit: a run's result is a complete model folder.
#[test]
fn a_run_makes_a_model_that_edits() {
    use editmgt::{
        Dtype, DtypePolicy, EditRequest, Editor, LoadOptions, Model, ModelFolder, Photo,
    };
    use editmgt_checkpoint::{WeightsName, WriteOptions, save_module};
    use editmgt_vq::{CodecConfig, PatchVqConfig};

    let dir = tempfile::tempdir().unwrap();
    let codec = dir.path().join("codec");
    let config = PatchVqConfig {
        encoder_channels: vec![8],
        code_channels: 4,
        num_codes: 16,
        decoder_channels: vec![4, 4],
        blocks_per_level: 1,
    };
    let module = initialise(config.init(&Device::flex()).unwrap(), &Draws::new(1));
    let options = WriteOptions::new(WeightsName::Diffusion, burn::tensor::DType::F32);
    save_module(&codec, &module, &config.keys(), &options).unwrap();
    let config = serde_json::to_string(&CodecConfig::Patch(config)).unwrap();
    std::fs::write(codec.join("config.json"), config).unwrap();

    let run = EditRun {
        seed: 1,
        codec,
        examples: Some(50),
        curriculum: vec![one_category()],
        world: Some(shapes::WorldConfig { canvas: 80, ..Default::default() }.into()),
        data: DataOptions::default(),
        model: SmallModelOptions {
            double_blocks: 2,
            single_blocks: 2,
            heads: 2,
            axes: [2, 2, 4],
            rope_theta: 30.0,
            position_frequencies: 4,
            merge_tokens: true,
            text_rows: 16,
            text_layers: 1,
            embed_codes: true,
            structured_init: StructuredInit { place_heads: 1, attention_gain: 1.5, gate: 1.0 },
        },
        edit_defaults: Default::default(),
        training: EditOptions { batch: 2, evaluated: 2, ..everything() },
        learner: LearnerOptions { accumulate: 2, ..learner() },
        run: LoopOptions { steps: 2, ..LOOP },
        compute: ComputeOptions { workers: 2, ..ComputeOptions::default() },
    };
    let written = toml::to_string(&run).unwrap();
    assert_eq!(EditRun::from_toml(&written).unwrap(), run);

    let out = dir.path().join("run");
    let device = Device::flex();
    let model = run.train(&out, false, &device, &mut |_| Flow::Continue).unwrap().unwrap();
    let options = LoadOptions::new(device, DtypePolicy::uniform(Dtype::F32));
    let model = Model::load(&ModelFolder::open(&model).unwrap(), &options).unwrap();
    // A closed vocabulary has no official negative prompt, and the model has no official size.
    assert_eq!(model.defaults.size, Some(80));
    assert_eq!(model.defaults.negative_prompt.as_deref(), Some(""));
    assert_eq!(model.scheduler.timesteps, editmgt::sampler::Timesteps::MaskRatio);
    let editor = Editor::new(model).unwrap();
    let world = World::new(run.world.unwrap()).unwrap();
    let pair = world.pair(Split::Test, 0).pair;
    let path = dir.path().join("before.png");
    pair.before.save(&path).unwrap();
    let photo = Photo::open(&path).unwrap();
    let request = |instruction: &str| EditRequest::new(instruction).steps(2);
    let edited = editor.edit(&photo, request(&pair.instruction)).unwrap();
    assert_eq!(edited.tokens.size(), GridSize::new(20, 20));
    let error = editor.edit(&photo, request("add a zebra")).unwrap_err();
    assert!(error.to_string().contains("\"zebra\""), "{error}");
}
