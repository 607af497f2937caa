//! The jobs beside edits: images from text, and photos whose parts or margins are generated.

use std::path::Path;

use editmgt_core::{EditObserver, GridSize, Silent, Stage, TokenGrid};
use editmgt_sampler::LoopStep;
use editmgt_text::DEFAULT_NEGATIVE_PROMPT;
use serde::{Deserialize, Serialize};

use crate::editor::{EditResult, Editor};
use crate::error::EditError;
use crate::lora::LoraSource;
use crate::model::{ModelQuantization, ModelSource};
use crate::photo::{Margins, Photo, PhotoError, PhotoLimits};
use crate::record::{EditRecord, read_record};
use crate::report::TextLeftOut;
use crate::request::{EditRequest, GenerateRequest, GenerateSettings, Job, Task};
use crate::run::GenerateRun;

/// Images from text and how they came about.
#[derive(Debug)]
#[non_exhaustive]
pub struct GenerateResult {
    /// The images, in the order of their variations.
    pub images: Vec<GeneratedImage>,
    /// Their tokens, `[count, height, width]`.
    pub tokens: TokenGrid,
    /// What was done.
    pub report: GenerateReport,
}

/// One of the images of a request.
#[derive(Debug)]
#[non_exhaustive]
pub struct GeneratedImage {
    /// The image.
    pub image: Photo,
    /// Its seed.
    pub seed: u64,
    /// Which image of this seed it is: a request for one image with this seed and variation
    /// generates it again, up to rounding in the last digits of the logits.
    pub variation: u32,
}

/// Report of generated images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GenerateReport {
    /// Version of this library.
    pub version: &'static str,
    /// Identity and precision of the model; `None` for custom parts.
    pub model: Option<ModelSource>,
    /// The device, in the backend's words.
    pub device: String,
    /// The request: only the explicitly set options.
    pub request: GenerateRequest,
    /// All effective options.
    pub settings: GenerateSettings,
    /// The stages that the program replaced by its own (`scheduler`, `consolidator`, `noise`).
    pub custom_stages: Vec<&'static str>,
    /// Truncated parts of prompts.
    pub text_left_out: Vec<TextLeftOut>,
    /// The token grid of each image.
    pub grid: GridSize,
    /// Tokens within 1e-4 of being decided otherwise, over all steps and images.
    pub ties: usize,
    /// Seconds of each stage, in order.
    pub seconds: Vec<(Stage, f64)>,
    /// Peak memory of the process so far in bytes (host memory, not the device's); `None` if the
    /// system does not report it.
    pub peak_memory_bytes: Option<u64>,
}

impl GenerateReport {
    /// What encoders left out of the prompts that the request gave. (The default negative prompt,
    /// given or not, can be longer than CLIP's sequence, as in the official code.)
    pub fn prompts_cut(&self) -> impl Iterator<Item = &TextLeftOut> {
        let given = self.request.negative_prompt.as_deref();
        let has_negative = given.is_some_and(|given| given != DEFAULT_NEGATIVE_PROMPT);
        self.text_left_out.iter().filter(move |part| has_negative || part.prompt == "prompt")
    }
}

/// The record of a generated image in a PNG: enough to generate it again, given the model and its
/// LoRA adapters.
///
/// ```no_run
/// use editmgt::{GenerateRecord, GenerateRequest};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let record = GenerateRecord::open("fox.png")?;
/// let again: GenerateRequest = record.settings.into();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateRecord {
    /// Version of this library.
    pub version: String,
    /// Identity of the model: see [`identity`](crate::identity); `None` for custom parts.
    pub model: Option<String>,
    /// Its LoRA adapters.
    #[serde(default)]
    pub loras: Vec<LoraSource>,
    /// The bits of components whose weights were quantised.
    #[serde(default, skip_serializing_if = "ModelQuantization::is_none")]
    pub quantization: ModelQuantization,
    /// All effective options, for this image only.
    pub settings: GenerateSettings,
    /// The share of the steps that was run, of an image from a photo; `None` of one from text
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
}

