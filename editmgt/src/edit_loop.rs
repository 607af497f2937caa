//! The loop of an edit: forward, guidance, where, hold, unmask, again.

use burn::tensor::Tensor;
use editmgt_core::{
    AttentionConsolidator, AttentionMaps, AttentionRequest, CellScores, EditEvent, EditObserver,
    Error, Flow, GridSize, HoldMask, HoldRequest, ItemRows, LoopProgress, MapCombine,
    MgtTransformer, MicroConditions, NoiseRequest, NoiseSource, ReferenceInput, RegionHold, Result,
    Schedule, ScheduleRequest, ScoreMap, StepInput, StepState, TextConditioning, TextRows,
    TokenGrid, UnmaskScheduler, UserMask,
};
use editmgt_sampler::classifier_free_guidance;

/// The interchangeable stages of a loop.
#[derive(Clone, Copy)]
pub struct LoopStages<'a> {
    /// Predicts tokens.
    pub transformer: &'a dyn MgtTransformer,
    /// Fixes and re-masks tokens.
    pub scheduler: &'a dyn UnmaskScheduler,
    /// Turns attention into scores.
    pub consolidator: &'a dyn AttentionConsolidator,
    /// Turns scores into held tokens.
    pub hold: &'a dyn RegionHold,
    /// Draws.
    pub noise: &'a dyn NoiseSource,
}

/// Text-to-image attention that says where the edit is.
#[derive(Debug, Clone, Default)]
pub struct Localisation {
    /// Blocks to capture, double blocks first. Empty: no map, and nothing is held by score.
    pub blocks: Vec<usize>,
    /// Text rows to average, one entry per map; the same number of maps for each image, those of
    /// an image one after the other. Empty: one map of all rows for every image.
    pub rows: Vec<TextRows>,
    /// How several maps of an image become one.
    pub combine: MapCombine,
}

/// What a loop works on: a batch of `B` images.
#[derive(Debug, Clone)]
pub struct LoopInput {
    /// Features of the `B` instructions.
    pub text: TextConditioning,
    /// Features of the `B` negative prompts; read when `guidance_scale` is above 1.
    pub negative: Option<TextConditioning>,
    /// Classifier-free guidance; 1 and below turns it off (and halves the work).
    pub guidance_scale: f32,
    /// The share of the run, 0..1, from which and until which guidance acts: step `i` of `n` is
    /// guided when `(i + 0.5) / n` lies between, both ends included. `(0.0, 1.0)`: always.
    pub guidance_interval: (f32, f32),
    /// Where to start: `[B, H, W]`, mask tokens where there is something to fill.
    pub canvas: TokenGrid,
    /// The photo's own tokens, as the model is to see them; `None` for text-to-image.
    pub reference: Option<TokenGrid>,
    /// γ of the reference, see [`ReferenceInput::strength`].
    pub reference_strength: f32,
    /// What the model is told about the picture.
    pub micro: MicroConditions,
    /// Number of steps, 1 or more.
    pub steps: usize,
    /// Which attention to capture.
    pub localisation: Localisation,
    /// The user's mask, handed to the hold policy.
    pub user_mask: Option<UserMask>,
    /// Index of the first image, for the noise.
    pub first_image: usize,
}

/// What one step did.
#[derive(Debug, Clone)]
pub struct LoopStep {
    /// Steps completed, this one included.
    pub completed: usize,
    /// `[B, N, V]` logits after guidance.
    pub logits: Tensor<3>,
    /// The captured attention, if any.
    pub maps: Option<AttentionMaps>,
    /// The scores made from it.
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
}

