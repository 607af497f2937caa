//! One edit, from the photo to the report.

mod batched;
mod composite;
mod features;
mod generate;
mod image_to_image;
mod preview;
mod recording_hold;
mod stages;

use editmgt_backends::{Dtype, DtypePolicy, available_memory};
use editmgt_core::{
    CellScores, ChaChaNoise, EditObserver, Error, HoldMask, HoldRequest, LoopProgress,
    MicroConditions, NoiseSource, RegionHold, Stage, StepPlan, TextConditioning, TextEncoder,
    Tiling, TokenGrid, UnmaskScheduler, UserMask,
};
use editmgt_kernels::PackedWeights;
use editmgt_sampler::{
    Consolidator, EditLoop, HoldAny, HoldOff, HoldUserMask, Localisation, LoopInput, LoopStages,
    LoopStep, MaskingSchedule, Parity, Strict, Temperature,
};

use crate::editor::{EditResult, Editor};
use crate::error::EditError;
use crate::model::Model;
use crate::photo::{Mask, Photo, PhotoNote, PixelSize, Resize, ResizePlan, keep_hidden};
use crate::report::{EditReport, ScoreReport, StepsReport, TextLeftOut};
use crate::request::{CompositePolicy, EditRequest, EditSettings, HoldPolicy, Holding, Task};

pub(crate) use batched::Batched;
use composite::{Composited, Edited};
pub(crate) use features::Features;
pub(crate) use generate::GenerateRun;
pub(crate) use image_to_image::ImageToImageRun;
use preview::{PreviewComposite, Previewing};
use recording_hold::RecordingHold;
use stages::Stages;

/// Most tokens of an edit: 16 times those of 1024x1024. Attention compares every token with every other.
const MAX_TOKENS: usize = 1 << 16;

/// Refuses a size at which the transformer can't compute.
///
/// # Errors
/// [`EditError::Option`].
pub(crate) fn check_tokens(size: PixelSize, downsample_factor: usize) -> Result<(), EditError> {
    let PixelSize { width, height } = size;
    let tokens = (width / downsample_factor).saturating_mul(height / downsample_factor);
    if tokens <= MAX_TOKENS {
        return Ok(());
    }
    let expected = format!(
        "a size of at most {MAX_TOKENS} tokens: fit works on a smaller image, and mask (--resize mask, with a mask) on \
         the part around the mask at the photo's own resolution"
    );
    Err(EditError::option("resize", expected, format!("{width}x{height}, {tokens} tokens")))
}

/// One edit of one photo.
pub(crate) struct PhotoRun<'a> {
    pub(crate) editor: &'a Editor,
    pub(crate) photo: &'a Photo,
    pub(crate) request: &'a EditRequest,
    /// What earlier edits of the photo computed.
    pub(crate) features: &'a Features,
}

/// Features of the instruction and, with guidance, of the negative prompt.
type Text = (TextConditioning, Option<TextConditioning>);

