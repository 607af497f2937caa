use super::*;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use editmgt_core::{
    ChaChaNoise, GridSize, HoldMask, NoiseRequest, NoiseSource, StepNoise, TokenGrid,
};

const CODES: usize = 24;
const MASK: u32 = CODES as u32 + 3;

/// A run from a canvas, with fresh random logits at every step.
struct Run<'a> {
    scheduler: &'a dyn UnmaskScheduler,
    seed: u64,
    canvas: TokenGrid,
    reference: Option<TokenGrid>,
    /// The hold mask of each step.
    hold: &'a dyn Fn(usize) -> Option<HoldMask>,
}

impl Run<'_> {
    /// The results of all steps.
    fn results(&self, steps: usize) -> Vec<StepResult> {
        let (batch, size) = (self.canvas.batch(), self.canvas.size());
        let masked = self.canvas.count(MASK).max(1) as f32 / self.canvas.ids().len() as f32;
        let request = ScheduleRequest { steps, starting_mask_ratio: masked };
        let schedule = self.scheduler.plan(&request).unwrap();
        let noise = ChaChaNoise::new(self.seed);
        let mut tokens = self.canvas.clone();
        let mut results = Vec::new();
        for step in 0..steps {
            let request = NoiseRequest { first_image: 0, batch, size, step };
            let result = self.scheduler.step(StepState {
                schedule: &schedule,
                step,
                logits: logits(self.seed + step as u64, batch, size.len()),
                tokens: &tokens,
                reference: self.reference.as_ref(),
                hold: (self.hold)(step).as_ref(),
                mask_token: MASK,
                noise: noise.step_noise(&request).unwrap(),
            });
            results.push(result.unwrap());
            tokens = results[step].tokens.clone();
        }
        results
    }
}

/// Logits in -4..4, from the host: a device's own generator is shared by tests that run at once.
fn logits(seed: u64, batch: usize, n: usize) -> Tensor<3> {
    let request = NoiseRequest { first_image: 0, batch, size: GridSize::new(n, CODES), step: 0 };
    let uniforms = ChaChaNoise::new(seed).step_noise(&request).unwrap().confidence;
    let values = uniforms.into_iter().map(|u| 8.0 * u - 4.0).collect();
    Tensor::from_data(TensorData::new(values, [batch, n, CODES]), &Device::flex())
}

fn reference(batch: usize, size: GridSize) -> TokenGrid {
    let ids = (0..batch * size.len()).map(|i| (i * 7 % CODES) as u32).collect();
    TokenGrid::new(batch, size, ids).unwrap()
}

/// Holds a share of the tokens that differs from step to step and image to image.
fn moving_hold(batch: usize, size: GridSize, seed: u64) -> impl Fn(usize) -> Option<HoldMask> {
    move |step| {
        let noise = ChaChaNoise::new(!seed);
        let uniforms =
            noise.step_noise(&NoiseRequest { first_image: 0, batch, size, step }).unwrap();
        let share = 0.9 - 0.1 * (step % 5) as f32;
        let held = uniforms.confidence.iter().map(|&u| u < share).collect();
        Some(HoldMask::new(batch, size, held).unwrap())
    }
}

const GRIDS: [(usize, usize, usize); 5] = [(1, 1, 1), (1, 1, 7), (2, 3, 5), (1, 16, 16), (3, 9, 4)];

