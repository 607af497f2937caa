use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{
    ChaChaNoise, GridSize, HoldMask, NoiseRequest, NoiseSource, Schedule, ScheduleRequest,
    StepResult, StepState, TokenGrid, UnmaskScheduler,
};

use super::{Case, Checked, ContractViolation, is_value, uniforms};

/// Codebook of the cases; the mask token follows it.
const CODES: usize = 11;
const MASK: u32 = CODES as u32;

/// What a scheduler promises beyond the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerRules {
    /// A held token keeps the photo's code from then on, and the number of masked tokens never
    /// grows. The official step does not promise this: it masks held tokens again.
    pub held_tokens_stay: bool,
}

impl Default for SchedulerRules {
    /// All rules.
    fn default() -> Self {
        Self { held_tokens_stay: true }
    }
}

impl SchedulerRules {
    /// Whether held tokens stay held.
    #[must_use]
    pub fn held_tokens_stay(mut self, held_tokens_stay: bool) -> Self {
        self.held_tokens_stay = held_tokens_stay;
        self
    }
}

/// Panics with the broken rule: see [`check_scheduler`], with all rules.
///
/// # Panics
/// When a rule is broken.
#[track_caller]
pub fn assert_scheduler_contract(scheduler: &dyn UnmaskScheduler, device: &Device) {
    if let Err(violation) = check_scheduler(scheduler, SchedulerRules::default(), device) {
        panic!("{violation}");
    }
}

/// Checks an [`UnmaskScheduler`] by whole runs over reproducible logits.
///
/// - A plan has equally many timesteps, mask ratios and temperatures; ratios never grow and end at
///   0; 0 steps and ratios outside (0, 1] are refused.
/// - After a step every id is a code or the mask token, and the prediction holds no mask token.
/// - Tokens that are known before the run stay, unless they are held.
/// - The number of masked tokens is reported per image, never grows, and ends at 0.
/// - Held tokens take the photo's code and keep it.
/// - The same state gives the same result, and an image the same one alone and in a batch.
/// - A hold without the photo's tokens is refused.
///
/// # Errors
/// The first broken rule.
pub fn check_scheduler(
    scheduler: &dyn UnmaskScheduler,
    rules: SchedulerRules,
    device: &Device,
) -> Checked {
    check_bad_plans(scheduler)?;
    for steps in [1, 2, 5, 9] {
        for (batch, size) in [(1, GridSize::new(4, 4)), (2, GridSize::new(3, 5))] {
            for known in [false, true] {
                for held in [false, true] {
                    let name = format!(
                        "{steps} steps, {batch} images of {size}, {} known, {} held",
                        if known { "half" } else { "none" },
                        if held { "a third" } else { "none" },
                    );
                    let run =
                        Run { case: Case(&name), scheduler, rules, device, steps, batch, size };
                    run.check(known, held)?;
                }
            }
        }
    }
    Ok(())
}

fn check_bad_plans(scheduler: &dyn UnmaskScheduler) -> Checked {
    for (steps, starting_mask_ratio) in [(0, 1.0), (4, 0.0), (4, 1.5), (4, -0.5), (4, f32::NAN)] {
        let name = format!("{steps} steps, starting ratio {starting_mask_ratio}");
        let plan = scheduler.plan(&ScheduleRequest { steps, starting_mask_ratio });
        Case(&name).refuses("an invalid plan is refused as a value", plan, is_value)?;
    }
    Ok(())
}

/// One run over the grid.
struct Run<'a> {
    case: Case<'a>,
    scheduler: &'a dyn UnmaskScheduler,
    rules: SchedulerRules,
    device: &'a Device,
    steps: usize,
    batch: usize,
    size: GridSize,
}

