//! The loop of an edit (EditMGT, arXiv 2512.11715: region-hold sampling with multi-layer attention
//! consolidation, on the iterative decoding of MaskGIT, arXiv 2202.04200, section 3.2).
//!
//! ```text
//! input: text, negative, photo tokens R, canvas T (all MASK, or R with MASK where the user's mask is white),
//!        steps n, step plan, guidance scale g with its interval, strength γ, blocks L, keyword rows K, hold policy
//!
//! schedule = plan(n, masked share of T)                     MaskGIT 3.3: γ(r), cosine or linear     schedule
//! for i in 0..n:
//!     guided = g > 1 and (i + 0.5) / n inside the interval
//!     full   = the plan says so for i, or guided is not what it was at i - 1     Exact: every step    steps
//!     cells  = all if full, else those with a MASK, and those whose tokens are not what they were computed from
//!     if guided, not full, and guidance is reused:
//!         cond      = transformer(T, R, γ, text, t_i) of cells
//!         logits    = cond + (g − 1) · (cond − uncond of the last full step)     guidance
//!     else if guided:
//!         logits, A = transformer([T; T], [R; R], γ, [negative; text], t_i) of cells; A of the conditional half
//!         logits    = uncond + g · (cond − uncond)                               guidance
//!     else:
//!         logits, A = transformer(T, R, γ, text, t_i) of cells
//!
//!     if full:
//!         A = attention of rows K to the canvas, mean over heads, one map per block of L (empty without a need)
//!         scores = upsample(smooth(rescale(mean over L of A)))  multi-layer attention consolidation     localisation
//!         scores = several maps of an image as one              mean or maximum over keywords
//!         hold   = policy(scores, scores of step 0, user mask)  region hold: low scores stay the photo  hold
//!
//!     C      = one code per masked position ~ softmax(logits)                    MaskGIT 3.2: predict, sample
//!     C      = R where hold is set
//!     rank by log p(C) + temperature_i · Gumbel noise                            MaskGIT 3.2: confidence
//!     T      = C, with the least confident masked again; schedule_i says how many                   unmask
//!     emit T, logits, A, scores, hold; stop if the observer asks
//! output: T, to be decoded
//! ```
//!
//! A step is a pure function of the canvas, the scores of the first and of the last full step, and
//! noise that is addressed by step. The cache of partial steps is a function of the canvases since
//! the last full step, which [`LoopProgress`] has. So a stopped loop resumes to the same result.

mod input;
mod steps;

pub use input::{Localisation, LoopInput, LoopStages};

use burn::tensor::Tensor;
use editmgt_core::{
    AttentionMaps, AttentionRequest, CellScores, EditEvent, EditObserver, Error, Flow, GridSize,
    HoldMask, HoldRequest, ItemRows, LoopProgress, NoiseRequest, Result, Schedule, ScheduleRequest,
    ScoreMap, StepPlan, StepState, TextConditioning, TextRows, TokenGrid,
};

use crate::guidance::check_guidance_interval;
use steps::{CachedCanvas, Pass};

/// The result of one step.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoopStep {
    /// Steps completed, this one included.
    pub completed: usize,
    /// `[B, N, V]` logits after guidance; 0 for tokens that the step didn't compute.
    pub logits: Tensor<3>,
    /// The fraction of the cells that a partial step computed; `None` for a full step.
    pub partial: Option<f32>,
    /// The captured attention, if any.
    pub maps: Option<AttentionMaps>,
    /// The scores made from it; in a partial step, those of the last full step.
    pub scores: Option<ScoreMap>,
    /// The tokens held at this step.
    pub hold: Option<HoldMask>,
    /// The model's guess for the whole canvas.
    pub predicted: TokenGrid,
    /// Masked tokens left in the whole batch.
    pub masked: usize,
    /// See [`StepResult::ties`](editmgt_core::StepResult::ties).
    pub ties: usize,
}

/// An edit in progress. Advance it by hand with [`step`](Self::step), or to the end with
/// [`run`](Self::run).
pub struct EditLoop<'a> {
    stages: LoopStages<'a>,
    input: LoopInput,
    schedule: Schedule,
    /// Text features of the whole forward batch: `[negative…, text…]` when guided.
    text: TextConditioning,
    reference: Option<TokenGrid>,
    progress: LoopProgress,
    /// What partial steps need of the steps since the last full one.
    cached: Option<CachedCanvas>,
}

