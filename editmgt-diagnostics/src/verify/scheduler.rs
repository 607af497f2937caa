//! Replays recorded scheduler steps.

use burn::tensor::Device;
use editmgt_core::{
    AttentionConsolidator, AttentionMaps, GridSize, HoldMask, HoldRequest, RegionHold,
    ScheduleRequest, ScoreMap, StepNoise, StepState, TokenDraw, TokenGrid, UnmaskScheduler,
};
use editmgt_sampler::{
    Consolidator, HoldThreshold, MaskingSchedule, Parity, SchedulerConfig, Temperature, add_noise,
};
use serde::Deserialize;

use super::{Comparison, GoldenFolder, GoldenTensor, VerifyError};

/// `add_noise.t{timestep}.*` are recorded for a cosine run of this many steps.
const ADD_NOISE_STEPS: usize = 8;

/// One rounding of a linspace of numbers up to about 10.
const TEMPERATURES: f64 = 1e-6;

/// The tolerance of score maps.
const SCORES: f64 = 1e-5;

/// A run in the manifest.
#[derive(Debug, Deserialize)]
struct Run {
    num_inference_steps: usize,
    temperature: Temperature,
    masking_schedule: MaskingSchedule,
    starting_mask_ratio: f32,
    local_guidance: f32,
    mask_token_id: u32,
    steps: Vec<RunStep>,
}

#[derive(Debug, Deserialize)]
struct RunStep {
    step: usize,
    masked_out: Vec<usize>,
    stored: bool,
}

pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let mut comparisons = Vec::new();
    for name in folder.names() {
        if let Some(run) = name.strip_suffix(".timesteps") {
            comparisons.extend(replay(folder, run, device)?);
        }
    }
    comparisons.extend(noisy(folder)?);
    Ok(comparisons)
}

/// All stored steps of one run.
fn replay(
    folder: &GoldenFolder,
    name: &str,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let run: Run = folder.meta(&format!("/{name}"))?;
    let scheduler = Parity::new(run.masking_schedule, run.temperature);
    let schedule = scheduler.plan(&ScheduleRequest {
        steps: run.num_inference_steps,
        starting_mask_ratio: run.starting_mask_ratio,
    })?;

    let timesteps = format!("{name}.timesteps");
    let got: Vec<i64> = schedule.timesteps.iter().map(|&t| t as i64).collect();
    let expected = folder.ints(&timesteps)?.values;
    let temperatures = folder.floats(&format!("{name}.temperatures"))?;
    let mut comparisons = vec![
        Comparison::decisions(timesteps, &got, &expected),
        values(&schedule.temperatures, &temperatures, TEMPERATURES),
    ];

    let mut region = None;
    if run.local_guidance > 0.0 {
        let reference = folder.tokens(&format!("{name}.ref_latents"))?;
        let scores = scores(folder, name, reference.size())?;
        let upsampled = format!("{name}.local_scores_upsampled");
        if folder.has(&upsampled) {
            comparisons.push(values(scores.values(), &folder.floats(&upsampled)?, SCORES));
        }
        let hold =
            HoldThreshold::new(run.local_guidance)?.hold(&HoldRequest::first(&scores, None))?;
        region = Some((reference, hold));
    }

    for RunStep { step, masked_out, .. } in run.steps.iter().filter(|step| step.stored) {
        let replayed = Replay { folder, prefix: &format!("{name}.step{step}"), device };
        let state = StepState {
            schedule: &schedule,
            step: *step,
            logits: replayed.logits()?,
            tokens: &replayed.tokens("sample")?,
            reference: region.as_ref().map(|(reference, _)| reference),
            hold: region.as_ref().map(|(_, hold): &(TokenGrid, HoldMask)| hold),
            mask_token: run.mask_token_id,
            noise: replayed.noise()?,
        };
        comparisons.extend(replayed.compare(&scheduler, state, masked_out)?);
    }
    Ok(comparisons)
}

