//! One step of the sampling loop: draw a code for each masked position, keep the most confident,
//! mask the rest again.
//!
//! Source: the official scheduler; Chang et al., MaskGIT, section 3.2.

mod check;
mod confidence;
mod draw;

use editmgt_core::{
    Result, Schedule, ScheduleRequest, StepResult, StepState, TokenDraw, TokenGrid, UnmaskScheduler,
};

use crate::schedule::{MaskingSchedule, Temperature, Timesteps, mask_len, plan};
use check::check;
use confidence::{Cut, confidence};
use draw::{Code, Pick, pick};

/// The official step, bug for bug.
///
/// A held token becomes the photo's own, but keeps the probability that the model gives it: where
/// that is low it is masked again, the model sees a hole there, and another token goes free in
/// its place. An image with nothing masked gets one of its known tokens masked.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parity(Plan);

/// The step with region hold done right; the same as [`Parity`] while nothing is held.
///
/// A held token becomes the photo's own at once and for good: from then on it is as known as any
/// other, and the schedule counts only the tokens that are still free. The number of masked
/// tokens never grows, and an image with nothing masked stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Strict(Plan);

/// How much each step masks, with how much noise, and the timesteps that the model gets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Plan {
    masking_schedule: MaskingSchedule,
    temperature: Temperature,
    timesteps: Timesteps,
}

impl Plan {
    fn of(self, request: &ScheduleRequest) -> Result<Schedule> {
        plan(self.masking_schedule, self.temperature, self.timesteps, request)
    }
}

impl Parity {
    /// A scheduler with this schedule and this noise.
    pub fn new(masking_schedule: MaskingSchedule, temperature: Temperature) -> Self {
        Self(Plan { masking_schedule, temperature, timesteps: Timesteps::default() })
    }

    /// The same with another timestep convention.
    #[must_use]
    pub fn with_timesteps(self, timesteps: Timesteps) -> Self {
        Self(Plan { timesteps, ..self.0 })
    }
}

impl Strict {
    /// A scheduler with this schedule and this noise.
    pub fn new(masking_schedule: MaskingSchedule, temperature: Temperature) -> Self {
        Self(Plan { masking_schedule, temperature, timesteps: Timesteps::default() })
    }

    /// The same with another timestep convention.
    #[must_use]
    pub fn with_timesteps(self, timesteps: Timesteps) -> Self {
        Self(Plan { timesteps, ..self.0 })
    }
}

impl UnmaskScheduler for Parity {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule> {
        self.0.of(request)
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult> {
        step(state, HeldTokens::AsConfidentAsTheModel)
    }
}

impl UnmaskScheduler for Strict {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule> {
        self.0.of(request)
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult> {
        step(state, HeldTokens::Known)
    }
}

/// What a masked token becomes when it is held: all that the two schedulers differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldTokens {
    AsConfidentAsTheModel,
    Known,
}

fn step(state: StepState<'_>, held_tokens: HeldTokens) -> Result<StepResult> {
    check(&state)?;
    let StepState { schedule, step, tokens, mask_token, .. } = state;
    let Prediction { tokens: predicted, probabilities, undecided } = predict(&state, held_tokens)?;
    let batch = tokens.batch();
    let mut result =
        StepResult { tokens: predicted.clone(), predicted, masked: vec![0; batch], ties: 0 };
    if step + 1 == schedule.len() {
        return Ok(result);
    }

    let n = tokens.size().len();
    let target = n as f32 * schedule.mask_ratios[step];
    for (image, masked) in result.masked.iter_mut().enumerate() {
        let positions = image * n..(image + 1) * n;
        let unknown = tokens.image(image).iter().filter(|&&id| id == mask_token).count();
        let (candidates, mask_len) = match held_tokens {
            HeldTokens::AsConfidentAsTheModel => (positions.collect(), mask_len(target, unknown)),
            HeldTokens::Known => {
                let free = undecided.iter().filter(|position| positions.contains(position));
                let free: Vec<usize> = free.copied().collect();
                let share = free.len() as f32 / planned(schedule, step, n, unknown) as f32;
                let mask_len = mask_len(target * share, free.len());
                (free, mask_len)
            }
        };
        let confidence = |&position: &usize| {
            let uniform = state.noise.confidence[position];
            confidence(probabilities[position], schedule.temperatures[step], uniform)
        };
        let confidences: Vec<f32> = candidates.iter().map(confidence).collect();
        let cut = Cut::new(&confidences, mask_len);
        for (position, confidence) in candidates.into_iter().zip(confidences) {
            if cut.masks(confidence) {
                result.tokens.ids_mut()[position] = mask_token;
                *masked += 1;
            }
        }
        result.ties += cut.ties;
    }
    Ok(result)
}

/// A canvas without holes, and how sure the model is of it.
struct Prediction {
    tokens: TokenGrid,
    /// Of each token, over the batch.
    probabilities: Vec<f32>,
    /// The positions that were open to the model, over the batch, ascending.
    undecided: Vec<usize>,
}

fn predict(state: &StepState<'_>, held_tokens: HeldTokens) -> Result<Prediction> {
    let ids = state.tokens.ids();
    let mut tokens = state.tokens.clone();
    let mut picks = Vec::new();
    for position in (0..ids.len()).filter(|&position| ids[position] == state.mask_token) {
        let code = match (held_as(state, position), held_tokens) {
            (Some(own), HeldTokens::Known) => {
                tokens.ids_mut()[position] = own;
                continue;
            }
            (Some(own), HeldTokens::AsConfidentAsTheModel) => Code::Given(own),
            (None, _) => match &state.noise.draw {
                TokenDraw::Uniforms(uniforms) => Code::Drawn(uniforms[position]),
                TokenDraw::Tokens(replay) => Code::Given(replay.ids()[position]),
            },
        };
        picks.push(Pick { position, code });
    }
    // What the official scheduler gives known tokens: more than noise takes away.
    let mut probabilities = vec![f32::MAX; ids.len()];
    for (pick, picked) in picks.iter().zip(pick(state.logits.clone(), &picks)?) {
        tokens.ids_mut()[pick.position] = picked.code;
        probabilities[pick.position] = picked.probability;
    }
    let undecided = picks.into_iter().map(|pick| pick.position).collect();
    Ok(Prediction { tokens, probabilities, undecided })
}

/// The photo's token, where `position` is held.
fn held_as(state: &StepState<'_>, position: usize) -> Option<u32> {
    let (hold, reference) = (state.hold?, state.reference?);
    hold.held()[position].then(|| reference.ids()[position])
}

/// How many of an image's `n` tokens would be masked before `step` if nothing had ever been held.
/// The share of them that is free is what holding left of the schedule.
///
/// At the first step that is what is masked, `unknown`. Later it is what [`mask_len`] makes of the
/// steps before, so that without a hold the share is 1 on the smallest grids, too.
fn planned(schedule: &Schedule, step: usize, n: usize, unknown: usize) -> usize {
    match step {
        0 => unknown.max(1),
        _ => schedule.mask_ratios[..step]
            .iter()
            .fold(n, |masked, ratio| mask_len(n as f32 * ratio, masked)),
    }
}

#[cfg(test)]
mod tests;
