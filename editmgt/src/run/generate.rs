//! Images from text.

use editmgt_core::{EditObserver, Error, GridSize, MicroConditions, Stage, Tiling, TokenGrid};
use editmgt_sampler::{Consolidator, HoldOff, LoopInput, LoopStep};

use super::{Features, LoopOptions, Sampling, Stages, Text, left_out};
use crate::editor::Editor;
use crate::error::EditError;
use crate::generate::{GenerateReport, GenerateResult, GeneratedImage};
use crate::photo::{Photo, PixelSize, to_rgb};
use crate::request::{GenerateRequest, GenerateSettings, Holding};

/// The images of one request.
pub(crate) struct GenerateRun<'a> {
    pub(crate) editor: &'a Editor,
    pub(crate) request: &'a GenerateRequest,
}

/// Images from text, or from a photo and text.
pub(super) struct Made {
    pub(super) images: Vec<GeneratedImage>,
    /// `[count, height, width]`
    pub(super) tokens: TokenGrid,
    pub(super) ties: usize,
}

impl GenerateRun<'_> {
    /// Generates; `visit` sees each step in full.
    pub(crate) fn run(
        &self,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<GenerateResult, EditError> {
        let settings = self.editor.generate_settings(self.request)?;
        let model = self.editor.model();
        let mut stages = Stages::new(observer, settings.steps, None);
        let negative = (settings.guidance_scale > 1.0).then_some(&settings.negative_prompt);
        let text = Features::default().encode(model, &settings.prompt, negative, &mut stages)?;
        let text_left_out = left_out(&*model.text, ("prompt", &settings.prompt), negative)?;

        let factor = model.codec.spec().downsample_factor;
        let grid = GridSize::new(settings.height / factor, settings.width / factor);
        let Made { images, tokens, ties } =
            self.make(&settings, grid, &mut stages, visit, |first, count| {
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

    /// Samples and decodes all images, several in a forward pass: `sampling(first, count)` is the loop of
    /// `count` images of the request from `first` on.
    pub(super) fn make<'s>(
        &self,
        settings: &GenerateSettings,
        grid: GridSize,
        stages: &mut Stages<'_>,
        visit: &mut dyn FnMut(LoopStep),
        mut sampling: impl FnMut(usize, usize) -> Result<Sampling<'s>, Error>,
    ) -> Result<Made, EditError> {
        let (mut ids, mut ties) = (Vec::new(), 0);
        stages.sample(|observer| {
            loop {
                let first = ids.len() / grid.len();
                let count = (settings.count - first).min(self.editor.forward_batch.max(1));
                let progress = sampling(first, count)?.run(observer, visit)?;
                ids.extend_from_slice(progress.tokens.ids());
                ties += progress.ties;
                if first + count == settings.count {
                    return Ok(progress);
                }
            }
        })?;
        let tokens = TokenGrid::new(settings.count, grid, ids)?;
        let decoded = stages.run(Stage::Decode, || {
            (0..settings.count)
                .map(|image| self.decode(&tokens, image))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let images = decoded.into_iter().zip(settings.variation..).map(|(image, variation)| {
            Ok(GeneratedImage { image: Photo::from_rgb(image)?, seed: settings.seed, variation })
        });
        Ok(Made { images: images.collect::<Result<_, EditError>>()?, tokens, ties })
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

    fn decode(&self, tokens: &TokenGrid, image: usize) -> Result<image::RgbImage, Error> {
        let codec = &self.editor.model().codec;
        let factor = codec.spec().downsample_factor;
        let size = tokens.size();
        let pixels = PixelSize::new(size.height * factor, size.width * factor);
        let one = TokenGrid::new(1, size, tokens.image(image).to_vec())?;
        to_rgb(codec.decode_with(&one, Tiling::Auto)?, pixels)
    }
}
