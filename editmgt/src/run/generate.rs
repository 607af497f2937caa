//! Images from text.

use editmgt_core::{EditObserver, Error, GridSize, MicroConditions, Stage, Tiling, TokenGrid};
use editmgt_sampler::{Consolidator, HoldOff, LoopInput, LoopStep};

use super::finish::left_out;
use super::sampling::{LoopOptions, Sampling};
use super::{Features, Stages, Text};
use crate::editor::Editor;
use crate::error::EditError;
use crate::generate::{GenerateRecord, GenerateReport, GenerateResult, GeneratedImage, OnImage};
use crate::photo::{Photo, PixelSize, to_rgb};
use crate::request::{GenerateRequest, GenerateSettings, Holding};

/// The images of one request.
pub(crate) struct GenerateRun<'a> {
    pub(crate) editor: &'a Editor,
    pub(crate) request: &'a GenerateRequest,
}

/// What images to make.
pub(super) struct ImageSet<'a> {
    pub(super) settings: &'a GenerateSettings,
    pub(super) grid: GridSize,
    /// That of images from a photo.
    pub(super) strength: Option<f64>,
}

/// Images from text, or from a photo and text.
pub(super) struct Made {
    pub(super) images: Vec<GeneratedImage>,
    /// `[count, height, width]`
    pub(super) tokens: TokenGrid,
    pub(super) ties: usize,
}

impl GenerateRun<'_> {
    /// Generates; `visit` sees each step in full, `each` every image.
    pub(crate) fn run(
        &self,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
        each: &mut OnImage<'_>,
    ) -> Result<GenerateResult, EditError> {
        let settings = self.editor.generate_settings(self.request)?;
        let model = self.editor.model();
        let mut stages = Stages::new(observer, settings.steps, None);
        let negative = (settings.guidance_scale > 1.0).then_some(&settings.negative_prompt);
        let text = Features::default().encode(model, &settings.prompt, negative, &mut stages)?;
        let text_left_out = left_out(&*model.text, ("prompt", &settings.prompt), negative)?;

        let factor = model.codec.spec().downsample_factor;
        let grid = GridSize::new(settings.height / factor, settings.width / factor);
        let images = ImageSet { settings: &settings, grid, strength: None };
        let Made { images, tokens, ties } =
            self.make(images, &mut stages, visit, each, |first, count| {
                let input = self.loop_input(&settings, &text, grid, first, count);
                Ok(self.sampling(&settings, input))
            })?;
        let report = GenerateReport {
            version: env!("CARGO_PKG_VERSION"),
            model: model.source.clone(),
            device: format!("{:?}", model.device),
            request: self.request.clone(),
            custom_stages: self.editor.custom().names_without_hold(),
            text_left_out,
            grid,
            ties,
            seconds: std::mem::take(&mut stages.seconds),
            peak_memory_bytes: editmgt_backends::peak_memory(),
            settings: settings.clone(),
        };
        Ok(GenerateResult { images, tokens, report })
    }

    /// Samples and decodes all images, several in a forward pass: `sampling(first, count)` is the
    /// loop of `count` images of the request from `first` on. `each` gets every image when it is
    /// decoded, with its record.
    pub(super) fn make<'s>(
        &self,
        ImageSet { settings, grid, strength }: ImageSet<'_>,
        stages: &mut Stages<'_>,
        visit: &mut dyn FnMut(LoopStep),
        each: &mut OnImage<'_>,
        mut sampling: impl FnMut(usize, usize) -> Result<Sampling<'s>, Error>,
    ) -> Result<Made, EditError> {
        let (mut ids, mut ties) = (Vec::new(), 0);
        let mut images: Vec<GeneratedImage> = Vec::new();
        let pass = self.editor.forward_batch.max(1);
        // Of components that are read when they are needed each is read once.
        let group = if self.editor.low_memory { settings.count } else { pass };
        while images.len() < settings.count {
            let end = (images.len() + group).min(settings.count);
            stages.sample(|observer| {
                loop {
                    let first = ids.len() / grid.len();
                    let count = (end - first).min(pass);
                    let progress = sampling(first, count)?.run(observer, visit)?;
                    ids.extend_from_slice(progress.tokens.ids());
                    ties += progress.ties;
                    if first + count == end {
                        return Ok(progress);
                    }
                }
            })?;
            for index in images.len()..end {
                let ids = &ids[index * grid.len()..(index + 1) * grid.len()];
                let tokens = TokenGrid::new(1, grid, ids.to_vec())?;
                let image = stages.run(Stage::Decode, || self.decode(&tokens))?;
                let image = GeneratedImage {
                    image: Photo::from_rgb(image)?,
                    seed: settings.seed,
                    variation: settings.variation + index as u32,
                };
                let source = self.editor.model().source.as_ref();
                each(&image, &GenerateRecord::of(source, settings, strength, image.variation))?;
                images.push(image);
            }
        }
        let tokens = TokenGrid::new(settings.count, grid, ids)?;
        Ok(Made { images, tokens, ties })
    }

    /// A canvas of mask tokens for `images` images, from image `first` of the request on.
    pub(super) fn loop_input(
        &self,
        settings: &GenerateSettings,
        (text, negative): &Text,
        grid: GridSize,
        first: usize,
        images: usize,
    ) -> LoopInput {
        let mask_token = self.editor.model().transformer.spec().mask_token;
        let canvas = TokenGrid::filled(images, grid, mask_token);
        let micro = MicroConditions::uncropped(settings.height, settings.width);
        let negative = negative.as_ref().map(|negative| negative.repeat(images));
        LoopInput::new(text.repeat(images), canvas, micro, settings.steps)
            .with_guidance(settings.guidance_scale, negative)
            .with_guidance_interval(settings.guidance_interval)
            .with_guidance_in_turn(self.editor.low_memory)
            .with_first_image(settings.variation as usize + first)
    }

    pub(super) fn sampling(&self, settings: &GenerateSettings, input: LoopInput) -> Sampling<'_> {
        let (model, temperature) = (self.editor.model(), settings.temperature);
        Sampling {
            editor: self.editor,
            options: LoopOptions {
                scheduler: model.scheduler_of(
                    Holding::default(),
                    settings.masking_schedule,
                    temperature,
                ),
                consolidator: Consolidator::default(),
                seed: settings.seed,
            },
            hold: &HoldOff,
            noise: None,
            input,
            from: None,
            composite: None,
        }
    }

    /// The image of tokens `[1, height, width]`.
    fn decode(&self, tokens: &TokenGrid) -> Result<image::RgbImage, Error> {
        let codec = &self.editor.model().codec;
        let factor = codec.spec().downsample_factor;
        let size = tokens.size();
        let pixels = PixelSize::new(size.height * factor, size.width * factor);
        to_rgb(codec.decode_with(tokens, Tiling::Auto)?, pixels)
    }
}
