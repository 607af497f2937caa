//! Invariants of every edit, for all sizes, masks, policies and seeds: random cases of the sampling
//! loop with a random transformer.

use burn::tensor::{Device, Tensor, TensorData};
use editmgt::{
    AttentionMaps, AttentionRequest, ChaChaNoise, EditEvent, EditLoop, Error, Flow, GridSize,
    HoldPolicy, HoldRequest, Localisation, LoopInput, LoopStages, MapCombine, MgtTransformer,
    MicroConditions, NoiseRequest, NoiseSource, RegionHold, StepInput, StepOutput,
    TextConditioning, TextRows, TokenGrid, TransformerSpec, UserMask,
    sampler::{Consolidator, MaskingSchedule, Strict, Temperature},
};
use proptest::prelude::*;

const CODES: usize = 8;
const MASK_TOKEN: u32 = 8;
const TEXT_ROWS: usize = 3;

/// Logits and attention are noise: a function of the canvas and the seed.
struct Oracle {
    spec: TransformerSpec,
    seed: u64,
}

impl Oracle {
    fn new(grid_factor: usize, seed: u64) -> Self {
        let spec = TransformerSpec {
            codebook_size: CODES,
            mask_token: MASK_TOKEN,
            double_blocks: 1,
            single_blocks: 1,
            grid_factor,
            text_size: 2,
            pooled_size: 2,
        };
        Self { spec, seed }
    }

    fn uniforms(&self, tokens: &TokenGrid, n: usize) -> Vec<f32> {
        let known = tokens.ids().iter().map(|&id| u64::from(id));
        let canvas = known.fold(self.seed, |sum, id| sum.wrapping_mul(31).wrapping_add(id));
        let request = NoiseRequest { first_image: 0, batch: 1, size: GridSize::new(1, n), step: 0 };
        ChaChaNoise::new(canvas).step_noise(&request).unwrap().confidence
    }
}

impl MgtTransformer for Oracle {
    fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    fn forward(&self, input: &StepInput<'_>, ask: &AttentionRequest) -> Result<StepOutput, Error> {
        input.check(&self.spec)?;
        ask.check(self.spec.blocks(), input.tokens.batch(), input.text.rows())?;
        let shape = [input.tokens.batch(), input.tokens.size().len(), CODES];
        let logits = self.uniforms(input.tokens, shape.iter().product());
        let logits = logits.into_iter().map(|u| 8.0 * u).collect::<Vec<_>>();
        let logits = Tensor::from_data(TensorData::new(logits, shape), &Device::flex());
        let cells = self.inner_grid(input.tokens.size());
        let maps = if ask.is_empty() {
            None
        } else {
            let (blocks, items) = (ask.blocks.clone(), ask.items.len());
            let values = self.uniforms(input.tokens, blocks.len() * items * cells.len());
            Some(AttentionMaps::new(blocks, items, cells, values)?)
        };
        Ok(StepOutput { logits, maps })
    }
}

/// One edit.
#[derive(Debug, Clone)]
struct Case {
    batch: usize,
    size: GridSize,
    grid_factor: usize,
    steps: usize,
    seed: u64,
    guidance: (f32, (f32, f32)),
    temperature: f32,
    hold: HoldPolicy,
    margin: usize,
    phrases: usize,
    /// The user's mask at each token.
    mask: Option<Vec<f32>>,
}

fn policies() -> impl Strategy<Value = HoldPolicy> {
    prop_oneof![
        Just(HoldPolicy::Off),
        Just(HoldPolicy::Auto),
        (0.0f32..=1.0).prop_map(HoldPolicy::Threshold),
        (0.0f32..=1.0).prop_map(HoldPolicy::Budget),
    ]
}

prop_compose! {
    fn cases()(height in 1usize..8, width in 1usize..8)(
        mask in prop::option::of(prop::collection::vec(0.0f32..=1.0, height * width)),
        height in Just(height),
        width in Just(width),
        (batch, grid_factor, steps, phrases, margin) in (1usize..3, 1usize..3, 1usize..7, 0usize..3, 0usize..3),
        seed in any::<u64>(),
        scale in 0.0f32..4.0,
        from in 0.0f32..=1.0,
        length in 0.0f32..=1.0,
        temperature in 0.0f32..5.0,
        hold in policies(),
    ) -> Case {
        let size = GridSize::new(height, width);
        // An all-black mask is refused.
        let mask = mask.filter(|mask| mask.iter().any(|&value| value >= 0.5));
        let hold = if mask.is_some() { hold.with_mask() } else { hold };
        let guidance = (scale, (from, (from + length).min(1.0)));
        Case { batch, size, grid_factor, steps, seed, guidance, temperature, hold, margin, phrases, mask }
    }
}

impl Case {
    fn user_mask(&self) -> Option<UserMask> {
        self.mask.clone().map(|values| UserMask::new(self.size, values).unwrap())
    }

    fn reference(&self) -> TokenGrid {
        let ids = (0..self.batch * self.size.len()).map(|i| (i * 5 % CODES) as u32);
        TokenGrid::new(self.batch, self.size, ids.collect()).unwrap()
    }