impl PhotoRun<'_> {
    /// Edits, from the beginning or from where an earlier run stopped.
    pub(crate) fn run(
        &self,
        from: Option<LoopProgress>,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        self.visited(from, observer, &mut drop)
    }

    /// As [`run`](Self::run); `visit` sees each step in full.
    pub(crate) fn visited(
        &self,
        from: Option<LoopProgress>,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<EditResult, EditError> {
        let Task::Outpaint(margins) = self.request.task else {
            return self.run_on_photo(from, observer, visit);
        };
        // An inpainting of the photo with its margins.
        self.plan()?;
        let (canvas, mask) = self.photo.extended(margins)?;
        let request = self.request.clone().task(Task::Inpaint).mask(mask);
        let features = self.features.of_another_photo();
        let run = PhotoRun { photo: &canvas, request: &request, features: &features, ..*self };
        let mut result = run.run_on_photo(from, observer, visit)?;
        result.report.request = self.request.clone();
        result.report.settings.task = self.request.task;
        Ok(result)
    }

    fn run_on_photo(
        &self,
        from: Option<LoopProgress>,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<EditResult, EditError> {
        let plan = self.plan()?;
        let resumed_after = from.as_ref().map_or(0, |progress| progress.completed);
        let mut stages = Stages::new(observer, plan.settings.steps, from.clone());
        let prepared = self.prepare(plan, &mut stages)?;
        let input = prepared.input.clone();
        let sampling = Sampling {
            editor: self.editor,
            options: LoopOptions::of_edit(self.editor.model(), &prepared.settings),
            hold: &prepared.hold,
            noise: None,
            input,
            from,
            composite: self.preview_composite(&prepared),
        };
        let progress = stages.sample(|observer| sampling.run(observer, visit))?;
        self.finish(prepared, progress, resumed_after, &mut stages)
    }

    /// The options in force and the geometry, before anything is computed.
    ///
    /// # Errors
    /// [`EditError::Option`] for an option out of range, or an edit with a model that takes no
    /// reference; [`EditError::NotTrained`].
    pub(crate) fn plan(&self) -> Result<Planned, EditError> {
        let settings = self.editor.settings(self.request)?;
        self.editor.check_trained_for(settings.task.job(), settings.anyway)?;
        if settings.task == Task::Edit && !self.editor.model().transformer.takes_reference() {
            let expected = "one that takes a photo as a reference, which an edit needs";
            return Err(EditError::option("model", expected, "one that generates and inpaints"));
        }
        let holds = !settings.task.is_inpainting() && self.editor.custom().hold.is_none();
        if holds && settings.hold.lacks_custom_hold() {
            let (expected, got) = (HoldPolicy::CUSTOM_EXPECTED, HoldPolicy::CUSTOM_GOT);
            return Err(EditError::option("hold", expected, got));
        }
        let photo = match settings.task {
            Task::Outpaint(margins) => margins.canvas(self.photo.size())?,
            Task::Edit | Task::Inpaint => self.photo.size(),
        };
        let multiple = self.editor.model().pixels_per_cell();
        let mask = match self.mask() {
            Some(mask) if settings.resize == Resize::Mask => Some(mask.bounds(photo)?),
            _ => None,
        };
        let plan = settings.resize.plan(photo, mask, settings.size, multiple)?;
        check_tokens(plan.model(), self.editor.model().codec.spec().downsample_factor)?;
        Ok(Planned { settings, plan })
    }

    /// Encodes text and photo.
    fn prepare(
        &self,
        Planned { settings, plan }: Planned,
        stages: &mut Stages<'_>,
    ) -> Result<Prepared, EditError> {
        let text = self.text(&settings, stages)?;
        let reference = self.reference(plan, settings.tile, stages)?;
        let user_mask = match self.mask() {
            Some(mask) => Some(mask.on_grid(&plan, reference.size())?),
            None => None,
        };
        let input = self.loop_input(&settings, text, &reference, user_mask.as_ref())?;
        let hold = RecordingHold { hold: self.hold(&settings)?, map: settings.score_map };
        Ok(Prepared { settings, plan, reference, user_mask, input, hold })
    }

    fn preview_composite<'b>(&'b self, prepared: &'b Prepared) -> Option<PreviewComposite<'b>> {
        let visible = prepared.settings.composite == CompositePolicy::Visible;
        visible.then_some(PreviewComposite {
            photo: self.photo,
            plan: prepared.plan,
            reference: &prepared.reference,
            device: &self.editor.model().device,
            blend: prepared.settings.blend,
            small: None,
        })
    }

    /// Decodes, composites and reports.
    fn finish(
        &self,
        prepared: Prepared,
        progress: LoopProgress,
        resumed_after: usize,
        stages: &mut Stages<'_>,
    ) -> Result<EditResult, EditError> {
        let Prepared { settings, plan, reference, user_mask, input, hold } = prepared;
        let model = self.editor.model();
        let held = kept(&progress, &reference, user_mask.as_ref())?;
        let edited = Edited { tokens: &progress.tokens, reference: &reference, held: &held, plan };
        let Composited { mut image, change, report: composite } =
            self.composite(&edited, &settings, stages)?;
        let edit_transparent = keep_hidden(self.photo, &mut image);
        let mut notes = self.photo.notes().to_vec();
        let percent = (100.0 * edit_transparent).round() as u8;
        if percent > 0 {
            notes.push(PhotoNote::EditTransparent { percent });
        }
        let scores = progress.scores.as_ref().map(|scores| {
            let (mask, step) = (user_mask.as_ref(), progress.completed.saturating_sub(1));
            let first = progress.first_scores.as_ref().unwrap_or(scores);
            let cells = progress.cells.as_ref().map(|scores| CellScores {
                scores,
                first: progress.first_cells.as_ref().unwrap_or(scores),
            });
            let request = HoldRequest { scores, first, mask, step, cells };
            ScoreReport::new(scores, hold.threshold(&request, 0))
        });
        let text_left_out = self.text_left_out(&settings)?;
        let settings_plan = settings.steps_plan;
        let report = EditReport {
            version: env!("CARGO_PKG_VERSION"),
            model: model.source.clone(),
            device: format!("{:?}", model.device),
            request: self.request.clone(),
            tile: model.codec.tile_side(reference.size(), settings.tile),
            custom_stages: self.editor.custom().names(&settings),
            settings,
            photo: self.photo.size(),
            animation: self.photo.is_animation(),
            notes,
            mask_notes: self.mask().map_or_else(Vec::new, |mask| mask.notes().to_vec()),
            edit_transparent,
            text_left_out,
            model_pixels: plan.model(),
            plan,
            grid: reference.size(),
            blocks: input.localisation.blocks,
            scores,
            tokens_held: held.share(),
            tokens_changed: share(
                progress.tokens.ids().iter().zip(reference.ids()).map(|(a, b)| a != b),
            ),
            pixels_kept: share(image.pixels().zip(self.photo.rgb().pixels()).map(|(a, b)| a == b)),
            ties: progress.ties,
            steps: StepsReport::new(progress.work, settings_plan, model.transformer.caches_steps()),
            composite,
            resumed_after,
            seconds: std::mem::take(&mut stages.seconds),
            peak_memory_bytes: editmgt_backends::peak_memory(),
        };
        let LoopProgress { tokens, scores, .. } = progress;
        let image = self.photo.edited(image)?;
        Ok(EditResult { image, report, tokens, reference, scores, held, change })
    }

    /// The user's mask.
    fn mask(&self) -> Option<&Mask> {
        self.request.mask.as_deref()
    }

    /// What the encoders leave out of the prompts that they are given.
    fn text_left_out(&self, settings: &EditSettings) -> Result<Vec<TextLeftOut>, Error> {
        left_out(&*self.editor.model().text, ("instruction", &settings.instruction), {
            (settings.guidance_scale > 1.0).then_some(&settings.negative_prompt)
        })
    }

    /// Encodes what no earlier edit has.
    fn text(&self, settings: &EditSettings, stages: &mut Stages<'_>) -> Result<Text, Error> {
        let negative = (settings.guidance_scale > 1.0).then_some(&settings.negative_prompt);
        self.features.encode(self.editor.model(), &settings.instruction, negative, stages)
    }

    /// Encodes the photo unless an earlier edit has.
    fn reference(
        &self,
        plan: ResizePlan,
        tiling: Tiling,
        stages: &mut Stages<'_>,
    ) -> Result<TokenGrid, Error> {
        let references = self.features.references();
        if let Some(reference) = references.get(&plan) {
            return Ok(reference);
        }
        let model = self.editor.model();
        stages.run(Stage::EncodeImage, || {
            references.get_or_make(plan, || {
                model.codec.encode_with(plan.apply(self.photo, &model.device)?, tiling)
            })
        })
    }

    /// The policy in force, with the user's mask where there is one.
    fn hold(&self, settings: &EditSettings) -> Result<Box<dyn RegionHold>, Error> {
        if settings.task.is_inpainting() {
            // What stays is known from the beginning.
            return Ok(Box::new(HoldOff));
        }
        let custom: Box<dyn RegionHold> = match &self.editor.custom().hold {
            Some(custom) if !settings.hold.is_custom() || settings.hold.lacks_custom_hold() => {
                Box::new(custom.clone())
            }
            _ => return settings.hold.stage(settings.hold_margin),
        };
        Ok(match self.mask() {
            Some(_) => Box::new(HoldAny::new(vec![custom, Box::new(HoldUserMask)])),
            None => custom,
        })
    }

    fn loop_input(
        &self,
        settings: &EditSettings,
        (text, negative): Text,
        reference: &TokenGrid,
        user_mask: Option<&UserMask>,
    ) -> Result<LoopInput, EditError> {
        let model = self.editor.model();
        let mask_token = model.transformer.spec().mask_token;
        let size = reference.size();
        let canvas = match user_mask {
            Some(mask) => mask.masked(reference, mask_token)?,
            None => TokenGrid::filled(1, size, mask_token),
        };
        let localisation = if self.editor.needs_scores(settings) {
            Localisation::new(settings.blocks.clone())
                .with_rows(settings.keyword.rows(&*model.text, &settings.instruction)?)
                .with_combine(settings.keyword_maps)
        } else {
            Localisation::default()
        };
        let factor = model.codec.spec().downsample_factor;
        let micro = MicroConditions::uncropped(size.height * factor, size.width * factor);
        // In the official inpainting the canvas and the reference are one tensor.
        let conditions = match settings.task {
            Task::Edit => Some(reference.clone()),
            Task::Inpaint | Task::Outpaint(_) => {
                model.conditions_on_photo().then(|| canvas.clone())
            }
        };
        let input = LoopInput::new(text, canvas, micro, settings.steps)
            .with_guidance(settings.guidance_scale, negative)
            .with_guidance_interval(settings.guidance_interval)
            .with_step_plan(settings.steps_plan)
            .with_guidance_reuse(settings.guidance_reuse)
            .with_localisation(localisation)
            .with_user_mask(user_mask.cloned())
            .with_first_image(settings.variation as usize);
        Ok(match conditions {
            Some(conditions) => input.with_reference(conditions, settings.reference_strength),
            None => input,
        })
    }
}

/// The options in force for an edit, and its geometry.
pub(crate) struct Planned {
    pub(crate) settings: EditSettings,
    pub(crate) plan: ResizePlan,
}

/// An edit before its loop.
struct Prepared {
    settings: EditSettings,
    plan: ResizePlan,
    reference: TokenGrid,
    user_mask: Option<UserMask>,
    input: LoopInput,
    hold: RecordingHold,
}

/// The stages of a loop that options decide.
struct LoopOptions {
    scheduler: Box<dyn UnmaskScheduler>,
    consolidator: Consolidator,
    seed: u64,
}

impl LoopOptions {
    fn of_edit(model: &Model, settings: &EditSettings) -> Self {
        Self {
            scheduler: model.unmask_scheduler(settings),
            consolidator: settings.map_filter.stage(),
            seed: settings.seed,
        }
    }
}

/// The sampling loop of one edit, or of several at once.
struct Sampling<'a> {
    editor: &'a Editor,
    options: LoopOptions,
    hold: &'a dyn RegionHold,
    /// In the place of the editor's.
    noise: Option<&'a dyn NoiseSource>,
    input: LoopInput,
    from: Option<LoopProgress>,
    composite: Option<PreviewComposite<'a>>,
}

