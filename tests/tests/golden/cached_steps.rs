//! Loops with cached steps: what must not change, and what may cost less.

use burn::tensor::{Device, Distribution, Tensor};
use editmgt::{
    ActiveRows, AttentionRequest, CacheDtype, ChaChaNoise, EditEvent, EditLoop, Editor, Error,
    Flow, GridSize, HoldRequest, Localisation, LoopInput, LoopProgress, LoopStages, LoopStep, Mask,
    MgtTransformer, MicroConditions, RegionHold, StepCache, StepInput, StepOutput, StepPlan,
    TextConditioning, TokenGrid, TransformerSpec, UserMask,
    sampler::{
        Consolidator, HoldBudget, HoldThreshold, HoldUserMask, MaskingSchedule, Strict, Temperature,
    },
};
use editmgt_testkit::assert_transformer_contract;
use editmgt_testkit::fakes::CopyTransformer;
use editmgt_transformer::{Connector, MgtConfig, MgtModel};
use image::{GrayImage, Luma};

use crate::defaults::{photo, request};

const STEPS: usize = 9;

pub(crate) fn model(resample: bool) -> MgtModel {
    let config = MgtConfig {
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
    };
    config.init(&Device::flex()).unwrap()
}

/// An edit of random photos with random text.
pub(crate) struct Edit {
    pub(crate) input: LoopInput,
    pub(crate) hold: Box<dyn RegionHold>,
    pub(crate) scheduler: Strict,
}

impl Edit {
    pub(crate) fn new(transformer: &dyn MgtTransformer, batch: usize, size: GridSize) -> Self {
        let spec = transformer.spec();
        let text = || TextConditioning {
            hidden: random([batch, 5, spec.text_size]),
            pooled: random([batch, 1, spec.pooled_size]).squeeze_dim::<2>(1),
        };
        let codes = spec.codebook_size as u32;
        let ids = (0..(batch * size.len()) as u32).map(|i| i * 7 % codes).collect();
        let reference = TokenGrid::new(batch, size, ids).unwrap();
        let canvas = TokenGrid::filled(batch, size, spec.mask_token);
        let localisation = Localisation::new((0..spec.blocks()).collect());
        let input = LoopInput::new(text(), canvas, MicroConditions::uncropped(64, 96), STEPS)
            .with_guidance(3.0, Some(text()))
            .with_reference(reference, 1.1)
            .with_localisation(localisation);
        Self {
            input,
            hold: Box::new(HoldThreshold::new(0.5).unwrap()),
            scheduler: Strict::new(MaskingSchedule::Cosine, Temperature::Range(2.0, 0.0)),
        }
    }

    /// With a user's mask that is white for a corner of each image.
    pub(crate) fn masked(self, transformer: &dyn MgtTransformer) -> Self {
        let reference = self.input.reference.clone().unwrap();
        let size = reference.size();
        let white = |i: usize| i / size.width < 2 && i % size.width < 2;
        let values = (0..size.len()).map(|i| f32::from(u8::from(white(i))));
        let mask = UserMask::new(size, values.collect()).unwrap();
        let canvas = mask.masked(&reference, transformer.spec().mask_token).unwrap();
        let mut input = self.input.with_user_mask(Some(mask));
        input.canvas = canvas;
        Self { input, hold: Box::new(HoldUserMask), ..self }
    }

    fn with_plan(&self, plan: StepPlan) -> LoopInput {
        self.input.clone().with_step_plan(plan)
    }

    fn run(
        &self,
        transformer: &dyn MgtTransformer,
        plan: StepPlan,
    ) -> (LoopProgress, Vec<LoopStep>) {
        self.resumed(transformer, plan, None)
    }

    fn resumed(
        &self,
        transformer: &dyn MgtTransformer,
        plan: StepPlan,
        from: Option<LoopProgress>,
    ) -> (LoopProgress, Vec<LoopStep>) {
        let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(3));
        let stages =
            LoopStages::new(transformer, &self.scheduler, &consolidator, &*self.hold, &noise);
        let input = self.with_plan(plan);
        let mut edit = match from {
            Some(progress) => EditLoop::resume(stages, input, progress).unwrap(),
            None => EditLoop::new(stages, input).unwrap(),
        };
        let mut steps = Vec::new();
        edit.run(&mut |_: &EditEvent<'_>| Flow::Continue, |step| steps.push(step)).unwrap();
        (edit.progress().clone(), steps)
    }

    /// The state after `completed` steps.
    fn stopped(
        &self,
        transformer: &dyn MgtTransformer,
        plan: StepPlan,
        completed: usize,
    ) -> LoopProgress {
        let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(3));
        let stages =
            LoopStages::new(transformer, &self.scheduler, &consolidator, &*self.hold, &noise);
        let mut edit = EditLoop::new(stages, self.with_plan(plan)).unwrap();
        (0..completed).for_each(|_| drop(edit.step().unwrap()));
        edit.progress().clone()
    }
}

