use burn::tensor::Tensor;

use crate::{HoldMask, Result, StepNoise, TokenGrid};

/// The parameters of a sampling run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleRequest {
    /// Number of steps, 1 or more.
    pub steps: usize,
    /// The fraction of the canvas that is masked at the start, above 0 up to 1; less than 1 for
    /// inpainting.
    pub starting_mask_ratio: f32,
}

/// The timestep, mask ratio and temperature of each step of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The model's timestep input at each step.
    pub timesteps: Vec<f32>,
    /// Fraction of the canvas that is still masked after each step; 0 after the last.
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

/// The input of a step.
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
    /// The photo's tokens; required if any token is held.
    pub reference: Option<&'a TokenGrid>,
    /// The tokens to hold.
    pub hold: Option<&'a HoldMask>,
    /// The id of positions that are not decided yet.
    pub mask_token: u32,
    /// The noise of this step.
    pub noise: StepNoise,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// The canvas after the step; tokens with low confidence are masked again.
    pub tokens: TokenGrid,
    /// The prediction for the whole canvas, with known and held tokens in place and without mask
    /// tokens, so that it can be decoded as a preview.
    pub predicted: TokenGrid,
    /// Number of remaining masked tokens, per image.
    pub masked: Vec<usize>,
    /// Number of confidences closer than 1e-4 to the cut, over the batch: tokens that rounding on
    /// another device could decide differently.
    pub ties: usize,
}

/// Decides which tokens are unmasked at which step.
pub trait UnmaskScheduler: Send + Sync {
    /// Plans a run.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for 0 steps or a ratio outside (0, 1].
    fn plan(&self, request: &ScheduleRequest) -> Result<Schedule>;

    /// One step, a pure function of the state.
    ///
    /// # Shapes
    /// - logits of `state`: `[B, N, V]`
    /// - grids of `state` and result: `[B, H, W]` with `H * W = N`
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the inputs don't match each other,
    /// [`Error::Value`](crate::Error::Value) for logits that are NaN or a hold without reference.
    fn step(&self, state: StepState<'_>) -> Result<StepResult>;
}