/// Gets every image as soon as it is decoded, with the record of a PNG of it.
pub type OnImage<'a> = dyn FnMut(&GeneratedImage, &GenerateRecord) -> Result<(), EditError> + 'a;

impl GenerateRecord {
    /// The record of one of the images of a report.
    pub fn new(report: &GenerateReport, image: &GeneratedImage) -> Self {
        Self::of(report.model.as_ref(), &report.settings, None, image.variation)
    }

    /// The record of an image of these settings.
    pub(crate) fn of(
        model: Option<&ModelSource>,
        settings: &GenerateSettings,
        strength: Option<f64>,
        variation: u32,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: model.map(|model| model.sha256.clone()),
            loras: model.map_or_else(Vec::new, |model| model.loras.clone()),
            quantization: model.map(|model| model.quantization).unwrap_or_default(),
            settings: GenerateSettings { count: 1, variation, ..settings.clone() },
            strength,
        }
    }

    /// The text chunk, keyword and JSON, for [`SaveOptions::text`](crate::SaveOptions::text).
    pub fn png_text(&self) -> (String, String) {
        let json = serde_json::to_string(self).expect("a record has names and numbers only");
        (EditRecord::KEYWORD.to_owned(), json)
    }

    /// Reads the record of a PNG that was generated from text.
    ///
    /// # Errors
    /// Those of [`EditRecord::open`]; [`PhotoError::Record`] for one from a photo.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        Self::open_of(path.as_ref(), false)
    }

    /// Reads the record of a PNG that was generated from a photo and text; its `strength` is there.
    ///
    /// # Errors
    /// Those of [`EditRecord::open`]; [`PhotoError::Record`] for one from text alone.
    pub fn open_image_to_image(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        Self::open_of(path.as_ref(), true)
    }

    fn open_of(path: &Path, from_photo: bool) -> Result<Self, PhotoError> {
        let record = Self::open_any(path)?;
        if record.strength.is_some() == from_photo {
            return Ok(record);
        }
        let command = if from_photo { "generate" } else { "image-to-image" };
        let problem = format!("it is the record of `{command}`, which repeats it");
        let cause = <serde_json::Error as serde::de::Error>::custom(problem);
        Err(PhotoError::Record { path: path.to_owned(), version: record.version, cause })
    }

    fn open_any(path: &Path) -> Result<Self, PhotoError> {
        read_record(path, ("instruction", "`edit`, `inpaint` or `outpaint`"))
    }

    /// Differences between the model that made the image and `model`, as
    /// [`EditRecord::differences`].
    pub fn differences(&self, model: Option<&ModelSource>) -> Vec<String> {
        EditRecord::model_differences(self.model.as_ref(), &self.loras, self.quantization, model)
    }
}

/// The record in a PNG of any job.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Record {
    /// Of a photo that was edited, inpainted or outpainted.
    Edit(Box<EditRecord>),
    /// Of a generated image.
    Generate(Box<GenerateRecord>),
}

impl Record {
    /// Reads the record of a PNG.
    ///
    /// # Errors
    /// Those of [`EditRecord::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PhotoError> {
        let path = path.as_ref();
        match EditRecord::open(path) {
            Ok(record) => Ok(Self::Edit(Box::new(record))),
            Err(error) => match GenerateRecord::open_any(path) {
                Ok(record) => Ok(Self::Generate(Box::new(record))),
                Err(_) => Err(error),
            },
        }
    }
}

impl Editor {
    /// Generates images from text, with any base: the reference stream of a model that edits is
    /// off.
    ///
    /// ```no_run
    /// use editmgt::{Editor, GenerateRequest};
    ///
    /// # fn main() -> Result<(), editmgt::EditError> {
    /// let editor = Editor::open("models/meissonic")?;
    /// let request = GenerateRequest::new("a red fox in the snow").width(1280).height(768).count(4);
    /// for made in editor.generate(&request)?.images {
    ///     made.image.save(format!("fox-{}.png", made.variation))?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Several images share the transformer's forward passes, up to
    /// [`EditorBuilder::forward_batch`](crate::EditorBuilder::forward_batch) at once.
    ///
    /// # Errors
    /// [`EditError::Option`] for an option out of range or a size that the model does not have,
    /// [`EditError::NotTrained`] for a model that only edits, and the errors of the stages.
    pub fn generate(
        &self,
        request: impl Into<GenerateRequest>,
    ) -> Result<GenerateResult, EditError> {
        self.generate_observed(&request.into(), &mut Silent)
    }

