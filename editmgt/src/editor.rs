//! From a photo and an instruction to an edited photo.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use editmgt_backends::DtypePolicy;
use editmgt_core::{
    ChaChaNoise, EditEvent, EditObserver, Error, Flow, HoldMask, MicroConditions, ScoreMap, Stage,
    TextConditioning, TokenGrid, TransformerSpec, UnmaskScheduler, UserMask,
};
use editmgt_sampler::{Consolidator, Parity, Strict, Temperature};

use crate::edit_loop::{EditLoop, Localisation, LoopInput, LoopStages};
use crate::error::{EditError, ModelError};
use crate::folder::ModelFolder;
use crate::lora::LoraUse;
use crate::model::{LoadOptions, Model};
use crate::photo::{Composite, Mask, Photo, ResizePlan};
use crate::report::{EditReport, Timings};
use crate::request::{EditRequest, EditSettings, Holding, KeywordPolicy, ModelFacts};

/// Tokens along each side of the square grid that a model is made for: 64 with down and up blocks
/// (1024 pixels with the official codec), 32 without (512 pixels).
const NATIVE_CELLS: usize = 32;

/// The blocks that the official code documents for localisation.
const OFFICIAL_BLOCKS: std::ops::RangeInclusive<usize> = 28..=36;
/// How many blocks the official model has.
const OFFICIAL_BLOCK_COUNT: usize = 42;

/// Edits photos with one loaded model. Can be shared between threads; edits don't change it.
pub struct Editor {
    model: Model,
}

/// Where a model is loaded from.
#[derive(Debug, Clone)]
enum Origin {
    Folder(PathBuf),
    #[cfg(feature = "embedded")]
    Embedded,
}

/// Loads an [`Editor`].
#[derive(Debug, Clone)]
pub struct EditorBuilder {
    origin: Origin,
    device: Option<Device>,
    dtype: Option<DtypePolicy>,
    loras: Vec<LoraUse>,
}

impl Origin {
    fn builder(self) -> EditorBuilder {
        EditorBuilder { origin: self, device: None, dtype: None, loras: Vec::new() }
    }
}

impl EditorBuilder {
    /// Computes on this device (default: the first that this build has, the CPU's first of all).
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Keeps the weights in these dtypes (default: [`DtypePolicy::choose`]).
    pub fn dtype(mut self, dtype: DtypePolicy) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Adds a LoRA adapter; several can be added.
    pub fn lora(mut self, lora: LoraUse) -> Self {
        self.loras.push(lora);
        self
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`EditError::Model`] naming what is wrong with the folder, [`EditError::Device`] when the
    /// device can't compute in the dtype.
    pub fn build(self) -> Result<Editor, EditError> {
        let device = match self.device {
            Some(device) => device,
            None => editmgt_backends::open_default()?,
        };
        let dtype = match self.dtype {
            Some(dtype) => dtype,
            None => DtypePolicy::choose(&device, None)?,
        };
        dtype.check(&device)?;
        let options = LoadOptions { device, dtype };
        let model = match &self.origin {
            Origin::Folder(folder) => {
                Model::load_with_loras(&ModelFolder::open(folder)?, &options, &self.loras)?
            }
            #[cfg(feature = "embedded")]
            Origin::Embedded => Model::embedded(&options, &self.loras)?,
        };
        Ok(Editor::new(model)?)
    }
}

/// An edited photo and how it came about.
#[derive(Debug)]
pub struct EditResult {
    /// The edited photo, in the size and orientation of the input.
    pub image: Photo,
    /// What was done.
    pub report: EditReport,
    /// The tokens of the edit.
    pub tokens: TokenGrid,
    /// The tokens of the photo.
    pub reference: TokenGrid,
    /// Where the edit is, at the last step; `None` when nothing needed to know.
    pub scores: Option<ScoreMap>,
    /// Which tokens are the photo's own because they were held.
    pub held: HoldMask,
}

impl Editor {
    /// Starts loading the model in `folder`; see [`ModelFolder`] for the layouts.
    pub fn builder(folder: impl AsRef<Path>) -> EditorBuilder {
        Origin::Folder(folder.as_ref().to_owned()).builder()
    }

    /// Starts loading the small model that is part of the program: it edits scenes of its own
    /// little world of shapes, and shows with nothing downloaded how everything works.
    #[cfg(feature = "embedded")]
    pub fn embedded() -> EditorBuilder {
        Origin::Embedded.builder()
    }