#[test]
fn strict_holds_for_good_and_always_finishes() {
    for (batch, height, width) in GRIDS {
        let size = GridSize::new(height, width);
        for steps in 1..=12 {
            let seed = (steps * 100 + height) as u64;
            let hold = moving_hold(batch, size, seed);
            let reference = reference(batch, size);
            let run = Run {
                scheduler: &Strict::default(),
                seed,
                canvas: TokenGrid::filled(batch, size, MASK),
                reference: Some(reference.clone()),
                hold: &hold,
            };
            let mut before = run.canvas.clone();
            let mut masked_before = vec![size.len(); batch];
            for (step, result) in run.results(steps).into_iter().enumerate() {
                let what = format!("{batch} of {size}, step {step} of {steps}");
                let held = hold(step).unwrap();
                for (i, &id) in result.tokens.ids().iter().enumerate() {
                    if before.ids()[i] != MASK {
                        assert_eq!(id, before.ids()[i], "{what}: a known token changed");
                    } else if held.held()[i] {
                        assert_eq!(id, reference.ids()[i], "{what}: a held token is not held");
                    }
                }
                for (image, &masked) in result.masked.iter().enumerate() {
                    assert!(masked <= masked_before[image], "{what}: more masked than before");
                    let counted = result.tokens.image(image).iter().filter(|&&id| id == MASK);
                    assert_eq!(counted.count(), masked, "{what}");
                }
                assert_eq!(result.predicted.count(MASK), 0, "{what}: the preview has holes");
                (before, masked_before) = (result.tokens, result.masked);
            }
            assert_eq!(before.count(MASK), 0, "{batch} of {size}, {steps} steps: unfinished");
        }
    }
}

#[test]
fn without_a_hold_strict_is_parity() {
    for (batch, height, width) in GRIDS {
        let size = GridSize::new(height, width);
        for (schedule, steps) in [
            (MaskingSchedule::Cosine, 6),
            (MaskingSchedule::Linear, 5),
            (MaskingSchedule::Cosine, 40),
        ] {
            let results = |scheduler: &dyn UnmaskScheduler| {
                let canvas = TokenGrid::filled(batch, size, MASK);
                Run { scheduler, seed: 5, canvas, reference: None, hold: &|_| None }.results(steps)
            };
            let strict = results(&Strict::new(schedule, Temperature::default()));
            let parity = results(&Parity::new(schedule, Temperature::default()));
            assert_eq!(strict, parity, "{batch} of {size}, {schedule:?}, {steps} steps");
        }
    }
}

#[test]
fn the_free_tokens_follow_the_schedule_of_a_canvas_of_their_own() {
    // 64 of 256 tokens are free: their counts are those of a canvas of 64 tokens, give or take
    // the one that rounding the product of two shares can cost.
    let (size, steps) = (GridSize::new(16, 16), 8);
    let held = (0..256).map(|i| i % 4 != 0).collect();
    let hold = HoldMask::new(1, size, held).unwrap();
    let small = Strict::default()
        .plan(&ScheduleRequest { steps, starting_mask_ratio: 1.0 })
        .unwrap()
        .mask_ratios;
    let run = Run {
        scheduler: &Strict::default(),
        seed: 9,
        canvas: TokenGrid::filled(1, size, MASK),
        reference: Some(reference(1, size)),
        hold: &|_| Some(hold.clone()),
    };
    for (step, result) in run.results(steps).into_iter().enumerate() {
        let expected = 64.0 * small[step];
        let off = expected - result.masked[0] as f32;
        assert!((0.0..=2.0).contains(&off), "step {step}: {} of {expected}", result.masked[0]);
    }
}

#[test]
fn an_image_with_nothing_masked() {
    // The second image is finished already. Strict leaves it alone, Parity punches a hole.
    let size = GridSize::new(4, 4);
    let mut canvas = TokenGrid::filled(2, size, 0);
    canvas.ids_mut()[..16].fill(MASK);
    for (scheduler, expected) in
        [(&Strict::default() as &dyn UnmaskScheduler, 0), (&Parity::default(), 1)]
    {
        let run =
            Run { scheduler, seed: 2, canvas: canvas.clone(), reference: None, hold: &|_| None };
        let results = run.results(4);
        assert_eq!(results[0].masked[1], expected);
        assert_eq!(results[3].masked, [0, 0]);
    }
}