    /// Generates images, and calls `observer` with each event, as [`edit_with`](Self::edit_with).
    /// Steps are counted for each forward pass; previews show its first image.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate); [`EditError::Stopped`] when the observer stops it.
    pub fn generate_with(
        &self,
        request: &GenerateRequest,
        mut observer: impl EditObserver,
    ) -> Result<GenerateResult, EditError> {
        self.generate_observed(request, &mut observer)
    }

    /// [`generate_with`](Self::generate_with) for an observer behind a reference.
    ///
    /// # Errors
    /// Those of [`generate_with`](Self::generate_with).
    pub fn generate_observed(
        &self,
        request: &GenerateRequest,
        observer: &mut dyn EditObserver,
    ) -> Result<GenerateResult, EditError> {
        self.generate_visiting(request, observer, &mut drop)
    }

    /// As [`generate_observed`](Self::generate_observed); `visit` gets each step in full.
    ///
    /// # Errors
    /// Those of [`generate_with`](Self::generate_with).
    pub fn generate_visiting(
        &self,
        request: &GenerateRequest,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<GenerateResult, EditError> {
        GenerateRun { editor: self, request }.run(observer, visit, &mut |_, _| Ok(()))
    }

    /// As [`generate_observed`](Self::generate_observed); `each` gets every image as soon as it is
    /// decoded, with the record of a PNG of it, and ends the run by an error. (With
    /// [`low_memory`](crate::EditorBuilder::low_memory) the images are decoded when all are
    /// sampled.)
    ///
    /// ```no_run
    /// # use editmgt::{EditError, Editor, GenerateRequest, SaveOptions};
    /// # fn main() -> Result<(), EditError> {
    /// let editor = Editor::open("models/meissonic")?;
    /// let request = GenerateRequest::new("a red fox in the snow").count(8);
    /// editor.generate_each(&request, &mut editmgt::Silent, &mut |made, record| {
    ///     let save = SaveOptions::default().with_text(record.png_text());
    ///     Ok(made.image.save_with(format!("fox-{}.png", made.variation), &save)?)
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`generate_with`](Self::generate_with), and those of `each`.
    pub fn generate_each(
        &self,
        request: &GenerateRequest,
        observer: &mut dyn EditObserver,
        each: &mut OnImage<'_>,
    ) -> Result<GenerateResult, EditError> {
        GenerateRun { editor: self, request }.run(observer, &mut drop, each)
    }

    /// Every option in force for images from this model.
    ///
    /// # Errors
    /// [`EditError::Option`] for an option out of range or a side that is not a multiple of the
    /// model's cell; [`EditError::NotTrained`].
    pub fn generate_settings(
        &self,
        request: &GenerateRequest,
    ) -> Result<GenerateSettings, EditError> {
        request.check()?;
        self.check_trained_for(Job::Generate, request.anyway)?;
        let model = self.model();
        let settings = request.resolve(model.generate_defaults())?;
        // Defaults of a model built in code have not been checked yet.
        GenerateRequest::from(settings.clone()).check()?;
        let (width, height) = (settings.width, settings.height);
        let most = PhotoLimits::DEFAULT.max_pixels;
        if width.saturating_mul(height) as u64 > most {
            let expected = format!("an image of at most {most} pixels");
            return Err(EditError::option("width", expected, format!("{width}x{height}")));
        }
        let cell = model.pixels_per_cell();
        for (option, side) in [("width", settings.width), ("height", settings.height)] {
            if !side.is_multiple_of(cell) {
                let below = side / cell * cell;
                let expected = match below {
                    0 => format!("a multiple of {cell} for this model, {cell} for instance"),
                    _ => {
                        format!("a multiple of {cell} for this model, {below} or {}", below + cell)
                    }
                };
                return Err(EditError::option(option, expected, side));
            }
        }
        Ok(settings)
    }

