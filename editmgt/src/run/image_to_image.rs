//! Images from a photo and text.

use editmgt_core::{ChaChaNoise, EditObserver, Error, NoiseRequest, Stage, Tiling, TokenGrid};
use editmgt_sampler::{StrengthStart, add_noise};

use super::finish::left_out;
use super::generate::{GenerateRun, ImageSet, Made};
use super::{Features, Stages};
use crate::editor::Editor;
use crate::error::EditError;
use crate::generate::OnImage;
use crate::image_to_image::{ImageToImageReport, ImageToImageResult};
use crate::photo::{Photo, PixelSize, ResizeFilter, ResizePlan};
use crate::request::{GenerateRequest, GenerateSettings, Holding};

/// The images of one request.
pub(crate) struct ImageToImageRun<'a> {
    pub(crate) editor: &'a Editor,
    pub(crate) photo: &'a Photo,
    pub(crate) request: &'a GenerateRequest,
    pub(crate) strength: f64,
}

impl ImageToImageRun<'_> {
    pub(crate) fn run(
        &self,
        observer: &mut dyn EditObserver,
        each: &mut OnImage<'_>,
    ) -> Result<ImageToImageResult, EditError> {
        let (settings, plan) = self.plan()?;
        let start = StrengthStart::new(self.strength, settings.steps, settings.masking_schedule);
        let start = start.map_err(|error| match error {
            Error::Value { what, expected, got } => EditError::option(what, expected, got),
            error => error.into(),
        })?;
        let model = self.editor.model();
        let mut stages = Stages::new(observer, settings.steps, None);
        let negative = (settings.guidance_scale > 1.0).then_some(&settings.negative_prompt);
        let text = Features::default().encode(model, &settings.prompt, negative, &mut stages)?;
        let text_left_out = left_out(&*model.text, ("prompt", &settings.prompt), negative)?;
        let reference = stages.run(Stage::EncodeImage, || {
            model.codec.encode_with(plan.apply(self.photo, &model.device)?, Tiling::Auto)
        })?;

        let generate = GenerateRun { editor: self.editor, request: self.request };
        let (grid, mask_token) = (reference.size(), model.transformer.spec().mask_token);
        let mut masked = 0;
        let strength = Some(self.strength);
        let sampling = |first, count| {
            let mut input = generate.loop_input(&settings, &text, grid, first, count);
            input.canvas = self.canvas(&settings, start, &reference, first, count)?;
            masked += input.canvas.count(mask_token);
            let input = input.with_first_step(start.first_step).with_starting_mask_ratio(1.0);
            let mut sampling = generate.sampling(&settings, input);
            // The official step: its share of masked tokens does not depend on how many there
            // were before the first step that is run.
            sampling.options.scheduler = model.scheduler_of(
                Holding::Parity,
                settings.masking_schedule,
                settings.temperature,
            );
            Ok(sampling)
        };
        let images = ImageSet { settings: &settings, grid, strength };
        let Made { images, tokens, ties } =
            generate.make(images, &mut stages, &mut drop, each, sampling)?;
        let report = ImageToImageReport {
            version: env!("CARGO_PKG_VERSION"),
            model: model.source.clone(),
            device: format!("{:?}", model.device),
            strength: self.strength,
            first_step: start.first_step,
            masked,
            photo: self.photo.size(),
            plan,
            grid,
            text_left_out,
            ties,
            seconds: std::mem::take(&mut stages.seconds),
            settings,
        };
        Ok(ImageToImageResult { images, tokens, reference, report })
    }

    /// The options in force, and how the photo gets to their size.
    fn plan(&self) -> Result<(GenerateSettings, ResizePlan), EditError> {
        let (model, photo) = (self.editor.model(), self.photo.size());
        let cell = model.pixels_per_cell();
        let mut request = self.request.clone();
        let fitted = match (request.width, request.height) {
            (None, None) => {
                let plan = ResizePlan::fit(photo, model.native_side(), cell)?;
                request = request.width(plan.model().width).height(plan.model().height);
                Some(plan)
            }
            _ => None,
        };
        let settings = self.editor.generate_settings(&request)?;
        let plan = match fitted {
            Some(plan) => plan,
            None => {
                let size = PixelSize::new(settings.height, settings.width);
                ResizePlan::exact(photo, size, cell)?
            }
        };
        // The filter of diffusers' pipelines.
        Ok((settings, plan.with_filters(ResizeFilter::Lanczos, ResizeFilter::Bicubic)))
    }

    /// The photo's tokens for `images` images, each masked by draws of its own.
    fn canvas(
        &self,
        settings: &GenerateSettings,
        start: StrengthStart,
        reference: &TokenGrid,
        first: usize,
        images: usize,
    ) -> Result<TokenGrid, Error> {
        let mask_token = self.editor.model().transformer.spec().mask_token;
        let (size, tokens) = (reference.size(), reference.repeat(images));
        let Some(step) = start.first_step.checked_sub(1) else {
            return Ok(TokenGrid::filled(images, size, mask_token));
        };
        let of_seed = ChaChaNoise::new(settings.seed);
        let noise = self.editor.custom().noise.as_deref().unwrap_or(&of_seed);
        // The draws of a step that is not run.
        let first_image = settings.variation as usize + first;
        let draws = noise.step_noise(&NoiseRequest { first_image, batch: images, size, step })?;
        let canvas = add_noise(&tokens, start.mask_ratio, &draws.confidence, mask_token)?;
        if canvas.count(mask_token) > 0 {
            return Ok(canvas);
        }
        // So few tokens that none was drawn: the one that came closest is masked.
        let closest = draws.confidence.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let mut canvas = canvas;
        if let Some((position, _)) = closest {
            canvas.ids_mut()[position] = mask_token;
        }
        Ok(canvas)
    }
}
