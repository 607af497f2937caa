//! From a photo and an instruction to an edited photo.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use editmgt_backends::{DeviceError, DtypePolicy};
use editmgt_core::{
    AttentionConsolidator, EditObserver, HoldMask, MgtTransformer, NoiseSource, RegionHold,
    ScoreMap, TextEncoder, TokenGrid, TransformerSpec, UnmaskScheduler, VqCodec,
};

use editmgt_sampler::LoopStep;

use crate::custom::{CustomParts, CustomStages};
use crate::error::{EditError, ModelError};
use crate::lora::LoraUse;
use crate::model::{LoadOptions, Model, ModelFolder};
use crate::open::OpenPhoto;
use crate::photo::{ChangeMask, Mask, Overlay, Photo};
use crate::report::EditReport;
use crate::request::{EditRequest, EditSettings, KeywordPolicy, ModelFacts};
use crate::run::{EditRun, Features};

/// Tokens along each side of the square grid that a model is made for: 64 with down and up blocks
/// (1024 pixels with the official codec), 32 without (512 pixels).
const NATIVE_CELLS: usize = 32;

/// The blocks that the official code documents for localisation.
const OFFICIAL_BLOCKS: std::ops::RangeInclusive<usize> = 28..=36;
/// How many blocks the official model has.
const OFFICIAL_BLOCK_COUNT: usize = 42;

/// Edits photos with one loaded model. Can be shared between threads; edits don't change it, and a
/// clone is the same model.
#[derive(Clone)]
pub struct Editor {
    model: Arc<Model>,
    custom: CustomStages,
}

/// Where a model is loaded from.
#[derive(Debug, Clone)]
enum Origin {
    Folder(PathBuf),
    #[cfg(feature = "embedded")]
    Embedded,
}

/// Loads an [`Editor`].
///
/// Each stage can be replaced; whatever is, the photo's pixels come back, masks, maps, reports,
/// variations, batches and resuming work as before.
///
/// ```no_run
/// use editmgt::{ChaChaNoise, EditRequest, Editor, Photo, Silent, sampler::HoldThreshold};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let editor = Editor::builder("models/editmgt")
///     .hold(HoldThreshold::new(0.4)?)
///     .noise(ChaChaNoise::new(7))
///     .build()?;
/// let photo = Photo::open("cat.jpg")?;
/// let request = EditRequest::new("make the cat black");
/// let result = editor.edit(&photo, None, &request, &mut Silent)?;
/// assert_eq!(result.report.custom_stages, ["hold", "noise"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct EditorBuilder {
    origin: Origin,
    device: Option<Device>,
    dtype: Option<DtypePolicy>,
    loras: Vec<LoraUse>,
    low_memory: bool,
    custom: CustomStages,
    parts: CustomParts,
}