/// The recorded scores on the token grid.
fn scores(folder: &GoldenFolder, run: &str, tokens: GridSize) -> Result<ScoreMap, VerifyError> {
    let recorded = folder.floats(&format!("{run}.local_scores"))?;
    let side = recorded.values.len().isqrt();
    let maps = AttentionMaps::new(vec![0], 1, GridSize::new(side, side), recorded.values)?;
    let interpolate = Consolidator::parity().with_rescale(false).with_smoothing(None);
    Ok(interpolate.consolidate(&maps, tokens)?)
}

/// One recorded step.
struct Replay<'a> {
    folder: &'a GoldenFolder,
    prefix: &'a str,
    device: &'a Device,
}

impl Replay<'_> {
    fn name(&self, tensor: &str) -> String {
        format!("{}.{tensor}", self.prefix)
    }

    fn tokens(&self, tensor: &str) -> Result<TokenGrid, VerifyError> {
        self.folder.tokens(&self.name(tensor))
    }

    /// `[B, V, H, W]` as recorded to `[B, N, V]`.
    fn logits(&self) -> Result<burn::tensor::Tensor<3>, VerifyError> {
        let logits = self.folder.tensor::<4>(&self.name("logits"), self.device)?;
        let [batch, codes, height, width] = logits.dims();
        Ok(logits.reshape([batch, codes, height * width]).swap_dims(1, 2))
    }

    fn noise(&self) -> Result<StepNoise, VerifyError> {
        let uniforms = self.name("gumbel_uniform");
        let confidence = if self.folder.has(&uniforms) {
            self.folder.floats(&uniforms)?.values
        } else {
            Vec::new() // the last step draws none
        };
        Ok(StepNoise { draw: TokenDraw::Tokens(self.tokens("sampled_ids")?), confidence })
    }

    fn compare(
        &self,
        scheduler: &Parity,
        state: StepState<'_>,
        masked_out: &[usize],
    ) -> Result<Vec<Comparison>, VerifyError> {
        let mask_token = state.mask_token;
        let result = scheduler.step(state)?;
        let mut comparisons = Vec::new();
        for (tensor, got) in
            [("pred_original_sample", &result.predicted), ("prev_sample", &result.tokens)]
        {
            comparisons.push(Comparison::tokens(self.name(tensor), got, &self.tokens(tensor)?));
        }
        let masking = self.name("masking");
        if self.folder.has(&masking) {
            let got: Vec<i64> =
                result.tokens.ids().iter().map(|&id| i64::from(id == mask_token)).collect();
            let expected = self.folder.ints(&masking)?.values;
            comparisons.push(Comparison::decisions(masking, &got, &expected));
        }
        let count = self.name("masked_out");
        comparisons.push(Comparison::decisions(count, &result.masked, masked_out));
        Ok(comparisons)
    }
}

/// The forward process.
fn noisy(folder: &GoldenFolder) -> Result<Vec<Comparison>, VerifyError> {
    let path = folder.dir().join("scheduler_config.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|cause| VerifyError::Io { path: path.clone(), cause })?;
    let config = SchedulerConfig::from_json(&text).map_err(VerifyError::component)?;
    let mut comparisons = Vec::new();
    for name in folder.names() {
        let Some(run) = name.strip_prefix("add_noise.t").and_then(|n| n.strip_suffix(".out"))
        else {
            continue;
        };
        let timestep = run.parse::<usize>().ok().filter(|&t| t < ADD_NOISE_STEPS);
        let Some(timestep) = timestep else {
            return Err(VerifyError::golden(path, format!("{name}: no timestep in the name")));
        };
        let ratio =
            config.masking_schedule.mask_ratio(ADD_NOISE_STEPS - 1 - timestep, ADD_NOISE_STEPS);
        let uniforms = folder.floats(&format!("add_noise.t{timestep}.uniform"))?.values;
        let sample = folder.tokens("add_noise.sample")?;
        let got = add_noise(&sample, ratio, &uniforms, config.mask_token_id)?;
        comparisons.push(Comparison::tokens(name.clone(), &got, &folder.tokens(&name)?));
    }
    Ok(comparisons)
}

fn values(got: &[f32], expected: &GoldenTensor<f32>, tolerance: f64) -> Comparison {
    Comparison::values(&expected.name, got, &expected.values, tolerance)
}