fn random(shape: [usize; 3]) -> Tensor<3> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn cached(warm_up: usize, refresh: usize) -> StepPlan {
    StepPlan::Cached { warm_up, refresh }
}

fn full_steps(steps: &[LoopStep]) -> Vec<usize> {
    let full = steps.iter().enumerate().filter(|(_, step)| step.partial.is_none());
    full.map(|(index, _)| index).collect()
}

fn largest_difference(a: &[LoopStep], b: &[LoopStep]) -> f32 {
    let difference = |(a, b): (&LoopStep, &LoopStep)| {
        (a.logits.clone() - b.logits.clone()).abs().max().into_scalar::<f32>()
    };
    a.iter().zip(b).map(difference).fold(0.0, f32::max)
}

#[test]
fn the_cached_transformer_keeps_the_contract() {
    for resample in [false, true] {
        assert_transformer_contract(&model(resample), &Device::flex());
    }
}

#[test]
fn a_refresh_at_every_step_is_exact() {
    let model = model(true);
    let edit = Edit::new(&model, 2, GridSize::new(4, 6));
    let (exact, exact_steps) = edit.run(&model, StepPlan::Exact);
    for plan in [cached(1, 1), cached(STEPS, 0), cached(2, 1)] {
        let (progress, steps) = edit.run(&model, plan);
        assert_eq!(progress, exact, "{plan}");
        assert_eq!(largest_difference(&steps, &exact_steps), 0.0, "{plan}");
    }
    assert_eq!((exact.work.full, exact.work.partial, exact.work.cells), (STEPS, 0, STEPS as f32));
}

#[test]
fn held_tokens_stay_and_maps_and_holds_are_those_of_full_steps() {
    for resample in [false, true] {
        let model = model(resample);
        // At most half may change, whatever the random scores.
        let hold = Box::new(HoldBudget::new(0.5).unwrap());
        let edit = Edit { hold, ..Edit::new(&model, 2, GridSize::new(5, 6)) };
        let reference = edit.input.reference.clone().unwrap();
        let (progress, steps) = edit.run(&model, cached(2, 4));
        assert_eq!(full_steps(&steps), [0, 1, 5]);
        let codes = model.spec().codebook_size as u32;
        assert!(progress.tokens.ids().iter().all(|&id| id < codes));
        // A hold may move; what it holds at every step is the photo's.
        let is_held =
            |step: &LoopStep, position: usize| step.hold.as_ref().unwrap().held()[position];
        let positions = 0..reference.ids().len();
        let held: Vec<_> = positions
            .filter(|&position| steps.iter().all(|step| is_held(step, position)))
            .collect();
        assert!(!held.is_empty());
        for position in held {
            assert_eq!(progress.tokens.ids()[position], reference.ids()[position], "{position}");
        }
        for (index, step) in steps.iter().enumerate() {
            assert_eq!(step.maps.is_some(), step.partial.is_none(), "{index}");
            if step.partial.is_some() {
                assert_eq!(step.scores, steps[index - 1].scores, "{index}");
                assert_eq!(step.hold, steps[index - 1].hold, "{index}");
            }
        }
        assert!(progress.work.cells < STEPS as f32);
        assert_eq!((progress.work.full, progress.work.partial), (3, STEPS - 3));
    }
}

/// Only the cells of the white part, from the first step after the warm-up on.
#[test]
fn known_tokens_of_a_masked_edit_are_idle() {
    for (resample, cells) in [(false, 4.0 / 24.0), (true, 1.0 / 6.0)] {
        let model = model(resample);
        let edit = Edit::new(&model, 1, GridSize::new(4, 6)).masked(&model);
        let reference = edit.input.reference.clone().unwrap();
        let (progress, steps) = edit.run(&model, cached(1, 0));
        assert_eq!(full_steps(&steps), [0]);
        for step in &steps[1..] {
            let partial = step.partial.unwrap();
            assert!(0.0 < partial && partial <= cells, "{partial}");
        }
        let both = progress.tokens.ids().iter().zip(reference.ids()).zip(edit.input.canvas.ids());
        for ((&id, &before), &start) in both {
            assert!(id == before || start == model.spec().mask_token);
        }
    }
}

#[test]
fn a_resumed_loop_equals_an_unbroken_one() {
    let model = model(true);
    let size = GridSize::new(4, 6);
    for edit in [Edit::new(&model, 2, size), Edit::new(&model, 1, size).masked(&model)] {
        // Guidance ends within the run, which makes a full step of its own.
        let edit = Edit { input: edit.input.with_guidance_interval((0.0, 0.7)), ..edit };
        for plan in [cached(1, 0), cached(2, 4)] {
            let (expected, all) = edit.run(&model, plan);
            for completed in 0..STEPS {
                let from = edit.stopped(&model, plan, completed);
                let (progress, rest) = edit.resumed(&model, plan, Some(from));
                assert_eq!(progress, expected, "{plan} after {completed}");
                let difference = largest_difference(&rest, &all[completed..]);
                assert_eq!(difference, 0.0, "{plan} after {completed}");
            }
        }
    }
}