impl Run<'_> {
    fn check(&self, known: bool, held: bool) -> Checked {
        let (case, n) = (self.case, self.batch * self.size.len());
        let reference = self.grid((0..n).map(|i| (i % CODES) as u32).collect())?;
        let canvas: Vec<u32> =
            (0..n).map(|i| if known && i % 2 == 0 { (i % CODES) as u32 } else { MASK }).collect();
        let mut tokens = self.grid(canvas.clone())?;
        let hold =
            HoldMask::new(self.batch, self.size, (0..n).map(|i| held && i % 3 == 1).collect());
        let hold = case.succeeds("a hold mask of this extent is valid", hold)?;
        let plan = self.plan(tokens.count(MASK) as f32 / n as f32)?;

        let mut masked_before = self.masked(&tokens);
        for step in 0..plan.len() {
            let state =
                self.state(&plan, step, &tokens, Some(&reference), held.then_some(&hold))?;
            let result = self.step(state.clone())?;
            let again = self.step(state.clone())?;
            case.require("the same state gives the same result", result == again, step)?;
            self.check_images(&state, &result)?;

            let valid = result.tokens.ids().iter().all(|&id| id <= MASK);
            case.require("tokens are codes or the mask token", valid, result.tokens.ids())?;
            let decided = result.predicted.ids().iter().all(|&id| id < MASK);
            case.require("the prediction has no mask token", decided, result.predicted.ids())?;
            let masked = self.masked(&result.tokens);
            case.require("masked tokens are counted", result.masked == masked, &result.masked)?;
            if self.rules.held_tokens_stay || !held {
                let fewer = masked.iter().zip(&masked_before).all(|(now, before)| now <= before);
                case.require("the number of masked tokens never grows", fewer, &masked)?;
            }
            for (i, &id) in result.tokens.ids().iter().enumerate() {
                let is_held = hold.held()[i];
                if is_held && self.rules.held_tokens_stay {
                    case.require("a held token is the photo's", id == reference.ids()[i], i)?;
                } else if canvas[i] != MASK && !is_held {
                    case.require("a token known from the start stays", id == canvas[i], i)?;
                }
            }
            tokens = result.tokens;
            masked_before = masked;
        }
        case.require("no mask token is left", tokens.count(MASK) == 0, tokens.ids())?;
        if held {
            let start = TokenGrid::filled(self.batch, self.size, MASK);
            let state = self.state(&plan, 0, &start, None, Some(&hold))?;
            let result = self.scheduler.step(state);
            case.refuses("a hold without the photo's tokens is refused", result, is_value)?;
        }
        Ok(())
    }

    fn plan(&self, starting_mask_ratio: f32) -> Result<Schedule, ContractViolation> {
        let request = ScheduleRequest { steps: self.steps, starting_mask_ratio };
        let plan = self.case.succeeds("a valid plan is made", self.scheduler.plan(&request))?;
        let lengths = [plan.timesteps.len(), plan.mask_ratios.len(), plan.temperatures.len()];
        self.case.require(
            "the lists of a plan are equally long",
            lengths == [plan.len(); 3],
            lengths,
        )?;
        self.case.require("a plan has a step", !plan.is_empty(), lengths)?;
        let ratios = &plan.mask_ratios;
        let fall = ratios.windows(2).all(|pair| pair[1] <= pair[0]);
        let inside = ratios.iter().all(|ratio| (0.0..=1.0).contains(ratio));
        self.case.require("mask ratios lie in 0..=1 and never grow", fall && inside, ratios)?;
        self.case.require("the last mask ratio is 0", ratios.last() == Some(&0.0), ratios)?;
        Ok(plan)
    }

    /// An image gives the same result by itself as in the batch.
    fn check_images(&self, state: &StepState<'_>, whole: &StepResult) -> Checked {
        let n = self.size.len();
        for image in (0..self.batch).filter(|_| self.batch > 1) {
            let one = |grid: &TokenGrid| {
                let ids = grid.image(image).to_vec();
                self.case.succeeds("one image is a grid", TokenGrid::new(1, self.size, ids))
            };
            let tokens = one(state.tokens)?;
            let reference = state.reference.map(one).transpose()?;
            let hold = state.hold.map(|hold| {
                let held = hold.held()[image * n..][..n].to_vec();
                self.case.succeeds("one image is a mask", HoldMask::new(1, self.size, held))
            });
            let hold = hold.transpose()?;
            let single = self.step(StepState {
                schedule: state.schedule,
                step: state.step,
                logits: state.logits.clone().narrow(0, image, 1),
                tokens: &tokens,
                reference: reference.as_ref(),
                hold: hold.as_ref(),
                mask_token: MASK,
                noise: self.noise(image, 1, state.step)?,
            })?;
            let same = single.tokens.ids() == whole.tokens.image(image);
            self.case.require("an image gives the same alone and in a batch", same, image)?;
        }
        Ok(())
    }

    fn step(&self, state: StepState<'_>) -> Result<StepResult, ContractViolation> {
        self.case.succeeds("a valid step is made", self.scheduler.step(state))
    }

    fn state<'a>(
        &self,
        schedule: &'a Schedule,
        step: usize,
        tokens: &'a TokenGrid,
        reference: Option<&'a TokenGrid>,
        hold: Option<&'a HoldMask>,
    ) -> Result<StepState<'a>, ContractViolation> {
        let count = self.batch * self.size.len() * CODES;
        let logits = uniforms(step as u64, count).into_iter().map(|u| 8.0 * u - 4.0).collect();
        let logits = TensorData::new(logits, [self.batch, self.size.len(), CODES]);
        Ok(StepState {
            schedule,
            step,
            logits: Tensor::from_data(logits, self.device),
            tokens,
            reference,
            hold,
            mask_token: MASK,
            noise: self.noise(0, self.batch, step)?,
        })
    }

    fn noise(
        &self,
        first_image: usize,
        batch: usize,
        step: usize,
    ) -> Result<editmgt_core::StepNoise, ContractViolation> {
        let request = NoiseRequest { first_image, batch, size: self.size, step };
        self.case.succeeds("noise is drawn", ChaChaNoise::new(1).step_noise(&request))
    }

    fn grid(&self, ids: Vec<u32>) -> Result<TokenGrid, ContractViolation> {
        self.case
            .succeeds("a grid of this extent is valid", TokenGrid::new(self.batch, self.size, ids))
    }

    fn masked(&self, tokens: &TokenGrid) -> Vec<usize> {
        let count = |image| tokens.image(image).iter().filter(|&&id| id == MASK).count();
        (0..self.batch).map(count).collect()
    }
}
