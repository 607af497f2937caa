//! One edit, from the photo to the report.

mod batched;
mod composite;
mod features;
mod finish;
mod generate;
mod image_to_image;
mod preview;
mod recording_hold;
mod sampling;
mod stages;

use editmgt_core::{
    EditObserver, Error, LoopProgress, MicroConditions, RegionHold, Stage, TextConditioning,
    Tiling, TokenGrid, UserMask,
};
use editmgt_sampler::{HoldAny, HoldOff, HoldUserMask, Localisation, LoopInput, LoopStep};

use crate::editor::{EditResult, Editor};
use crate::error::EditError;
use crate::photo::{Mask, Photo, PixelSize, Resize, ResizePlan};
use crate::request::{CompositePolicy, EditRequest, EditSettings, HoldPolicy, Task};

pub(crate) use batched::Batched;
pub(crate) use features::Features;
pub(crate) use generate::GenerateRun;
pub(crate) use image_to_image::ImageToImageRun;
use preview::PreviewComposite;
use recording_hold::RecordingHold;
use sampling::{LoopOptions, Sampling};
use stages::Stages;

/// Most tokens of an edit: 16 times those of 1024x1024. Attention compares every token with every
/// other.
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

    /// The user's mask.
    fn mask(&self) -> Option<&Mask> {
        self.request.mask.as_deref()
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
            .with_guidance_in_turn(self.editor.low_memory)
            .with_cache_dtype(settings.cache_dtype)
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