    /// Generates what the mask leaves white from a description of it, by the tokens around it:
    /// zero-shot inpainting, for which a base needs no training on edits. The photo's pixels
    /// elsewhere are its own bytes, and everything else is as in [`edit`](Self::edit): geometry,
    /// feather, report, resuming ([`OpenPhoto`](crate::OpenPhoto) with [`Task::Inpaint`]).
    ///
    /// ```no_run
    /// use editmgt::{EditRequest, Editor, Mask, Photo};
    ///
    /// # fn main() -> Result<(), editmgt::EditError> {
    /// let editor = Editor::open("models/meissonic")?;
    /// let request = EditRequest::new("a red sofa").mask(Mask::open("where.png")?).feather(8);
    /// editor.inpaint(&Photo::open("room.jpg")?, request)?.image.save("sofa.png")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// By default the whole white area is the generated one
    /// ([`CompositePolicy::Held`](crate::CompositePolicy::Held)). A model that was trained to edit
    /// gets the canvas as its reference, as in the official code; `reference_strength` is then
    /// read.
    ///
    /// # Errors
    /// Those of [`edit`](Self::edit); [`EditError::Option`] without a mask.
    pub fn inpaint(
        &self,
        photo: &Photo,
        request: impl Into<EditRequest>,
    ) -> Result<EditResult, EditError> {
        self.edit(photo, request.into().task(Task::Inpaint))
    }

    /// [`inpaint`](Self::inpaint) with an observer, as [`edit_with`](Self::edit_with).
    ///
    /// # Errors
    /// Those of [`inpaint`](Self::inpaint) and [`edit_with`](Self::edit_with).
    pub fn inpaint_with(
        &self,
        photo: &Photo,
        request: &EditRequest,
        observer: impl EditObserver,
    ) -> Result<EditResult, EditError> {
        self.edit_with(photo, &request.clone().task(Task::Inpaint), observer)
    }

    /// Generates margins around the photo: an inpainting of the photo with its border repeated
    /// outwards. The result is larger by the margins, and has the photo's own bytes in its place.
    ///
    /// ```no_run
    /// use editmgt::photo::Margins;
    /// use editmgt::{Editor, Photo};
    ///
    /// # fn main() -> Result<(), editmgt::EditError> {
    /// let editor = Editor::open("models/meissonic")?;
    /// let margins = Margins { left: 256, right: 256, ..Margins::default() };
    /// editor.outpaint(&Photo::open("room.jpg")?, margins, "a bright room")?.image.save("wide.png")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`edit`](Self::edit); [`EditError::Option`] without any margin or for a mask,
    /// [`PhotoError::CanvasTooLarge`] for a canvas beyond the limits.
    pub fn outpaint(
        &self,
        photo: &Photo,
        margins: Margins,
        request: impl Into<EditRequest>,
    ) -> Result<EditResult, EditError> {
        self.edit(photo, request.into().task(Task::Outpaint(margins)))
    }

    /// [`outpaint`](Self::outpaint) with an observer, as [`edit_with`](Self::edit_with).
    ///
    /// # Errors
    /// Those of [`outpaint`](Self::outpaint) and [`edit_with`](Self::edit_with).
    pub fn outpaint_with(
        &self,
        photo: &Photo,
        margins: Margins,
        request: &EditRequest,
        observer: impl EditObserver,
    ) -> Result<EditResult, EditError> {
        self.edit_with(photo, &request.clone().task(Task::Outpaint(margins)), observer)
    }

    /// Refuses a job that the model was not trained for.
    pub(crate) fn check_trained_for(&self, job: Job, anyway: bool) -> Result<(), EditError> {
        let model = self.model();
        crate::model::check_trained_for(model.kind, model.trained_for(), job, anyway)
    }
}
