//! Image to image: a photo as the start of an image from text.

use editmgt_core::{EditObserver, GridSize, Silent, Stage, TokenGrid};
use editmgt_text::DEFAULT_NEGATIVE_PROMPT;
use serde::Serialize;

use crate::editor::Editor;
use crate::error::EditError;
use crate::generate::{GeneratedImage, OnImage};
use crate::model::ModelSource;
use crate::photo::{Photo, PixelSize, ResizePlan};
use crate::report::TextLeftOut;
use crate::request::{GenerateRequest, GenerateSettings};
use crate::run::ImageToImageRun;

/// Images from a photo and text, and how they came about.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImageToImageResult {
    /// The images, in the order of their variations.
    pub images: Vec<GeneratedImage>,
    /// Their tokens, `[count, height, width]`.
    pub tokens: TokenGrid,
    /// The photo's tokens, `[1, height, width]`.
    pub reference: TokenGrid,
    /// What was done.
    pub report: ImageToImageReport,
}

/// Report of images from a photo.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImageToImageReport {
    /// Version of this library.
    pub version: &'static str,
    /// Identity and precision of the model; `None` for custom parts.
    pub model: Option<ModelSource>,
    /// The device, in the backend's words.
    pub device: String,
    /// All effective options; width and height are those of the images.
    pub settings: GenerateSettings,
    /// The share of the steps that was run, 0..=1.
    pub strength: f64,
    /// Index of the first step that was run.
    pub first_step: usize,
    /// Photo tokens that were masked before it, over all images.
    pub masked: usize,
    /// Size of the photo.
    pub photo: PixelSize,
    /// What was cut from the photo and how it was resized.
    pub plan: ResizePlan,
    /// The token grid of each image.
    pub grid: GridSize,
    /// Truncated parts of prompts.
    pub text_left_out: Vec<TextLeftOut>,
    /// Tokens within 1e-4 of being decided otherwise, over all steps and images.
    pub ties: usize,
    /// Seconds of each stage, in order.
    pub seconds: Vec<(Stage, f64)>,
}

impl ImageToImageReport {
    /// What encoders left out of the prompts, but for the default negative prompt: it can be longer
    /// than CLIP's sequence, as in the official code.
    pub fn prompts_cut(&self) -> impl Iterator<Item = &TextLeftOut> {
        let has_negative = self.settings.negative_prompt != DEFAULT_NEGATIVE_PROMPT;
        self.text_left_out.iter().filter(move |part| has_negative || part.prompt == "prompt")
    }
}

impl Editor {
    /// Generates images from text that keep something of a photo (image to image): a part of the
    /// photo's tokens is masked at random, and the last steps of the schedule fill it again.
    ///
    /// `strength`, above 0 and up to 1, is the share of the steps that is run: 0.5 in aMUSEd's
    /// pipeline; with 1 nothing of the photo is left. Without a width and a height in the request
    /// the images have the photo's shape, with the area of the square that the model was trained
    /// on; with them the photo is stretched to that size.
    ///
    /// ```no_run
    /// use editmgt::{Editor, GenerateRequest, Photo};
    ///
    /// # fn main() -> Result<(), editmgt::EditError> {
    /// let editor = Editor::open("models/amused-512")?;
    /// let request = GenerateRequest::new("a watercolour of a lighthouse").count(2);
    /// let photo = Photo::open("lighthouse.jpg")?;
    /// for made in editor.image_to_image(&photo, 0.5, request)?.images {
    ///     made.image.save(format!("lighthouse-{}.png", made.variation))?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate); [`EditError::Option`] for a strength outside its
    /// range or so small that no step is left.
    pub fn image_to_image(
        &self,
        photo: &Photo,
        strength: f64,
        request: impl Into<GenerateRequest>,
    ) -> Result<ImageToImageResult, EditError> {
        self.image_to_image_with(photo, strength, &request.into(), Silent)
    }

    /// [`image_to_image`](Self::image_to_image) with an observer, as
    /// [`edit_with`](Self::edit_with).
    ///
    /// # Errors
    /// Those of [`image_to_image`](Self::image_to_image) and [`edit_with`](Self::edit_with).
    pub fn image_to_image_with(
        &self,
        photo: &Photo,
        strength: f64,
        request: &GenerateRequest,
        mut observer: impl EditObserver,
    ) -> Result<ImageToImageResult, EditError> {
        self.image_to_image_observed(photo, strength, request, &mut observer)
    }

    /// [`image_to_image_with`](Self::image_to_image_with) for an observer behind a reference.
    ///
    /// # Errors
    /// Those of [`image_to_image_with`](Self::image_to_image_with).
    pub fn image_to_image_observed(
        &self,
        photo: &Photo,
        strength: f64,
        request: &GenerateRequest,
        observer: &mut dyn EditObserver,
    ) -> Result<ImageToImageResult, EditError> {
        self.image_to_image_each(photo, strength, request, observer, &mut |_, _| Ok(()))
    }

    /// As [`image_to_image_observed`](Self::image_to_image_observed); `each` gets every image as
    /// soon as it is decoded, with the record of a PNG of it, and ends the run by an error.
    ///
    /// # Errors
    /// Those of [`image_to_image_with`](Self::image_to_image_with), and those of `each`.
    pub fn image_to_image_each(
        &self,
        photo: &Photo,
        strength: f64,
        request: &GenerateRequest,
        observer: &mut dyn EditObserver,
        each: &mut OnImage<'_>,
    ) -> Result<ImageToImageResult, EditError> {
        ImageToImageRun { editor: self, photo, request, strength }.run(observer, each)
    }
}
