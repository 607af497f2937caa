//! From a photo and an instruction to an edited photo.

use std::borrow::Borrow;
use std::path::Path;
use std::sync::Arc;

use editmgt_core::{EditObserver, HoldMask, ScoreMap, Silent, TokenGrid};
use editmgt_sampler::LoopStep;

use crate::builder::{EditorBuilder, FORWARD_BATCH, Origin};
use crate::custom::CustomStages;
use crate::error::{EditError, ModelError};
use crate::lora::LoraUse;
use crate::model::base::Adapters;
use crate::model::{Model, ModelOrigin};
use crate::open::OpenPhoto;
use crate::photo::{ChangeMask, Overlay, Photo};
use crate::report::EditReport;
use crate::request::{EditRequest, EditSettings, KeywordPolicy, ModelFacts, Task, default_blocks};
use crate::run::{Batched, Features, PhotoRun};

/// Edits photos with one loaded model. Can be shared between threads; edits don't change it, and a
/// clone is the same model.
#[derive(Clone)]
pub struct Editor {
    pub(crate) model: Arc<Model>,
    pub(crate) adapters: Adapters,
    pub(crate) custom: CustomStages,
    /// Most photos of a forward pass.
    pub(crate) forward_batch: usize,
    /// Most bytes of packed weights that an edit with cached steps keeps; `None` for a share of the
    /// memory that is available.
    pub(crate) packed_weights: Option<usize>,
    /// Whether components are read when they are needed.
    pub(crate) low_memory: bool,
}