impl<'a> EditLoop<'a> {
    /// Plans a loop.
    ///
    /// # Errors
    /// [`Error::Shape`] when the parts of `input` don't fit together, [`Error::Value`] for an
    /// invalid guidance scale or interval, no steps, a missing negative prompt, or a canvas without
    /// mask tokens.
    pub fn new(stages: LoopStages<'a>, input: LoopInput) -> Result<Self> {
        let batch = input.canvas.batch();
        if !input.guidance_scale.is_finite() {
            return Err(Error::value("guidance scale", "a finite number", input.guidance_scale));
        }
        if input.text.batch() != batch {
            return Err(Error::shape("prompts", batch, input.text.batch()));
        }
        check_guidance_interval(input.guidance_interval)?;
        if !input.step_plan.is_valid() {
            let expected = format!("a warm-up of 1 to {0}, a refresh of 0 to {0}", StepPlan::MAX);
            return Err(Error::value("step plan", expected, input.step_plan));
        }
        let rows = input.localisation.rows.len();
        if !rows.is_multiple_of(batch.max(1)) {
            let expected = format!("as many for each of {batch} images");
            return Err(Error::shape("localisation rows", expected, rows));
        }
        let mask_token = stages.transformer.spec().mask_token;
        let masked = input.canvas.count(mask_token);
        if masked == 0 {
            return Err(Error::value("canvas", "at least one mask token to fill", "none"));
        }
        let schedule = stages.scheduler.plan(&ScheduleRequest {
            steps: input.steps,
            starting_mask_ratio: input
                .starting_mask_ratio
                .unwrap_or(masked as f32 / input.canvas.ids().len() as f32),
        })?;
        if input.first_step >= schedule.len() {
            let expected = format!("below the {} planned steps", schedule.len());
            return Err(Error::value("first step", expected, input.first_step));
        }
        let copies = if input.guidance_scale > 1.0 { 2 } else { 1 };
        let text = match (&input.negative, copies) {
            (_, 1) => input.text.clone(),
            (Some(negative), _) => TextConditioning::cat(&[negative, &input.text])?,
            (None, _) => {
                return Err(Error::value("negative prompt", "one, for guidance above 1", "none"));
            }
        };
        let reference = input.reference.as_ref().map(|reference| reference.repeat(copies));
        let start = LoopProgress::start(input.canvas.clone());
        let progress = LoopProgress { completed: input.first_step, ..start };
        Ok(Self { stages, input, schedule, text, reference, progress, cached: None })
    }

    /// Resumes where another loop of the same stages and input stopped: the remaining steps give
    /// the same result as in an unbroken run.
    ///
    /// # Errors
    /// Those of [`new`](Self::new) and of [`LoopProgress::check`].
    pub fn resume(
        stages: LoopStages<'a>,
        input: LoopInput,
        progress: LoopProgress,
    ) -> Result<Self> {
        let start = Self::new(stages, input)?;
        let mask_token = stages.transformer.spec().mask_token;
        progress.check(&start.input.canvas, start.schedule.len(), mask_token)?;
        let first_step = start.input.first_step;
        if progress.completed < first_step {
            let expected = format!("at least the {first_step} that are left out");
            return Err(Error::value("completed steps", expected, progress.completed));
        }
        Ok(Self { progress, ..start })
    }

    /// The plan.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The canvas as it stands.
    pub fn tokens(&self) -> &TokenGrid {
        &self.progress.tokens
    }

    /// Where the loop stands: what [`resume`](Self::resume) needs.
    pub fn progress(&self) -> &LoopProgress {
        &self.progress
    }

    /// Whether every step is done.
    pub fn is_done(&self) -> bool {
        self.progress.completed == self.schedule.len()
    }