impl Sampling<'_> {
    fn run(
        self,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<LoopProgress, Error> {
        let Self { editor, options, hold, noise, input, from, composite } = self;
        let (model, custom) = (editor.model(), editor.custom());
        let LoopOptions { scheduler, consolidator, seed } = options;
        let of_seed = ChaChaNoise::new(seed);
        let packed_weights = editor.kept_weights(input.step_plan);
        let stages = LoopStages::new(
            &*model.transformer,
            custom.scheduler.as_deref().unwrap_or(&*scheduler),
            custom.consolidator.as_deref().unwrap_or(&consolidator),
            hold,
            noise.or(custom.noise.as_deref()).unwrap_or(&of_seed),
        );
        let mut edit = match from {
            Some(progress) => EditLoop::resume(stages, input, progress)?,
            None => EditLoop::new(stages, input)?,
        };
        let mut previewing = Previewing { observer, codec: &*model.codec, composite, error: None };
        let outcome = match packed_weights {
            Some(kept) => kept.install(|| edit.run(&mut previewing, visit)),
            None => edit.run(&mut previewing, visit),
        };
        match previewing.error {
            Some(error) => Err(error),
            None => outcome.map(|()| edit.progress().clone()),
        }
    }
}

impl Editor {
    /// Where the packed weights of a loop are kept, which owns them: `None` where every step computes the whole
    /// canvas in f32, which takes much longer than packing.
    fn kept_weights(&self, plan: StepPlan) -> Option<PackedWeights> {
        let is_fast =
            |dtype: DtypePolicy| dtype.transformer == Dtype::Bf16 || !dtype.compute.is_dtype();
        let is_fast = self.model().source.as_ref().is_some_and(|source| is_fast(source.dtype));
        let available = || available_memory().map_or(0, |bytes| (bytes / 2) as usize);
        let limit = self.packed_weights.unwrap_or_else(available);
        ((plan != StepPlan::Exact || is_fast) && limit > 0).then(|| PackedWeights::new(limit))
    }
}