    /// An editor over parts of your own.
    ///
    /// # Errors
    /// [`ModelError::Disagree`] when the parts don't belong together.
    pub fn new(model: Model) -> Result<Self, ModelError> {
        model.check()?;
        Ok(Self { model })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Edits a photo; `mask` is white where it may change. Tells `observer` what happens.
    ///
    /// # Errors
    /// [`EditError`]: an option out of range, a keyword that is not in the instruction, a stage
    /// that failed, or [`Error::Stopped`] when the observer says so.
    pub fn edit(
        &self,
        photo: &Photo,
        mask: Option<&Mask>,
        request: &EditRequest,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        let settings = &self.settings(request, mask.is_some())?;
        let plan = self.plan(photo, settings)?;
        let mut stages = Stages { observer, timings: Timings::default(), steps: settings.steps };

        let text = stages.run(Stage::EncodeText, |_| self.text(settings))?;
        let reference = stages.run(Stage::EncodeImage, |_| {
            self.model.codec.encode(plan.apply(photo, &self.model.device)?)
        })?;
        let user_mask = match mask {
            Some(mask) => Some(mask.on_grid(photo.size(), reference.size())?),
            None => None,
        };
        let input = self.loop_input(settings, text, &reference, user_mask.as_ref())?;
        let blocks = input.localisation.blocks.clone();
        let outcome =
            stages.run(Stage::Sample, |observer| self.sample(settings, input, observer))?;
        let decoded = stages.run(Stage::Decode, |_| self.model.codec.decode(&outcome.tokens))?;

        let held = outcome.kept(&reference, user_mask.as_ref())?;
        let mut image = plan.invert(decoded)?;
        if settings.composite {
            let photo = photo.rgb();
            let composite = Composite { photo, edit: &image, hold: &held, image: 0, feather: 0 };
            image = composite.render()?;
        }
        let report = EditReport {
            version: env!("CARGO_PKG_VERSION"),
            request: request.clone(),
            settings: settings.clone(),
            photo: photo.size(),
            model_pixels: plan.model(),
            grid: reference.size(),
            blocks,
            tokens_held: held.share(),
            tokens_changed: changed(&outcome.tokens, &reference),
            ties: outcome.ties,
            seconds: stages.timings.0,
        };
        let Outcome { tokens, scores, .. } = outcome;
        Ok(EditResult { image: photo.edited(image)?, report, tokens, reference, scores, held })
    }

    /// Every option in force for a request to this model; `masked` says whether there is a user's
    /// mask.
    ///
    /// # Errors
    /// [`EditError::Option`]: an option out of range, a block that the model does not have, a
    /// policy that needs a mask where there is none, or a keyword although nothing is held by
    /// score.
    pub fn settings(&self, request: &EditRequest, masked: bool) -> Result<EditSettings, EditError> {
        request.check()?;
        let spec = self.model.transformer.spec();
        let facts = ModelFacts {
            size: NATIVE_CELLS * self.model.pixels_per_cell(),
            blocks: default_blocks(spec),
            coarser: spec.grid_factor.saturating_sub(1),
        };
        let settings = request.resolve(&self.model.defaults, facts, masked);
        if let Some(block) = settings.blocks.iter().find(|&&block| block >= spec.blocks()) {
            return Err(EditError::option("blocks", format!("below {}", spec.blocks()), block));
        }
        if settings.hold.needs_mask() && !masked {
            let expected = "a mask for this policy";
            return Err(EditError::option("hold", expected, format!("{} alone", settings.hold)));
        }
        if request.keyword.as_ref().is_some_and(|keyword| *keyword != KeywordPolicy::All)
            && !settings.hold.needs_scores()
        {
            let expected = "a hold policy that looks where the words are (auto, 0.3, …)";
            return Err(EditError::option("keyword", expected, format!("hold {}", settings.hold)));
        }
        Ok(settings)
    }

    /// How the photo is brought to the model's grid.
    fn plan(&self, photo: &Photo, settings: &EditSettings) -> Result<ResizePlan, Error> {
        ResizePlan::fit(photo.size(), settings.size, self.model.pixels_per_cell())
    }

    /// Features of the instruction and, with guidance, of the negative prompt.
    fn text(
        &self,
        settings: &EditSettings,
    ) -> Result<(TextConditioning, Option<TextConditioning>), Error> {
        let text = self.model.text.encode(&[&settings.instruction])?;
        let negative = match settings.guidance_scale > 1.0 {
            true => Some(self.model.text.encode(&[&settings.negative_prompt])?),
            false => None,
        };
        Ok((text, negative))
    }

    fn loop_input(
        &self,
        settings: &EditSettings,
        (text, negative): (TextConditioning, Option<TextConditioning>),
        reference: &TokenGrid,
        user_mask: Option<&UserMask>,
    ) -> Result<LoopInput, EditError> {
        let mask_token = self.model.transformer.spec().mask_token;
        let size = reference.size();
        let canvas = match user_mask {
            Some(mask) => mask.masked(reference, mask_token)?,
            None => TokenGrid::filled(1, size, mask_token),
        };
        let localisation = match settings.hold.needs_scores() {
            false => Localisation::default(),
            true => Localisation {
                blocks: settings.blocks.clone(),
                rows: settings.keyword.rows(&*self.model.text, &settings.instruction)?,
                combine: settings.keyword_maps,
            },
        };
        let factor = self.model.codec.spec().downsample_factor;
        Ok(LoopInput {
            text,
            negative,
            guidance_scale: settings.guidance_scale,
            guidance_interval: settings.guidance_interval,
            canvas,
            reference: Some(reference.clone()),
            reference_strength: settings.reference_strength,
            micro: MicroConditions::uncropped(size.height * factor, size.width * factor),
            steps: settings.steps,
            localisation,
            user_mask: user_mask.cloned(),
            first_image: settings.variation as usize,
        })
    }

    fn sample(
        &self,
        settings: &EditSettings,
        input: LoopInput,
        observer: &mut dyn EditObserver,
    ) -> Result<Outcome, Error> {
        let masking = self.model.scheduler.masking_schedule;
        let timesteps = self.model.scheduler.timesteps;
        let (first, last) = settings.temperature;
        let temperature = Temperature::Range(first, last);
        let scheduler: Box<dyn UnmaskScheduler> = match settings.holding {
            Holding::Strict => {
                Box::new(Strict::new(masking, temperature).with_timesteps(timesteps))
            }
            Holding::Parity => {
                Box::new(Parity::new(masking, temperature).with_timesteps(timesteps))
            }
        };
        let hold = settings.hold.stage(settings.hold_margin)?;
        let mut outcome = Outcome::new(&input.canvas);
        let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(settings.seed));
        let stages = LoopStages {
            transformer: &*self.model.transformer,
            scheduler: &*scheduler,
            consolidator: &consolidator,
            hold: &*hold,
            noise: &noise,
        };
        let mut edit = EditLoop::new(stages, input)?;
        edit.run(observer, |step| {
            if let Some(hold) = &step.hold {
                for (ever, &now) in outcome.ever_held.iter_mut().zip(hold.held()) {
                    *ever |= now;
                }
            }
            outcome.ties += step.ties;
            outcome.scores = step.scores;
        })?;
        outcome.tokens = edit.tokens().clone();
        Ok(outcome)
    }
}

