use std::sync::Arc;

use editmgt_core::{EditObserver, Silent};
use editmgt_sampler::LoopStep;

use crate::editor::{EditResult, Editor};
use crate::error::{EditError, StoppedEdit};
use crate::photo::Photo;
use crate::request::EditRequest;
use crate::run::{Features, PhotoRun};

/// A photo that is edited more than once: its tokens (for each size) and the features of the last
/// texts are computed at the first edit and used again.
///
/// It owns what it needs (the editor's model and the photo are shared, not copied), and can be
/// shared between threads.
///
/// ```no_run
/// use editmgt::{EditRequest, Editor, Photo, Silent};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let editor = Editor::open("models/editmgt")?;
/// let photo = editor.open_photo(Photo::open("cat.jpg")?);
/// let request = EditRequest::new("make the cat black");
/// for result in photo.variations(&request, 4, &mut Silent) {
///     println!("variation {}", result?.report.settings.variation);
/// }
/// // The photo is not encoded again.
/// photo.edit("make the cat white")?;
/// # Ok(())
/// # }
/// ```
pub struct OpenPhoto {
    editor: Editor,
    photo: Arc<Photo>,
    features: Features,
}

impl OpenPhoto {
    pub(crate) fn new(editor: Editor, photo: Arc<Photo>) -> Self {
        Self { editor, photo, features: Features::default() }
    }

    /// The photo.
    pub fn photo(&self) -> &Photo {
        &self.photo
    }

    /// The editor that it was opened with.
    pub fn editor(&self) -> &Editor {
        &self.editor
    }

    /// As [`Editor::edit`]. A stage whose outcome is known already is not run: there are no events
    /// of it, and no seconds in the report.
    ///
    /// # Errors
    /// Those of [`Editor::edit`].
    pub fn edit(&self, request: impl Into<EditRequest>) -> Result<EditResult, EditError> {
        self.edit_observed(&request.into(), &mut Silent)
    }

    /// As [`Editor::edit_with`].
    ///
    /// # Errors
    /// Those of [`Editor::edit_with`].
    pub fn edit_with(
        &self,
        request: &EditRequest,
        mut observer: impl EditObserver,
    ) -> Result<EditResult, EditError> {
        self.edit_observed(request, &mut observer)
    }

    /// As [`Editor::edit_observed`].
    ///
    /// # Errors
    /// Those of [`Editor::edit_with`].
    pub fn edit_observed(
        &self,
        request: &EditRequest,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        self.run(request).run(None, observer)
    }

    /// Continues an edit that was stopped, from what [`EditError::Stopped`] has. With the same
    /// request the outcome is that of an edit that was never stopped. One that was stopped before
    /// its first step starts again.
    ///
    /// # Errors
    /// Those of [`edit_with`](Self::edit_with) and of [`LoopProgress::check`].
    ///
    /// [`LoopProgress::check`]: editmgt_core::LoopProgress::check
    pub fn resume(
        &self,
        request: &EditRequest,
        stopped: impl Into<StoppedEdit>,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        self.run(request).run(stopped.into().progress.map(|progress| *progress), observer)
    }

    /// As [`Editor::edit_visiting`], or as [`resume`](Self::resume) where `stopped` is given:
    /// `visit` gets each step in full, its attention included.
    ///
    /// # Errors
    /// Those of [`resume`](Self::resume).
    pub fn edit_visiting(
        &self,
        request: &EditRequest,
        stopped: Option<StoppedEdit>,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<EditResult, EditError> {
        let from = stopped.and_then(|stopped| stopped.progress).map(|progress| *progress);
        self.run(request).visited(from, observer, visit)
    }

    /// `n` edits of one seed, from [`EditRequest::variation`] on. Each is what a request for that
    /// variation alone gives. Nothing is computed before the iterator is asked; it continues after
    /// an error.
    pub fn variations<'a>(
        &'a self,
        request: &'a EditRequest,
        n: u32,
        observer: &'a mut dyn EditObserver,
    ) -> impl Iterator<Item = Result<EditResult, EditError>> + 'a {
        (0..n).map(move |i| {
            let variation = request.variation.checked_add(i).ok_or_else(|| {
                EditError::option("variation", "below 2^32", u64::from(request.variation) + 1)
            })?;
            self.edit_observed(&request.clone().variation(variation), &mut *observer)
        })
    }

    fn run<'a>(&'a self, request: &'a EditRequest) -> PhotoRun<'a> {
        let Self { editor, photo, features } = self;
        PhotoRun { editor, photo, request, features }
    }
}
