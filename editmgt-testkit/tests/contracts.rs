//! Our own stages keep the contracts, and stages that break a rule are found.

use burn::tensor::{Device, Tensor};
use editmgt_core::{
    AttentionConsolidator, AttentionMaps, ChaChaNoise, CodecSpec, Error, GridSize, HoldMask,
    HoldRequest, NoiseRequest, NoiseSource, RegionHold, Result, Schedule, ScheduleRequest,
    ScoreMap, StepNoise, StepResult, StepState, TokenDraw, TokenGrid, UnmaskScheduler, VqCodec,
};
use editmgt_sampler::{
    Consolidator, Filter, HoldAuto, HoldBudget, HoldOff, HoldThreshold, Parity, Smoothing, Strict,
    Temperature,
};
use editmgt_testkit::fakes::{ColourCodec, CopyTransformer, WordEncoder};
use editmgt_testkit::{
    SchedulerRules, assert_codec_contract, assert_consolidator_contract, assert_hold_contract,
    assert_noise_contract, assert_scheduler_contract, assert_text_encoder_contract,
    assert_transformer_contract, check_codec, check_consolidator, check_hold, check_noise,
    check_scheduler,
};

#[test]
fn own_stages_keep_the_contracts() {
    let device = Device::flex();
    let temperature = Temperature::Range(2.0, 0.0);
    assert_scheduler_contract(&Strict::new(Default::default(), temperature), &device);
    let rules = SchedulerRules::default().held_tokens_stay(false);
    check_scheduler(&Parity::new(Default::default(), temperature), rules, &device).unwrap();
    assert_noise_contract(&ChaChaNoise::new(7));
    let gaussian = Smoothing::new(Filter::Gaussian, 0.5).unwrap();
    for smoothing in [None, Some(Smoothing::default()), Some(gaussian)] {
        assert_consolidator_contract(&Consolidator::default().with_smoothing(smoothing));
    }
    assert_consolidator_contract(&Consolidator::parity());
    let holds: [&dyn RegionHold; 4] =
        [&HoldOff, &HoldAuto, &HoldThreshold::new(0.3).unwrap(), &HoldBudget::new(0.25).unwrap()];
    holds.into_iter().for_each(assert_hold_contract);
}

#[test]
fn fakes_keep_the_contracts() {
    let device = Device::flex();
    assert_codec_contract(&ColourCodec::new(&device), &device);
    assert_text_encoder_contract(&WordEncoder::new(&device), "Make the red car blue", "red car");
    assert_transformer_contract(&CopyTransformer::new(&device), &device);
}

/// A scheduler that fixes nothing before the last step, and then forgets one token.
struct Forgetful(Strict);

impl UnmaskScheduler for Forgetful {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule> {
        self.0.plan(request)
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult> {
        let mask_token = state.mask_token;
        let mut result = self.0.step(state)?;
        result.tokens.ids_mut()[0] = mask_token;
        Ok(result)
    }
}

/// Noise that depends on how often it was called.
struct Consumed(std::sync::atomic::AtomicUsize);

impl NoiseSource for Consumed {
    fn step_noise(&self, request: &NoiseRequest) -> Result<StepNoise> {
        let calls = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ChaChaNoise::new(calls as u64).step_noise(request)
    }
}

/// Draws 1, which is outside [0, 1).
struct Ones;

impl NoiseSource for Ones {
    fn step_noise(&self, request: &NoiseRequest) -> Result<StepNoise> {
        let count = request.batch * request.size.len();
        Ok(StepNoise { draw: TokenDraw::Uniforms(vec![1.0; count]), confidence: vec![0.0; count] })
    }
}

/// Judges every image by the first.
struct FirstImage;

impl RegionHold for FirstImage {
    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask> {
        let scores = request.scores;
        let first = scores.image(0).iter().map(|&score| score < 0.5);
        let held = first.collect::<Vec<_>>().repeat(scores.batch());
        HoldMask::new(scores.batch(), scores.size(), held)
    }
}

/// Gives NaN back.
struct Lenient;

impl AttentionConsolidator for Lenient {
    fn consolidate(&self, maps: &AttentionMaps, target: GridSize) -> Result<ScoreMap> {
        if maps.blocks().is_empty() || maps.size().is_empty() {
            return Err(Error::shape("attention maps", "some", "none"));
        }
        let mean = |item| maps.map(0, item).iter().sum::<f32>() / maps.size().len() as f32;
        let values = (0..maps.items()).flat_map(|item| vec![mean(item); target.len()]).collect();
        ScoreMap::new(maps.items(), target, values)
    }
}

/// Decodes to values above 1.
struct Bright(ColourCodec);

impl VqCodec for Bright {
    fn spec(&self) -> &CodecSpec {
        self.0.spec()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        self.0.encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        Ok(self.0.decode(tokens)? + 0.5)
    }
}

#[test]
fn a_broken_rule_is_named() {
    let device = Device::flex();
    let forgetful = Forgetful(Strict::new(Default::default(), Temperature::Range(0.0, 0.0)));
    let scheduler = check_scheduler(&forgetful, SchedulerRules::default(), &device);
    for (violation, rule) in [
        (scheduler.unwrap_err(), "masked tokens are counted"),
        (check_noise(&Consumed(0.into())).unwrap_err(), "the same request gives the same draws"),
        (check_noise(&Ones).unwrap_err(), "uniforms of the draw lie in [0, 1)"),
        (check_hold(&FirstImage).unwrap_err(), "images are judged by themselves"),
        (check_consolidator(&Lenient).unwrap_err(), "NaN attention is refused as a value"),
        (
            check_codec(&Bright(ColourCodec::new(&device)), &device).unwrap_err(),
            "pixels lie in 0..=1",
        ),
    ] {
        assert_eq!(violation.rule, rule, "{violation}");
    }
}