/// What the loop left.
struct Outcome {
    tokens: TokenGrid,
    scores: Option<ScoreMap>,
    ever_held: Vec<bool>,
    ties: usize,
}

impl Outcome {
    fn new(canvas: &TokenGrid) -> Self {
        let ever_held = vec![false; canvas.ids().len()];
        Self { tokens: canvas.clone(), scores: None, ever_held, ties: 0 }
    }

    /// The tokens that are the photo's because they were held, or because the user's mask is
    /// black there. (In parity mode a token can be held at one step and not at the next; only
    /// those that ended as the photo's count.)
    fn kept(&self, reference: &TokenGrid, mask: Option<&UserMask>) -> Result<HoldMask, Error> {
        let kept = self.tokens.ids().iter().zip(reference.ids()).enumerate().map(|(i, (a, b))| {
            a == b && (self.ever_held[i] || mask.is_some_and(|mask| !mask.may_change(i)))
        });
        HoldMask::new(1, reference.size(), kept.collect())
    }
}

/// Runs the stages of an edit: tells the observer, measures.
struct Stages<'a> {
    observer: &'a mut dyn EditObserver,
    timings: Timings,
    steps: usize,
}

impl Stages<'_> {
    fn run<T>(
        &mut self,
        stage: Stage,
        work: impl FnOnce(&mut dyn EditObserver) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.tell(EditEvent::StageStarted(stage))?;
        let start = Instant::now();
        let result = work(self.observer)?;
        self.timings.add(stage, start.elapsed());
        self.tell(EditEvent::StageFinished(stage))?;
        Ok(result)
    }

    fn tell(&mut self, event: EditEvent<'_>) -> Result<(), Error> {
        match self.observer.event(&event) {
            Flow::Continue => Ok(()),
            Flow::Stop => {
                let sampled = self.timings.0.iter().any(|(stage, _)| *stage == Stage::Sample);
                let completed = if sampled { self.steps } else { 0 };
                Err(Error::Stopped { completed, total: self.steps })
            }
        }
    }
}

fn default_blocks(spec: &TransformerSpec) -> Vec<usize> {
    match spec.blocks() {
        OFFICIAL_BLOCK_COUNT => OFFICIAL_BLOCKS.collect(),
        blocks => (spec.double_blocks..blocks).collect(),
    }
}

fn changed(tokens: &TokenGrid, reference: &TokenGrid) -> f32 {
    let differ = tokens.ids().iter().zip(reference.ids()).filter(|(a, b)| a != b).count();
    differ as f32 / reference.ids().len() as f32
}
