//! The stages and the input of a loop.

#[cfg(doc)]
use editmgt_core::ReferenceInput;
use editmgt_core::{
    AttentionConsolidator, CacheDtype, MapCombine, MgtTransformer, MicroConditions, NoiseSource,
    RegionHold, StepPlan, TextConditioning, TextRows, TokenGrid, UnmaskScheduler, UserMask,
};

/// The interchangeable stages of a loop.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct LoopStages<'a> {
    /// Predicts tokens.
    pub transformer: &'a dyn MgtTransformer,
    /// Fixes and re-masks tokens.
    pub scheduler: &'a dyn UnmaskScheduler,
    /// Turns attention into scores.
    pub consolidator: &'a dyn AttentionConsolidator,
    /// Turns scores into held tokens.
    pub hold: &'a dyn RegionHold,
    /// Draws the random numbers.
    pub noise: &'a dyn NoiseSource,
}

impl<'a> LoopStages<'a> {
    /// One stage of each kind.
    pub fn new(
        transformer: &'a dyn MgtTransformer,
        scheduler: &'a dyn UnmaskScheduler,
        consolidator: &'a dyn AttentionConsolidator,
        hold: &'a dyn RegionHold,
        noise: &'a dyn NoiseSource,
    ) -> Self {
        Self { transformer, scheduler, consolidator, hold, noise }
    }
}

/// The text-to-image attention that a loop captures to locate the edit.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Localisation {
    /// Blocks to capture, double blocks first. Empty: no map, and nothing is held by score.
    pub blocks: Vec<usize>,
    /// Text rows to average, one entry per map; the same number of maps for each image, those of
    /// an image one after the other. Empty: one map of all rows for every image.
    pub rows: Vec<TextRows>,
    /// How several maps of an image become one.
    pub combine: MapCombine,
}

impl Localisation {
    /// One map of all text rows for each image, from these blocks (double blocks first).
    pub fn new(blocks: Vec<usize>) -> Self {
        Self { blocks, ..Self::default() }
    }

    /// Averages these text rows; see [`rows`](Self::rows).
    #[must_use]
    pub fn with_rows(self, rows: Vec<TextRows>) -> Self {
        Self { rows, ..self }
    }

    /// Combines several maps of an image in this way.
    #[must_use]
    pub fn with_combine(self, combine: MapCombine) -> Self {
        Self { combine, ..self }
    }
}

/// The input of a loop: a batch of `B` images.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoopInput {
    /// Features of the `B` instructions.
    pub text: TextConditioning,
    /// Features of the `B` negative prompts; read when `guidance_scale` is above 1.
    pub negative: Option<TextConditioning>,
    /// Scale of classifier-free guidance; 1 and below turns it off (and halves the work).
    pub guidance_scale: f32,
    /// The share of the run, 0..1, from which and until which guidance acts: step `i` of `n` is
    /// guided when `(i + 0.5) / n` lies between, both ends included. `(0.0, 1.0)`: always.
    pub guidance_interval: (f32, f32),
    /// Where to start: `[B, H, W]`, mask tokens where there is something to fill.
    pub canvas: TokenGrid,
    /// `[B, H, W]` tokens of the photos, the reference stream; `None` for text-to-image.
    pub reference: Option<TokenGrid>,
    /// γ of the reference, see [`ReferenceInput::strength`].
    pub reference_strength: f32,
    /// Size and crop of the images, a condition of the model.
    pub micro: MicroConditions,
    /// Number of steps, 1 or more.
    pub steps: usize,
    /// Which steps compute the whole canvas. Read if the transformer
    /// [caches steps](MgtTransformer::caches_steps); all steps do otherwise.
    pub step_plan: StepPlan,
    /// Whether guided partial steps compute the conditional half of the batch only, with guidance's
    /// difference of the last full step: about half their work. Full steps that partial ones follow
    /// compute the halves one after the other.
    pub guidance_reuse: bool,
    /// Whether a guided step that keeps nothing for partial ones computes the halves of its batch
    /// one after the other: about half the memory of its activations; weights are read twice.
    pub guidance_in_turn: bool,
    /// The precision of what a full step keeps for partial ones.
    pub cache_dtype: CacheDtype,
    /// Which attention to capture.
    pub localisation: Localisation,
    /// The user's mask, handed to the hold policy.
    pub user_mask: Option<UserMask>,
    /// Index of the first image, for the noise.
    pub first_image: usize,
    /// Index of the first step that is run, 0 for all: the steps before it are left out, and those
    /// that run have the schedule and the noise of their index.
    pub first_step: usize,
    /// The share of masked tokens that the schedule starts from; `None` for that of the canvas. It
    /// is 1 for a canvas that was masked up to what the steps that are left out would have done.
    pub starting_mask_ratio: Option<f32>,
}