/// Records the images and the precision of the cache of each partial pass.
struct Recorded<'a>(&'a MgtModel, std::sync::Mutex<Vec<(usize, CacheDtype)>>);

impl MgtTransformer for Recorded<'_> {
    fn spec(&self) -> &TransformerSpec {
        self.0.spec()
    }

    fn forward(&self, input: &StepInput<'_>, ask: &AttentionRequest) -> Result<StepOutput, Error> {
        self.0.forward(input, ask)
    }

    fn caches_steps(&self) -> bool {
        true
    }

    fn forward_cached(
        &self,
        input: &StepInput<'_>,
        ask: &AttentionRequest,
        cache: &mut StepCache,
        active: Option<&ActiveRows>,
    ) -> Result<StepOutput, Error> {
        if active.is_some() {
            self.1.lock().unwrap().push((input.tokens.batch(), cache.dtype()));
        }
        self.0.forward_cached(input, ask, cache, active)
    }
}

#[test]
fn guidance_in_turn_is_that_of_the_whole_batch_bit_for_bit() {
    for resample in [false, true] {
        let model = model(resample);
        let together = Edit::new(&model, 2, GridSize::new(5, 6));
        let mut in_turn = Edit::new(&model, 2, GridSize::new(5, 6));
        in_turn.input = together.input.clone().with_guidance_in_turn(true);
        // A step that keeps something computes the whole batch.
        for plan in [StepPlan::Exact, cached(1, 2)] {
            let (expected, expected_steps) = together.run(&model, plan);
            let (progress, steps) = in_turn.run(&model, plan);
            assert_eq!(progress, expected, "{plan}");
            assert_eq!(largest_difference(&steps, &expected_steps), 0.0, "{plan}");
            for (step, expected) in steps.iter().zip(&expected_steps) {
                assert_eq!(step.maps, expected.maps, "{plan}");
            }
        }
    }
}

#[test]
fn reused_guidance_computes_the_conditional_half_in_partial_steps() {
    for resample in [false, true] {
        let model = model(resample);
        let budget = || Box::new(HoldBudget::new(0.5).unwrap());
        let plain = Edit { hold: budget(), ..Edit::new(&model, 2, GridSize::new(5, 6)) };
        let mut reused = Edit::new(&model, 2, GridSize::new(5, 6));
        reused.hold = budget();
        reused.input = plain.input.clone().with_guidance_reuse(true);
        // Full steps are those of whole batches, bit for bit.
        let (exact, exact_steps) = plain.run(&model, StepPlan::Exact);
        for plan in [StepPlan::Exact, cached(1, 1)] {
            let (progress, steps) = reused.run(&model, plan);
            assert_eq!(progress, exact, "{plan}");
            assert_eq!(largest_difference(&steps, &exact_steps), 0.0, "{plan}");
        }
        let plan = cached(2, 4);
        let (_, without) = plain.run(&model, plan);
        let recorded = Recorded(&model, Default::default());
        let (expected, steps) = reused.run(&recorded, plan);
        assert_eq!(full_steps(&steps), full_steps(&without));
        // Where no token is masked, nothing is computed.
        let passes = recorded.1.lock().unwrap().clone();
        assert!(!passes.is_empty() && passes.iter().all(|pass| pass.0 == 2), "{passes:?}");
        for full in [0, 1] {
            assert_eq!(largest_difference(&steps[full..=full], &without[full..=full]), 0.0);
            assert_eq!(steps[full].maps, without[full].maps);
        }
        // The first partial step has the same canvas; its guidance is that of the step before.
        let (got, expected_logits) = (&steps[2..=2], &without[2..=2]);
        let scale = expected_logits[0].logits.clone().abs().max().into_scalar::<f32>();
        let difference = largest_difference(got, expected_logits) / scale;
        assert!(0.0 < difference && difference < 0.5, "{difference}");
        for completed in 0..STEPS {
            let from = reused.stopped(&model, plan, completed);
            let (progress, rest) = reused.resumed(&model, plan, Some(from));
            assert_eq!(progress, expected, "after {completed}");
            assert_eq!(largest_difference(&rest, &steps[completed..]), 0.0, "after {completed}");
        }
    }
}

