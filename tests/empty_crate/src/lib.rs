//! A scheduler in a crate that depends on `editmgt` only.
#![forbid(unsafe_code)]

use editmgt::{
    Error, Schedule, ScheduleRequest, StepResult, StepState, TokenGrid, UnmaskScheduler,
};

/// Decides every token in the first step, by the most likely code.
pub struct AllAtOnce;

impl UnmaskScheduler for AllAtOnce {
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule, Error> {
        let steps = request.steps;
        // The embedded model's timesteps are the fractions of the canvas that are masked.
        let mut timesteps = vec![0.0; steps];
        timesteps[0] = request.starting_mask_ratio;
        Ok(Schedule { timesteps, mask_ratios: vec![0.0; steps], temperatures: vec![0.0; steps] })
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult, Error> {
        let size = state.tokens.size();
        let best = state.logits.argmax(2).reshape([state.tokens.batch(), size.height, size.width]);
        let mut tokens = TokenGrid::from_tensor(best)?;
        for (i, token) in tokens.ids_mut().iter_mut().enumerate() {
            let known = state.tokens.ids()[i];
            if state.hold.is_some_and(|hold| hold.held()[i]) {
                let photo = state.reference;
                *token = photo.ok_or_else(|| Error::value("hold", "a photo", "none"))?.ids()[i];
            } else if known != state.mask_token {
                *token = known;
            }
        }
        let masked = vec![0; tokens.batch()];
        Ok(StepResult { predicted: tokens.clone(), tokens, masked, ties: 0 })
    }
}
