use burn::tensor::Tensor;

use crate::{HoldMask, Result, StepNoise, TokenGrid};

/// What a sampling run looks like before its first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleRequest {
    /// Number of steps, 1 or more.
    pub steps: usize,
    /// The share of the canvas that is masked at the start, above 0 up to 1: less than 1 for
    /// inpainting.
    pub starting_mask_ratio: f32,
}

/// A planned run: what to pass the model at each step, and how much is to stay masked after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Timestep of each step, as the model is to see it.
    pub timesteps: Vec<f32>,
    /// Share of the canvas that is still masked after each step; 0 after the last.
    pub mask_ratios: Vec<f32>,
    /// Weight of the Gumbel noise in the confidence of each step.
    pub temperatures: Vec<f32>,
}

impl Schedule {
    /// Number of steps.
    pub fn len(&self) -> usize {
        self.timesteps.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.timesteps.is_empty()
    }
}

/// Everything a step looks at.
#[derive(Debug, Clone)]
pub struct StepState<'a> {
    /// The plan.
    pub schedule: &'a Schedule,
    /// Index of this step, 0 is the first.
    pub step: usize,
    /// `[B, N, V]`, guidance already applied.
    pub logits: Tensor<3>,
    /// The canvas before the step.
    pub tokens: &'a TokenGrid,
    /// The photo's tokens; needed when something is held.
    pub reference: Option<&'a TokenGrid>,
    /// The tokens to hold.
    pub hold: Option<&'a HoldMask>,
    /// The id that stands for "not decided yet".
    pub mask_token: u32,
    /// The draws of this step.
    pub noise: StepNoise,
}

/// What a step gives.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// The canvas after the step; what was not confident enough is masked again.
    pub tokens: TokenGrid,
    /// The model's guess for the whole canvas, known and held tokens in place: no mask token in
    /// it, so it can be decoded as a preview.
    pub predicted: TokenGrid,
    /// Masked tokens left, per image.
    pub masked: Vec<usize>,
    /// Confidences closer than 1e-4 to the cut, over the batch: tokens that rounding on another
    /// device could decide the other way.
    pub ties: usize,
}

/// Decides how many tokens are fixed when, and which.
pub trait UnmaskScheduler: Send + Sync {
    /// Plans a run.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for 0 steps or a ratio outside (0, 1].
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule>;

    /// One step. Pure: the same state gives the same result.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the parts don't belong together,
    /// [`Error::Value`](crate::Error::Value) when logits are not numbers or a hold has no
    /// reference.
    fn step(&self, state: StepState<'_>) -> Result<StepResult>;
}