impl LoopInput {
    /// Fills `canvas` from `text` in `steps` steps: without guidance, reference, captured attention
    /// and user's mask.
    pub fn new(
        text: TextConditioning,
        canvas: TokenGrid,
        micro: MicroConditions,
        steps: usize,
    ) -> Self {
        Self {
            text,
            negative: None,
            guidance_scale: 1.0,
            guidance_interval: (0.0, 1.0),
            canvas,
            reference: None,
            reference_strength: 1.0,
            micro,
            steps,
            step_plan: StepPlan::Exact,
            guidance_reuse: false,
            guidance_in_turn: false,
            cache_dtype: CacheDtype::Model,
            localisation: Localisation::default(),
            user_mask: None,
            first_image: 0,
            first_step: 0,
            starting_mask_ratio: None,
        }
    }

    /// Guides away from `negative`, which a scale above 1 needs.
    #[must_use]
    pub fn with_guidance(self, guidance_scale: f32, negative: Option<TextConditioning>) -> Self {
        Self { guidance_scale, negative, ..self }
    }

    /// Guides only in this interval; see [`guidance_interval`](Self::guidance_interval).
    #[must_use]
    pub fn with_guidance_interval(self, guidance_interval: (f32, f32)) -> Self {
        Self { guidance_interval, ..self }
    }

    /// Edits photos with these tokens `[B, H, W]`, at this strength γ.
    #[must_use]
    pub fn with_reference(self, reference: TokenGrid, reference_strength: f32) -> Self {
        Self { reference: Some(reference), reference_strength, ..self }
    }

    /// Computes only a part of the canvas at some steps.
    #[must_use]
    pub fn with_step_plan(self, step_plan: StepPlan) -> Self {
        Self { step_plan, ..self }
    }

    /// Sets [`guidance_reuse`](Self::guidance_reuse).
    #[must_use]
    pub fn with_guidance_reuse(self, guidance_reuse: bool) -> Self {
        Self { guidance_reuse, ..self }
    }

    /// Sets [`guidance_in_turn`](Self::guidance_in_turn).
    #[must_use]
    pub fn with_guidance_in_turn(self, guidance_in_turn: bool) -> Self {
        Self { guidance_in_turn, ..self }
    }

    /// Sets [`cache_dtype`](Self::cache_dtype).
    #[must_use]
    pub fn with_cache_dtype(self, cache_dtype: CacheDtype) -> Self {
        Self { cache_dtype, ..self }
    }

    /// Captures attention.
    #[must_use]
    pub fn with_localisation(self, localisation: Localisation) -> Self {
        Self { localisation, ..self }
    }

    /// Hands the hold policy a user's mask.
    #[must_use]
    pub fn with_user_mask(self, user_mask: Option<UserMask>) -> Self {
        Self { user_mask, ..self }
    }

    /// Leaves out the steps before this one; see [`first_step`](Self::first_step).
    #[must_use]
    pub fn with_first_step(self, first_step: usize) -> Self {
        Self { first_step, ..self }
    }

    /// Starts the schedule from this share; see
    /// [`starting_mask_ratio`](Self::starting_mask_ratio).
    #[must_use]
    pub fn with_starting_mask_ratio(self, ratio: f32) -> Self {
        Self { starting_mask_ratio: Some(ratio), ..self }
    }

    /// Starts the noise at this image.
    #[must_use]
    pub fn with_first_image(self, first_image: usize) -> Self {
        Self { first_image, ..self }
    }
}