impl<'a> EditLoop<'a> {
    /// Plans a loop.
    ///
    /// # Errors
    /// [`Error::Shape`] when the parts of `input` don't belong together, [`Error::Value`] for a
    /// guidance scale or interval that is none, no steps, a missing negative prompt, or a canvas with
    /// nothing to fill.
    pub fn new(stages: LoopStages<'a>, input: LoopInput) -> Result<Self> {
        let batch = input.canvas.batch();
        if !input.guidance_scale.is_finite() {
            return Err(Error::value("guidance scale", "a finite number", input.guidance_scale));
        }
        if input.text.batch() != batch {
            return Err(Error::shape("prompts", batch, input.text.batch()));
        }
        let (from, until) = input.guidance_interval;
        if !(0.0 <= from && from <= until && until <= 1.0) {
            let expected = "two shares from 0 to 1, the lesser first";
            return Err(Error::value("guidance interval", expected, format!("{from} to {until}")));
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
            starting_mask_ratio: masked as f32 / input.canvas.ids().len() as f32,
        })?;
        let copies = if input.guidance_scale > 1.0 { 2 } else { 1 };
        let text = match (&input.negative, copies) {
            (_, 1) => input.text.clone(),
            (Some(negative), _) => TextConditioning::cat(&[negative, &input.text])?,
            (None, _) => {
                return Err(Error::value("negative prompt", "one, for guidance above 1", "none"));
            }
        };
        let reference = input.reference.as_ref().map(|reference| reference.repeat(copies));
        let progress = LoopProgress::start(input.canvas.clone());
        Ok(Self { stages, input, schedule, text, reference, progress })
    }

    /// Goes on where another loop of the same stages and input stopped: the steps that are left
    /// give what they would have given there.
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
        let (logits, maps) = self.forward(timestep)?;
        let size = self.progress.tokens.size();
        let scores = maps.as_ref().map(|maps| self.scores(maps, size)).transpose()?;
        let cells = maps.as_ref().map(|maps| self.scores(maps, maps.size())).transpose()?;
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
        if step == 0 {
            progress.first_scores.clone_from(&scores);
            progress.first_cells.clone_from(&cells);
        }
        progress.scores.clone_from(&scores);
        progress.cells = cells;
        progress.ties += result.ties;
        Ok(LoopStep {
            completed: progress.completed,
            logits,
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

    /// Whether the next step is guided.
    fn is_guided(&self) -> bool {
        let (from, until) = self.input.guidance_interval;
        let middle = (self.progress.completed as f32 + 0.5) / self.schedule.len() as f32;
        self.input.guidance_scale > 1.0 && (from..=until).contains(&middle)
    }

    /// Logits after guidance, `[B, N, V]`, and the conditional half's attention.
    fn forward(&self, timestep: f32) -> Result<(Tensor<3>, Option<AttentionMaps>)> {
        let batch = self.progress.tokens.batch();
        let guided = self.is_guided();
        let forward_batch = if guided { 2 * batch } else { batch };
        let tokens =
            if guided { self.progress.tokens.repeat(2) } else { self.progress.tokens.clone() };
        let (text, reference) = match guided {
            true => (&self.text, self.reference.as_ref()),
            false => (&self.input.text, self.input.reference.as_ref()),
        };
        let input = StepInput {
            tokens: &tokens,
            reference: reference
                .map(|tokens| ReferenceInput { tokens, strength: self.input.reference_strength }),
            text,
            micro: &vec![self.input.micro; forward_batch],
            timestep: &vec![timestep; forward_batch],
        };
        let output = self.stages.transformer.forward(&input, &self.request(guided, batch))?;
        let logits = match guided {
            true => classifier_free_guidance(output.logits, self.input.guidance_scale)?,
            false => output.logits,
        };
        Ok((logits, output.maps))
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
        let (mask, step) = (self.input.user_mask.as_ref(), self.progress.completed);
        let first_cells = self.progress.first_cells.as_ref();
        let cells = cells.map(|scores| CellScores { scores, first: first_cells.unwrap_or(scores) });
        self.stages.hold.hold(&HoldRequest { scores, first, mask, step, cells }).map(Some)
    }
}