    fn input(&self) -> LoopInput {
        let reference = self.reference();
        let device = Device::flex();
        let text = TextConditioning {
            hidden: Tensor::zeros([self.batch, TEXT_ROWS, 2], &device),
            pooled: Tensor::zeros([self.batch, 2], &device),
        };
        let canvas = match self.user_mask() {
            Some(mask) => mask.masked(&reference, MASK_TOKEN).unwrap(),
            None => TokenGrid::filled(self.batch, self.size, MASK_TOKEN),
        };
        let rows = (0..self.batch * self.phrases).map(|i| TextRows::Rows(vec![i % TEXT_ROWS]));
        let localisation =
            Localisation::new(vec![0, 1]).with_rows(rows.collect()).with_combine(MapCombine::Max);
        LoopInput::new(text.clone(), canvas, MicroConditions::uncropped(8, 8), self.steps)
            .with_guidance(self.guidance.0, Some(text))
            .with_guidance_interval(self.guidance.1)
            .with_reference(reference, 1.0)
            .with_localisation(localisation)
            .with_user_mask(self.user_mask())
    }

    /// Passes the stages of this case to `with`.
    fn stages<T>(&self, with: impl FnOnce(LoopStages<'_>) -> T) -> T {
        let hold = self.hold.stage(self.margin).unwrap();
        let temperature = Temperature::Range(self.temperature, 0.0);
        with(LoopStages::new(
            &Oracle::new(self.grid_factor, self.seed),
            &Strict::new(MaskingSchedule::Cosine, temperature),
            &Consolidator::default(),
            &*hold,
            &ChaChaNoise::new(self.seed),
        ))
    }

    /// The whole edit, without interruption.
    fn unbroken(&self) -> TokenGrid {
        self.stages(|stages| {
            let mut edit = EditLoop::new(stages, self.input()).unwrap();
            edit.run(&mut editmgt::Silent, drop).unwrap();
            edit.tokens().clone()
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decided_tokens_stay_and_held_ones_are_the_photos(case in cases()) {
        let reference = case.reference();
        case.stages(|stages| {
            let mut edit = EditLoop::new(stages, case.input()).unwrap();
            let mut kept = vec![false; reference.ids().len()];
            while !edit.is_done() {
                let before = edit.tokens().clone();
                let step = edit.step().unwrap();
                let after = edit.tokens();
                prop_assert!(after.count(MASK_TOKEN) <= before.count(MASK_TOKEN));
                prop_assert_eq!(after.count(MASK_TOKEN), step.masked);
                prop_assert_eq!(step.predicted.count(MASK_TOKEN), 0);
                for (i, kept) in kept.iter_mut().enumerate() {
                    let was_open = before.ids()[i] == MASK_TOKEN;
                    let held = step.hold.as_ref().is_some_and(|hold| hold.held()[i]);
                    *kept |= was_open && held;
                    if *kept {
                        prop_assert_eq!(after.ids()[i], reference.ids()[i], "held at {}", i);
                    }
                    if !was_open {
                        prop_assert_eq!(after.ids()[i], before.ids()[i], "decided at {}", i);
                    }
                }
            }
            prop_assert_eq!(edit.tokens().count(MASK_TOKEN), 0);
            Ok(())
        })?;
    }

    #[test]
    fn protected_tokens_never_change(case in cases()) {
        let (tokens, reference) = (case.unbroken(), case.reference());
        let n = case.size.len();
        let changed = |image: usize| {
            (0..n).filter(|i| tokens.image(image)[*i] != reference.image(image)[*i]).count()
        };
        let budget = match &case.hold {
            HoldPolicy::Budget(share) => Some(*share),
            HoldPolicy::MaskAnd(policy) => match **policy {
                HoldPolicy::Budget(share) => Some(share),
                _ => None,
            },
            _ => None,
        };
        for image in 0..case.batch {
            if let Some(share) = budget {
                prop_assert!(changed(image) as f64 <= f64::from(share) * n as f64);
            }
            if let Some(mask) = case.user_mask() {
                for i in (0..n).filter(|&i| !mask.may_change(i)) {
                    prop_assert_eq!(tokens.image(image)[i], reference.image(image)[i]);
                }
            }
        }
    }

    #[test]
    fn resumed_after_any_step_equals_unbroken_loop(case in cases(), stop in 0usize..7) {
        let stop = 1 + stop % case.steps;
        let tokens = case.stages(|stages| {
            let mut edit = EditLoop::new(stages, case.input()).unwrap();
            let mut observer = |event: &EditEvent<'_>| match event {
                EditEvent::Step { completed, .. } if *completed == stop => Flow::Stop,
                _ => Flow::Continue,
            };
            let error = edit.run(&mut observer, drop).unwrap_err();
            let Error::Stopped { completed, total, progress: Some(progress) } = error else {
                panic!("{error}");
            };
            assert_eq!((completed, total, progress.completed), (stop, case.steps, stop));
            let mut edit = EditLoop::resume(stages, case.input(), *progress).unwrap();
            edit.run(&mut editmgt::Silent, drop).unwrap();
            edit.tokens().clone()
        });
        prop_assert_eq!(tokens, case.unbroken());
    }

    #[test]
    fn every_policy_is_a_pure_function(case in cases()) {
        let n = case.batch * case.size.len();
        let values = Oracle::new(1, case.seed).uniforms(&case.reference(), n);
        let scores = editmgt::ScoreMap::new(case.batch, case.size, values).unwrap();
        let stage = case.hold.stage(case.margin).unwrap();
        let mask = case.user_mask();
        let hold = |stage: &dyn RegionHold, step| {
            stage.hold(&HoldRequest { step, ..HoldRequest::first(&scores, mask.as_ref()) })
        };
        let first = hold(&*stage, 0).unwrap();
        prop_assert_eq!((first.batch(), first.size()), (case.batch, case.size));
        prop_assert_eq!(&hold(&*stage, 3).unwrap(), &first);
        // A wider margin never holds more.
        let wider = hold(&*case.hold.stage(case.margin + 1).unwrap(), 0).unwrap();
        prop_assert!(wider.held().iter().zip(first.held()).all(|(wide, tight)| !wide | tight));
    }
}