impl Model {
    /// The scheduler that fixes and re-masks tokens under these settings.
    pub fn unmask_scheduler(&self, settings: &EditSettings) -> Box<dyn UnmaskScheduler> {
        self.scheduler_of(settings.holding, settings.masking_schedule, settings.temperature)
    }

    /// The scheduler that fixes and re-masks tokens in this way.
    pub(crate) fn scheduler_of(
        &self,
        holding: Holding,
        masking: MaskingSchedule,
        (first, last): (f32, f32),
    ) -> Box<dyn UnmaskScheduler> {
        let temperature = Temperature::Range(first, last);
        let timesteps = self.scheduler.timesteps;
        match holding {
            Holding::Strict => {
                Box::new(Strict::new(masking, temperature).with_timesteps(timesteps))
            }
            Holding::Parity => {
                Box::new(Parity::new(masking, temperature).with_timesteps(timesteps))
            }
        }
    }
}

/// What the encoder leaves out of a prompt and a negative prompt.
fn left_out(
    encoder: &dyn TextEncoder,
    (name, prompt): (&'static str, &String),
    negative: Option<&String>,
) -> Result<Vec<TextLeftOut>, Error> {
    let negative = negative.map(|text| ("negative_prompt", text));
    let mut found = Vec::new();
    for (prompt, text) in [(name, prompt)].into_iter().chain(negative) {
        let parts = encoder.truncation(text)?;
        found.extend(parts.into_iter().map(|part| TextLeftOut { prompt, part }));
    }
    Ok(found)
}

/// The tokens that are the photo's because they were held, or because the user's mask is black
/// there. (In parity mode a token can be held at one step and not at the next; only those that
/// ended as the photo's count.)
fn kept(
    progress: &LoopProgress,
    reference: &TokenGrid,
    mask: Option<&UserMask>,
) -> Result<HoldMask, Error> {
    let ever_held = progress.ever_held.held();
    let kept = progress.tokens.ids().iter().zip(reference.ids()).enumerate().map(|(i, (a, b))| {
        a == b && (ever_held[i] || mask.is_some_and(|mask| !mask.may_change(i)))
    });
    HoldMask::new(1, reference.size(), kept.collect())
}

/// Fraction of `true`, 0..1; 0 for an empty slice.
fn share(all: impl ExactSizeIterator<Item = bool>) -> f32 {
    let count = all.len();
    all.filter(|&so| so).count() as f32 / count.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_of_an_edit_are_limited() {
        // An official codec: 16 pixels a token.
        check_tokens(PixelSize::new(4096, 4096), 16).unwrap();
        let message = check_tokens(PixelSize::new(4000, 6000), 16).unwrap_err().to_string();
        for part in ["resize: ", "65536 tokens", "--resize mask", "6000x4000, 93750 tokens"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(check_tokens(PixelSize::new(usize::MAX, usize::MAX), 1).is_err());
    }
}