impl Origin {
    fn builder(self) -> EditorBuilder {
        EditorBuilder {
            origin: self,
            device: None,
            dtype: None,
            loras: Vec::new(),
            low_memory: false,
            custom: CustomStages::default(),
            parts: CustomParts::default(),
        }
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

    /// Keeps one component in memory at a time, each for as long as it is needed: see
    /// [`Model::on_demand`]. (The small model that is part of the program is loaded whole.)
    pub fn low_memory(mut self, low_memory: bool) -> Self {
        self.low_memory = low_memory;
        self
    }

    /// Decides which tokens are fixed when, in the place of
    /// [`EditRequest::holding`] and [`EditRequest::temperature`].
    pub fn scheduler(mut self, scheduler: impl UnmaskScheduler + 'static) -> Self {
        self.custom.scheduler = Some(Arc::new(scheduler));
        self
    }

    /// Turns attention into scores, in the place of [`EditRequest::map_filter`].
    pub fn consolidator(mut self, consolidator: impl AttentionConsolidator + 'static) -> Self {
        self.custom.consolidator = Some(Arc::new(consolidator));
        self
    }

    /// Decides which tokens keep the photo's, in the place of [`EditRequest::hold`] and its margin. With
    /// a user's mask, what that leaves black stays the photo's, too.
    pub fn hold(mut self, hold: impl RegionHold + 'static) -> Self {
        self.custom.hold = Some(Arc::new(hold));
        self
    }

    /// Draws the random numbers, in the place of [`EditRequest::seed`].
    pub fn noise(mut self, noise: impl NoiseSource + 'static) -> Self {
        self.custom.noise = Some(Arc::new(noise));
        self
    }

    /// Turns images into tokens and back, in the place of the model's codec, which is loaded and let go.
    pub fn codec(mut self, codec: impl VqCodec + 'static) -> Self {
        self.parts.codec = Some(Arc::new(codec));
        self
    }

    /// Turns prompts into features, in the place of the model's encoder, which is loaded and let go.
    pub fn text(mut self, text: impl TextEncoder + 'static) -> Self {
        self.parts.text = Some(Arc::new(text));
        self
    }

    /// Predicts tokens, in the place of the model's transformer, which is loaded and let go.
    pub fn transformer(mut self, transformer: impl MgtTransformer + 'static) -> Self {
        self.parts.transformer = Some(Arc::new(transformer));
        self
    }

    /// The device on which it will compute.
    ///
    /// # Errors
    /// [`DeviceError`] where none was named and this build has none that works.
    pub fn device_or_default(&self) -> Result<Device, DeviceError> {
        self.device.clone().map_or_else(editmgt_backends::open_default, Ok)
    }

    /// Loads the model.
    ///
    /// # Errors
    /// [`EditError::Model`] naming what is wrong with the folder, [`EditError::Device`] when the
    /// device can't compute in the dtype.
    pub fn build(self) -> Result<Editor, EditError> {
        let device = self.device_or_default()?;
        let dtype = match self.dtype {
            Some(dtype) => dtype,
            None => DtypePolicy::choose(&device, None)?,
        };
        dtype.check(&device)?;
        let options = LoadOptions { device, dtype };
        let model = match &self.origin {
            Origin::Folder(folder) => {
                let load = if self.low_memory { Model::on_demand } else { Model::load_with_loras };
                load(&ModelFolder::open(folder)?, &options, &self.loras)?
            }
            #[cfg(feature = "embedded")]
            Origin::Embedded => Model::embedded(&options, &self.loras)?,
        };
        let editor = Editor::new(self.parts.replace(model))?;
        Ok(Editor { custom: self.custom, ..editor })
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
    /// How much of the edit each pixel shows; `None` with
    /// [`CompositePolicy::All`](crate::CompositePolicy::All).
    pub change: Option<ChangeMask>,
}

impl EditResult {
    /// Score map and hold mask drawn over the photo that was edited: see [`Overlay`]. There are
    /// scores where the hold policy reads them or
    /// [`score_map`](crate::EditRequest::score_map) asked for them.
    ///
    /// # Errors
    /// [`EditError::Stage`] for a photo of another size.
    pub fn overlay(&self, photo: &Photo) -> Result<Photo, EditError> {
        let overlay = Overlay {
            photo: photo.rgb(),
            scores: self.scores.as_ref(),
            hold: &self.held,
            change: self.change.as_ref(),
            image: 0,
            plan: &self.report.plan,
        };
        Ok(Photo::from_rgb(overlay.render()?)?)
    }
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
        Ok(Self { model: Arc::new(model), custom: CustomStages::default() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The stages that were replaced.
    pub(crate) fn custom(&self) -> &CustomStages {
        &self.custom
    }

    /// Edits a photo; `mask` is white where it may change. Tells `observer` what happens.
    ///
    /// To edit one photo several times, [`open`](Self::open) it.
    ///
    /// # Errors
    /// [`EditError`]: an option out of range, a keyword that is not in the instruction, a stage
    /// that failed, or [`Error::Stopped`](editmgt_core::Error::Stopped) when the observer says so.
    pub fn edit(
        &self,
        photo: &Photo,
        mask: Option<&Mask>,
        request: &EditRequest,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        let features = Features::default();
        EditRun { editor: self, photo, mask, request, features: &features }.run(None, observer)
    }

    /// As [`edit`](Self::edit); `visit` gets each step in full: logits, attention, scores, held tokens.
    ///
    /// # Errors
    /// Those of [`edit`](Self::edit).
    pub fn edit_visiting(
        &self,
        photo: &Photo,
        mask: Option<&Mask>,
        request: &EditRequest,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<EditResult, EditError> {
        let features = Features::default();
        let run = EditRun { editor: self, photo, mask, request, features: &features };
        run.visited(None, observer, visit)
    }

    /// Opens a photo for several edits, variations, and edits that stop and go on: its tokens and
    /// the features of a text are computed once.
    pub fn open(&self, photo: impl Into<Arc<Photo>>) -> OpenPhoto {
        OpenPhoto::new(self.clone(), photo.into())
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
            coarser: if spec.grid_factor > 1 { spec.grid_factor } else { 0 },
        };
        let settings = request.resolve(&self.model.defaults, facts, masked);
        // Defaults of a model built in code have not been checked yet; JSON has no infinity.
        EditRequest::from(settings.clone()).check()?;
        if let Some(block) = settings.blocks.iter().find(|&&block| block >= spec.blocks()) {
            return Err(EditError::option("blocks", format!("below {}", spec.blocks()), block));
        }
        if settings.hold.needs_mask() && !masked {
            let expected = "a mask for this policy";
            return Err(EditError::option("hold", expected, format!("{} alone", settings.hold)));
        }
        if request.keyword.as_ref().is_some_and(|keyword| *keyword != KeywordPolicy::All)
            && !settings.needs_scores()
        {
            let expected = "a hold policy that looks where the words are (auto, 0.3, …)";
            return Err(EditError::option("keyword", expected, format!("hold {}", settings.hold)));
        }
        Ok(settings)
    }
}

/// The blocks whose attention locates an edit where neither request nor model names any: those that the
/// official code documents for its model, else all single blocks.
pub fn default_blocks(spec: &TransformerSpec) -> Vec<usize> {
    match spec.blocks() {
        OFFICIAL_BLOCK_COUNT => OFFICIAL_BLOCKS.collect(),
        blocks => (spec.double_blocks..blocks).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_between_threads_can_be() {
        fn shared<T: Send + Sync + 'static>() {}
        fn sent<T: Send + 'static>() {}
        shared::<Editor>();
        shared::<OpenPhoto>();
        shared::<EditRequest>();
        shared::<EditError>();
        sent::<EditResult>();
        sent::<EditorBuilder>();
    }
}