#[test]
fn the_transformer_is_told_the_precision_of_the_cache() {
    let model = model(false);
    for dtype in [CacheDtype::Model, CacheDtype::Bf16] {
        let edit = Edit::new(&model, 1, GridSize::new(4, 6)).masked(&model);
        let edit = Edit { input: edit.input.with_cache_dtype(dtype), ..edit };
        let recorded = Recorded(&model, Default::default());
        edit.run(&recorded, cached(1, 0));
        let passes = recorded.1.into_inner().unwrap();
        assert!(!passes.is_empty() && passes.iter().all(|pass| pass.1 == dtype), "{passes:?}");
    }
}

#[test]
fn a_switch_of_guidance_is_a_full_step() {
    let model = model(false);
    let edit = Edit::new(&model, 1, GridSize::new(4, 4));
    // Of nine steps, the middles of 3, 4 and 5 lie between.
    let edit = Edit { input: edit.input.with_guidance_interval((0.35, 0.65)), ..edit };
    let (_, steps) = edit.run(&model, cached(1, 0));
    assert_eq!(full_steps(&steps), [0, 3, 6]);
}

#[test]
fn progress_of_another_plan_is_refused() {
    let model = model(false);
    let edit = Edit::new(&model, 1, GridSize::new(4, 4));
    let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(3));
    let stages = LoopStages::new(&model, &edit.scheduler, &consolidator, &*edit.hold, &noise);
    for (made_with, plan) in [(StepPlan::Exact, cached(1, 0)), (cached(2, 2), cached(2, 0))] {
        let from = edit.stopped(&model, made_with, 6);
        let mut resumed = EditLoop::resume(stages, edit.with_plan(plan), from).unwrap();
        let error = resumed.step().unwrap_err();
        assert!(matches!(error, Error::Value { what: "progress to resume from", .. }), "{error}");
    }
    for plan in [cached(0, 8), cached(1, StepPlan::MAX + 1)] {
        let error = EditLoop::new(stages, edit.with_plan(plan)).err().unwrap();
        assert!(matches!(error, Error::Value { what: "step plan", .. }), "{error}");
    }
}

/// Counts the calls of each method; caches nothing.
struct Plain(CopyTransformer);

impl MgtTransformer for Plain {
    fn spec(&self) -> &TransformerSpec {
        self.0.spec()
    }

    fn forward(&self, input: &StepInput<'_>, ask: &AttentionRequest) -> Result<StepOutput, Error> {
        self.0.forward(input, ask)
    }
}

#[test]
fn a_transformer_without_a_cache_computes_every_step_in_full() {
    let transformer = Plain(CopyTransformer::new(&Device::flex()));
    let edit = Edit::new(&transformer, 2, GridSize::new(4, 4));
    let (exact, _) = edit.run(&transformer, StepPlan::Exact);
    let (progress, steps) = edit.run(&transformer, cached(1, 0));
    assert_eq!(progress, exact);
    assert_eq!(full_steps(&steps).len(), STEPS);
}

/// Decides by the step's number, which partial steps must not let it do.
struct EverySecond;

impl RegionHold for EverySecond {
    fn hold(&self, request: &HoldRequest<'_>) -> Result<editmgt::HoldMask, Error> {
        let (batch, size) = (request.scores.batch(), request.scores.size());
        let held = (0..batch * size.len()).map(|i| i == request.step).collect();
        editmgt::HoldMask::new(batch, size, held)
    }
}

#[test]
fn holds_are_decided_at_full_steps() {
    let model = model(false);
    let edit = Edit::new(&model, 1, GridSize::new(4, 4));
    let edit = Edit { hold: Box::new(EverySecond), ..edit };
    let (progress, _) = edit.run(&model, cached(1, 4));
    let held = progress.ever_held.held().iter().enumerate().filter(|(_, held)| **held);
    assert_eq!(held.map(|(position, _)| position).collect::<Vec<_>>(), [0, 4, 8]);
}

#[test]
fn edits_report_the_work_of_their_steps() {
    let editor = Editor::embedded().build().unwrap();
    let photo = photo(50, 40);
    let plain = request(64).instruction("make the red car blue").steps(6);
    let exact = editor.edit(&photo, &plain).unwrap();
    let steps = &exact.report.steps;
    assert_eq!((steps.full, steps.partial, steps.computed), (6, 0, 1.0));

    let white = GrayImage::from_fn(50, 40, |x, _| Luma([if x < 12 { 255 } else { 0 }]));
    let cached = plain.clone().steps_plan(cached(1, 0)).mask(Mask::from_luma(white));
    let edited = editor.edit(&photo, &cached).unwrap();
    let steps = &edited.report.steps;
    assert_eq!((steps.full, steps.partial, steps.note.clone()), (1, 5, None));
    // Of a quarter of the picture, or little more.
    assert!(steps.computed < (1.0 + 5.0 * 0.4) / 6.0, "{}", steps.computed);
    assert_eq!(edited.report.settings.steps_plan.to_string(), "cached:never:1");
}