#[test]
fn parity_masks_held_tokens_again() {
    // The reference is a code that the model finds all but impossible.
    let (size, batch) = (GridSize::new(8, 8), 1);
    let n = size.len();
    let row: Vec<f32> = (0..CODES).map(|code| if code == 3 { -30.0 } else { 0.0 }).collect();
    let logits = Tensor::from_data(TensorData::new(row.repeat(n), [1, n, CODES]), &Device::flex());
    let held = HoldMask::new(batch, size, (0..n).map(|i| i < 16).collect()).unwrap();
    for (scheduler, expected) in
        [(&Strict::default() as &dyn UnmaskScheduler, 0), (&Parity::default(), 16)]
    {
        let request = ScheduleRequest { steps: 4, starting_mask_ratio: 1.0 };
        let schedule = scheduler.plan(&request).unwrap();
        let noise = NoiseRequest { first_image: 0, batch, size, step: 0 };
        let result = scheduler.step(StepState {
            schedule: &schedule,
            step: 0,
            logits: logits.clone(),
            tokens: &TokenGrid::filled(batch, size, MASK),
            reference: Some(&TokenGrid::filled(batch, size, 3)),
            hold: Some(&held),
            mask_token: MASK,
            noise: ChaChaNoise::new(1).step_noise(&noise).unwrap(),
        });
        let result = result.unwrap();
        let masked_again = result.tokens.ids()[..16].iter().filter(|&&id| id == MASK).count();
        assert_eq!(masked_again, expected);
        assert!(result.predicted.ids()[..16].iter().all(|&id| id == 3));
    }
}

/// A state that works, for tests that spoil one part of it.
struct Parts {
    schedule: Schedule,
    tokens: TokenGrid,
    reference: Option<TokenGrid>,
    hold: Option<HoldMask>,
    logits: Tensor<3>,
    step: usize,
    noise: StepNoise,
}

impl Parts {
    fn new() -> Self {
        let size = GridSize::new(2, 3);
        let request = ScheduleRequest { steps: 3, starting_mask_ratio: 1.0 };
        let noise = NoiseRequest { first_image: 0, batch: 2, size, step: 0 };
        Self {
            schedule: Strict::default().plan(&request).unwrap(),
            tokens: TokenGrid::filled(2, size, MASK),
            reference: Some(reference(2, size)),
            hold: Some(HoldMask::new(2, size, [true, false].repeat(6)).unwrap()),
            logits: logits(1, 2, 6),
            step: 0,
            noise: ChaChaNoise::new(1).step_noise(&noise).unwrap(),
        }
    }

    fn step(&self, scheduler: &dyn UnmaskScheduler) -> Result<StepResult> {
        scheduler.step(StepState {
            schedule: &self.schedule,
            step: self.step,
            logits: self.logits.clone(),
            tokens: &self.tokens,
            reference: self.reference.as_ref(),
            hold: self.hold.as_ref(),
            mask_token: MASK,
            noise: self.noise.clone(),
        })
    }
}

#[test]
fn replaying_what_was_drawn_changes_nothing() {
    for scheduler in [&Strict::default() as &dyn UnmaskScheduler, &Parity::default()] {
        for dtype in [FloatDType::F32, FloatDType::F16, FloatDType::BF16] {
            for step in 0..3 {
                let logits = logits(1, 2, 6).cast(dtype);
                let mut parts = Parts { step, logits, ..Parts::new() };
                let drawn = parts.step(scheduler).unwrap();
                parts.noise.draw = TokenDraw::Tokens(drawn.predicted.clone());
                assert_eq!(parts.step(scheduler).unwrap(), drawn, "{dtype:?}, step {step}");
            }
        }
    }
}

#[test]
fn every_code_comes_as_often_as_its_probability() {
    // 4096 positions share one distribution; the draws' Pearson statistic has 23 degrees of
    // freedom, and 60 is passed once in 25 000 seeds.
    let (size, n) = (GridSize::new(64, 64), 4096);
    let row: Vec<f32> = (0..CODES).map(|code| (code % 5) as f32 * 0.6).collect();
    let total: f32 = row.iter().map(|logit| logit.exp()).sum();
    let logits = Tensor::from_data(TensorData::new(row.repeat(n), [1, n, CODES]), &Device::flex());
    let schedule =
        Strict::default().plan(&ScheduleRequest { steps: 1, starting_mask_ratio: 1.0 }).unwrap();
    for seed in 0..4 {
        let noise = NoiseRequest { first_image: 0, batch: 1, size, step: 0 };
        let result = Strict::default().step(StepState {
            schedule: &schedule,
            step: 0,
            logits: logits.clone(),
            tokens: &TokenGrid::filled(1, size, MASK),
            reference: None,
            hold: None,
            mask_token: MASK,
            noise: ChaChaNoise::new(seed).step_noise(&noise).unwrap(),
        });
        let result = result.unwrap();
        let pearson: f32 = (0..CODES)
            .map(|code| {
                let expected = row[code].exp() / total * n as f32;
                (result.tokens.count(code as u32) as f32 - expected).powi(2) / expected
            })
            .sum();
        assert!(pearson < 60.0, "seed {seed}: {pearson}");
    }
}