    /// One step.
    ///
    /// # Errors
    /// Those of the stages. [`Error::Value`] when all steps are done.
    pub fn step(&mut self) -> Result<LoopStep> {
        let step = self.progress.completed;
        let Some(&timestep) = self.schedule.timesteps.get(step) else {
            return Err(Error::value("step", format!("below {}", self.schedule.len()), step));
        };
        let Pass { logits, maps, partial } = self.forward(timestep)?;
        let size = self.progress.tokens.size();
        let (scores, cells) = match (partial, &maps) {
            (Some(_), _) => (self.progress.scores.clone(), self.progress.cells.clone()),
            (None, Some(maps)) => {
                (Some(self.scores(maps, size)?), Some(self.scores(maps, maps.size())?))
            }
            (None, None) => (None, None),
        };
        let hold = self.hold(scores.as_ref(), cells.as_ref())?;
        let noise = self.stages.noise.step_noise(&NoiseRequest {
            first_image: self.input.first_image,
            batch: self.progress.tokens.batch(),
            size: self.progress.tokens.size(),
            step,
        })?;
        let result = self.stages.scheduler.step(StepState {
            schedule: &self.schedule,
            step,
            logits: logits.clone(),
            tokens: &self.progress.tokens,
            reference: self.input.reference.as_ref(),
            hold: hold.as_ref(),
            mask_token: self.stages.transformer.spec().mask_token,
            noise,
        })?;
        let progress = &mut self.progress;
        if let Some(hold) = &hold {
            progress.hold(hold)?;
        }
        progress.tokens = result.tokens;
        progress.completed += 1;
        if step == self.input.first_step {
            progress.first_scores.clone_from(&scores);
            progress.first_cells.clone_from(&cells);
        }
        progress.scores.clone_from(&scores);
        progress.cells = cells;
        progress.ties += result.ties;
        progress.work.add(partial);
        Ok(LoopStep {
            completed: progress.completed,
            logits,
            partial,
            maps,
            scores,
            hold,
            predicted: result.predicted,
            masked: result.masked.iter().sum(),
            ties: result.ties,
        })
    }

    /// All remaining steps, telling `observer` after each. `visit` sees each step in full.
    ///
    /// # Errors
    /// Those of [`step`](Self::step); [`Error::Stopped`] when the observer says so, with what
    /// [`resume`](Self::resume) needs.
    pub fn run(
        &mut self,
        observer: &mut dyn EditObserver,
        mut visit: impl FnMut(LoopStep),
    ) -> Result<()> {
        while !self.is_done() {
            let step = self.step()?;
            let event = EditEvent::Step {
                completed: step.completed,
                total: self.schedule.len(),
                tokens: self.tokens(),
                predicted: &step.predicted,
                masked: step.masked,
                held: step.hold.as_ref().map_or(0.0, HoldMask::share),
            };
            let flow = observer.event(&event);
            visit(step);
            if flow == Flow::Stop {
                return Err(Error::Stopped {
                    completed: self.progress.completed,
                    total: self.schedule.len(),
                    progress: Some(Box::new(self.progress.clone())),
                });
            }
        }
        Ok(())
    }

    /// One map per image, on the grid `size`.
    fn scores(&self, maps: &AttentionMaps, size: GridSize) -> Result<ScoreMap> {
        let scores = self.stages.consolidator.consolidate(maps, size)?;
        match self.maps_per_image() {
            1 => Ok(scores),
            maps => scores.combine(maps, self.input.localisation.combine),
        }
    }

    fn maps_per_image(&self) -> usize {
        (self.input.localisation.rows.len() / self.progress.tokens.batch().max(1)).max(1)
    }

    fn request(&self, guided: bool, batch: usize) -> AttentionRequest {
        let Localisation { blocks, rows, .. } = &self.input.localisation;
        if blocks.is_empty() || !self.stages.hold.needs_scores() {
            return AttentionRequest::none();
        }
        let conditional = if guided { batch } else { 0 };
        let maps = self.maps_per_image();
        let items = (0..batch * maps).map(|map| ItemRows {
            item: conditional + map / maps,
            rows: rows.get(map).cloned().unwrap_or(TextRows::All),
        });
        AttentionRequest { blocks: blocks.clone(), items: items.collect() }
    }

    fn hold(
        &self,
        scores: Option<&ScoreMap>,
        cells: Option<&ScoreMap>,
    ) -> Result<Option<HoldMask>> {
        if self.input.reference.is_none() {
            return Ok(None);
        }
        let flat;
        let scores = match scores {
            Some(scores) => scores,
            None if self.stages.hold.needs_scores() => {
                return Err(Error::value(
                    "localisation blocks",
                    "at least one, for a hold policy that reads scores",
                    "none",
                ));
            }
            None => {
                let (batch, size) = (self.progress.tokens.batch(), self.progress.tokens.size());
                flat = ScoreMap::new(batch, size, vec![1.0; batch * size.len()])?;
                &flat
            }
        };
        let first = self.progress.first_scores.as_ref().unwrap_or(scores);
        let (mask, step) = (self.input.user_mask.as_ref(), self.last_full());
        let first_cells = self.progress.first_cells.as_ref();
        let cells = cells.map(|scores| CellScores { scores, first: first_cells.unwrap_or(scores) });
        self.stages.hold.hold(&HoldRequest { scores, first, mask, step, cells }).map(Some)
    }
}