/// An edited photo and how it came about.
#[derive(Debug)]
#[non_exhaustive]
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
        let extended;
        let photo = match self.report.settings.task {
            Task::Outpaint(margins) => {
                (extended, _) = photo.extended(margins)?;
                &extended
            }
            Task::Edit | Task::Inpaint => photo,
        };
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
    /// Loads the model in `folder` with the default options: on the first device of this build, in
    /// the dtype that suits it. See [`builder`](Self::builder) for others.
    ///
    /// # Errors
    /// Those of [`EditorBuilder::build`].
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, EditError> {
        Self::builder(folder).build()
    }

    /// Starts loading the model in `folder`; see [`ModelFolder`](crate::ModelFolder) for the
    /// layouts. With the feature `hub` it may be a model's name, too, which is looked up in the
    /// hub's cache: see [`ModelFolder::open`](crate::ModelFolder::open).
    pub fn builder(folder: impl AsRef<Path>) -> EditorBuilder {
        Origin::Folder(ModelOrigin::new(folder)).builder()
    }

    /// Starts loading the small model that is part of the program: it edits drawn scenes of a world
    /// of its own, and shows with nothing downloaded how everything works.
    #[cfg(feature = "embedded")]
    pub fn embedded() -> EditorBuilder {
        Origin::Embedded.builder()
    }

    /// Starts an editor without a folder: codec, text encoder and transformer are your own.
    ///
    /// ```no_run
    /// # use editmgt::{MgtTransformer, TextEncoder, VqCodec};
    /// use editmgt::{EditDefaults, Editor, Photo};
    ///
    /// # fn edit(
    /// #     my_codec: impl VqCodec + 'static,
    /// #     my_encoder: impl TextEncoder + 'static,
    /// #     my_transformer: impl MgtTransformer + 'static,
    /// # ) -> Result<(), editmgt::EditError> {
    /// let mut defaults = EditDefaults::default();
    /// defaults.steps = Some(12);
    /// let editor = Editor::from_parts()
    ///     .codec(my_codec)
    ///     .text(my_encoder)
    ///     .transformer(my_transformer)
    ///     .defaults(defaults)
    ///     .build()?;
    /// editor.edit(&Photo::open("cat.jpg")?, "make the cat black")?.image.save("out.png")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_parts() -> EditorBuilder {
        Origin::Parts.builder()
    }

    /// An editor over a model that was put together by hand. [`from_parts`](Self::from_parts) asks
    /// for less.
    ///
    /// # Errors
    /// [`ModelError::Disagree`] when the parts don't belong together.
    pub fn new(model: Model) -> Result<Self, ModelError> {
        model.check()?;
        let (model, custom) = (Arc::new(model), CustomStages::default());
        Ok(Self {
            model,
            adapters: Adapters::Unsupported,
            custom,
            forward_batch: FORWARD_BATCH,
            // The model may load its weights on demand, to have few of them in memory.
            packed_weights: Some(0),
            low_memory: false,
        })
    }

    /// The same editor with these LoRA adapters in the place of those that it has, or with none.
    /// The model is not loaded again: all editors that are made of one share its weights, except
    /// those of layers that an adapter is added to, of which each editor has its own. Edits are
    /// those of an editor that was built with these adapters.
    ///
    /// With [`low_memory`](EditorBuilder::low_memory) the folder is opened again.
    ///
    /// ```no_run
    /// use editmgt::{Editor, Photo};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let editor = Editor::open("models/editmgt")?;
    /// let photo = Photo::open("cat.jpg")?;
    /// for adapter in ["adapters/watercolor", "adapters/sketch:0.8"] {
    ///     let editor = editor.with_loras(&[adapter.parse()?])?;
    ///     let result = editor.edit(&photo, "paint the cat")?;
    ///     println!("{}", result.report.model.expect("it is a folder's model"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EditError::Model`] for an adapter that is malformed or for another model, and where the
    /// folder has changed; [`EditError::Option`] for a transformer of your own.
    pub fn with_loras(&self, loras: &[LoraUse]) -> Result<Self, EditError> {
        let model = self.adapters.model(&self.model, loras)?;
        let model = model.map_or_else(|| self.model.clone(), Arc::new);
        Ok(Self { model, ..self.clone() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether attention must be captured.
    pub(crate) fn needs_scores(&self, settings: &EditSettings) -> bool {
        match &self.custom.hold {
            // What stays of an inpainting is known, not held.
            Some(_) if settings.task.is_inpainting() => settings.score_map,
            Some(hold) if !settings.hold.is_custom() || settings.hold.lacks_custom_hold() => {
                settings.score_map || hold.needs_scores()
            }
            _ => settings.needs_scores(),
        }
    }

    /// The stages that were replaced.
    pub(crate) fn custom(&self) -> &CustomStages {
        &self.custom
    }

    /// Edits a photo.
    ///
    /// ```no_run
    /// use editmgt::{Editor, Photo};
    ///
    /// # fn main() -> Result<(), editmgt::EditError> {
    /// let editor = Editor::open("models/editmgt")?;
    /// editor.edit(&Photo::open("cat.jpg")?, "make the cat black")?.image.save("out.png")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Several edits of one photo: [`open_photo`](Self::open_photo). Several photos:
    /// [`edit_batch`](Self::edit_batch).
    ///
    /// # Errors
    /// [`EditError`]: an option out of range, a keyword that is not in the instruction, a stage
    /// that failed.
    pub fn edit(
        &self,
        photo: &Photo,
        request: impl Into<EditRequest>,
    ) -> Result<EditResult, EditError> {
        self.edit_observed(photo, &request.into(), &mut Silent)
    }

    /// Edits a photo, and calls `observer` with each event, on this thread, in order: stages that
    /// begin and end, steps, and previews where [`Previews`](crate::Previews) asks for them.
    ///
    /// ```no_run
    /// use editmgt::{EditError, EditEvent, EditRequest, Editor, Flow, Photo};
    ///
    /// # fn late() -> bool { false }
    /// # fn main() -> Result<(), EditError> {
    /// # let editor = Editor::open("models/editmgt")?;
    /// # let photo = Photo::open("cat.jpg")?;
    /// let request = EditRequest::new("make the cat black");
    /// let outcome = editor.edit_with(&photo, &request, |event: &EditEvent<'_>| {
    ///     if let EditEvent::Step { completed, total, .. } = event {
    ///         println!("{completed} of {total}");
    ///     }
    ///     if late() { Flow::Stop } else { Flow::Continue }
    /// });
    /// match outcome {
    ///     Err(EditError::Stopped(stopped)) => println!("stopped after {}", stopped.completed),
    ///     outcome => outcome?.image.save("out.png")?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`edit`](Self::edit); [`EditError::Stopped`] when the observer returns
    /// [`Flow::Stop`](crate::Flow::Stop).
    pub fn edit_with(
        &self,
        photo: &Photo,
        request: &EditRequest,
        mut observer: impl EditObserver,
    ) -> Result<EditResult, EditError> {
        self.edit_observed(photo, request, &mut observer)
    }

    /// [`edit_with`](Self::edit_with) for an observer behind a reference.
    ///
    /// # Errors
    /// Those of [`edit_with`](Self::edit_with).
    pub fn edit_observed(
        &self,
        photo: &Photo,
        request: &EditRequest,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        let features = Features::default();
        PhotoRun { editor: self, photo, request, features: &features }.run(None, observer)
    }

    /// Edits several photos: those that follow each other and can share the transformer's forward
    /// passes do, up to [`EditorBuilder::forward_batch`] at once.
    ///
    /// Photos share a pass when their token grids are of one size and their requests agree in
    /// steps, guidance, strength, temperature, holds and localisation, and have no mask.
    /// Instructions, seeds and variations may differ. Each result is that of [`edit`](Self::edit),
    /// up to rounding in the last digits of the logits. Nothing is computed before the iterator is
    /// asked; results come in the order of the edits, and it continues after an error.
    ///
    /// ```no_run
    /// use editmgt::{EditRequest, Editor, Photo};
    ///
    /// # fn main() -> Result<(), editmgt::EditError> {
    /// # let editor = Editor::open("models/editmgt")?;
    /// let photos = [Photo::open("cat.jpg")?, Photo::open("dog.jpg")?];
    /// let request = EditRequest::new("make it black");
    /// for (i, result) in editor.edit_batch(photos.iter().map(|p| (p, &request))).enumerate() {
    ///     result?.image.save(format!("{i}.png"))?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Each result: those of [`edit`](Self::edit).
    pub fn edit_batch<P, R>(
        &self,
        edits: impl IntoIterator<Item = (P, R)>,
    ) -> impl Iterator<Item = Result<EditResult, EditError>>
    where
        P: Borrow<Photo>,
        R: Into<EditRequest>,
    {
        Batched::new(self, edits.into_iter(), self.forward_batch)
    }

    /// As [`edit_observed`](Self::edit_observed); `visit` gets each step in full: logits,
    /// attention, scores, held tokens.
    ///
    /// # Errors
    /// Those of [`edit_with`](Self::edit_with).
    pub fn edit_visiting(
        &self,
        photo: &Photo,
        request: &EditRequest,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<EditResult, EditError> {
        let features = Features::default();
        let run = PhotoRun { editor: self, photo, request, features: &features };
        run.visited(None, observer, visit)
    }

    /// Opens a photo for several edits, variations, and edits that stop and continue: its tokens
    /// and the features of a text are computed once.
    pub fn open_photo(&self, photo: impl Into<Arc<Photo>>) -> OpenPhoto {
        OpenPhoto::new(self.clone(), photo.into())
    }

    /// Every option in force for a request to this model.
    ///
    /// # Errors
    /// [`EditError::Option`]: an option out of range, a block that the model does not have, a
    /// policy that needs a mask where there is none, or a keyword although nothing is held by
    /// score.
    pub fn settings(&self, request: &EditRequest) -> Result<EditSettings, EditError> {
        request.check()?;
        let spec = self.model.transformer.spec();
        let facts = ModelFacts {
            size: self.model.native_side(),
            blocks: default_blocks(spec),
            coarser: if spec.grid_factor > 1 { spec.grid_factor } else { 0 },
            script: self.model.script_defaults(request.task),
        };
        let settings = request.resolve(&self.model.defaults, facts);
        // Defaults of a model built in code have not been checked yet; JSON has no infinity.
        EditRequest::from(settings.clone()).check()?;
        if let Some(block) = settings.blocks.iter().find(|&&block| block >= spec.blocks()) {
            return Err(EditError::option("blocks", format!("below {}", spec.blocks()), block));
        }
        request.check_mask(request.mask.is_some())?;
        let has_reference = self.model.conditions_on_photo();
        let strength = request.reference_strength.filter(|&strength| strength != 1.0);
        if let Some(strength) = strength.filter(|_| settings.task != Task::Edit && !has_reference) {
            let expected = "1 with an inpainting by a model that was not trained to edit";
            return Err(EditError::option("reference_strength", expected, strength));
        }
        if settings.task == Task::Edit && settings.hold.needs_mask() && request.mask.is_none() {
            let expected = "a mask for this policy";
            return Err(EditError::option("hold", expected, format!("{} alone", settings.hold)));
        }
        if request.keyword.as_ref().is_some_and(|keyword| *keyword != KeywordPolicy::All)
            && !self.needs_scores(&settings)
        {
            let expected = "a hold policy that looks where the words are (auto, 0.3, …)";
            return Err(EditError::option("keyword", expected, format!("hold {}", settings.hold)));
        }
        Ok(settings)
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