/// Banned codes have a logit of negative infinity.
#[test]
fn codes_of_negative_infinity_are_never_drawn() {
    let all = logits(1, 2, 6);
    let banned = all.clone().lower_scalar(2.0);
    let parts = Parts {
        logits: all.mask_fill(banned.clone(), f32::NEG_INFINITY),
        reference: None,
        hold: None,
        ..Parts::new()
    };
    let banned = banned.int().try_into_vec_as::<i64>().unwrap();
    for scheduler in [&Strict::default() as &dyn UnmaskScheduler, &Parity::default()] {
        let result = parts.step(scheduler).unwrap();
        for (position, &id) in result.predicted.ids().iter().enumerate() {
            assert_eq!(banned[position * CODES + id as usize], 0, "{position}");
        }
    }
}

#[test]
fn grids_of_one_token_one_row_and_one_column_are_unmasked() {
    for (height, width) in [(1, 1), (1, 7), (7, 1)] {
        let size = GridSize::new(height, width);
        for scheduler in [&Strict::default() as &dyn UnmaskScheduler, &Parity::default()] {
            for steps in [1, 2, 9] {
                let canvas = TokenGrid::filled(1, size, MASK);
                let run = Run { scheduler, seed: 3, canvas, reference: None, hold: &|_| None };
                let last = run.results(steps).pop().unwrap();
                assert_eq!(last.tokens.count(MASK), 0, "{size}, {steps} steps");
            }
        }
    }
}

#[test]
fn what_does_not_belong_together_is_an_error() {
    let other = GridSize::new(3, 2);
    type Spoil<'a> = &'a dyn Fn(&mut Parts);
    let cases: [(&str, Spoil<'_>); 18] = [
        ("step", &|p| p.step = 3),
        ("temperatures", &|p| p.schedule.temperatures.truncate(2)),
        ("mask ratios", &|p| p.schedule.mask_ratios.truncate(2)),
        ("logits", &|p| p.logits = logits(1, 1, 6)),
        ("logits", &|p| p.logits = logits(1, 2, 7)),
        ("logits", &|p| {
            p.logits = p.logits.clone().mask_fill(p.logits.clone().greater_scalar(3.0), f32::NAN)
        }),
        ("logits", &|p| {
            p.logits =
                p.logits.clone().mask_fill(p.logits.clone().greater_scalar(3.0), f32::INFINITY)
        }),
        ("logits", &|p| p.logits = p.logits.ones_like() * f32::NEG_INFINITY),
        ("logits", &|p| p.logits = p.logits.ones_like() * f32::NAN),
        ("hold", &|p| p.reference = None),
        ("hold mask", &|p| p.hold = Some(HoldMask::none(2, other))),
        ("reference", &|p| p.reference = Some(reference(2, other))),
        ("token", &|p| p.reference = Some(TokenGrid::filled(2, GridSize::new(2, 3), MASK))),
        ("draw", &|p| p.noise.draw = TokenDraw::Uniforms(vec![0.5; 11])),
        ("draw", &|p| p.noise.draw = TokenDraw::Uniforms(vec![1.0; 12])),
        ("draw", &|p| p.noise.draw = TokenDraw::Uniforms(vec![f32::NAN; 12])),
        ("confidence", &|p| p.noise.confidence[4] = f32::NAN),
        ("confidence", &|p| p.noise.confidence[4] = f32::INFINITY),
    ];
    for (named, spoil) in cases {
        for scheduler in [&Strict::default() as &dyn UnmaskScheduler, &Parity::default()] {
            let mut parts = Parts::new();
            spoil(&mut parts);
            let message = parts.step(scheduler).unwrap_err().to_string();
            assert!(message.contains(named), "{named}: {message}");
        }
    }
    assert!(Parts::new().step(&Strict::default()).is_ok());
}
