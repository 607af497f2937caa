use std::sync::Arc;

use editmgt_core::{EditObserver, LoopProgress};

use crate::editor::{EditResult, Editor};
use crate::error::EditError;
use crate::photo::{Mask, Photo};
use crate::request::EditRequest;
use crate::run::{EditRun, Features};

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
/// let editor = Editor::builder("models/editmgt").build()?;
/// let photo = editor.open(Photo::open("cat.jpg")?);
/// let request = EditRequest::new("make the cat black");
/// for result in photo.variations(None, &request, 4, &mut Silent) {
///     println!("variation {}", result?.report.settings.variation);
/// }
/// // The photo is not encoded again.
/// photo.edit(None, &EditRequest::new("make the cat white"), &mut Silent)?;
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
    pub fn edit(
        &self,
        mask: Option<&Mask>,
        request: &EditRequest,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        self.run(mask, request).run(None, observer)
    }

    /// Goes on with an edit that was stopped, from the `progress` of
    /// [`Error::Stopped`](editmgt_core::Error::Stopped). With the same mask and request the
    /// outcome is that of an edit that was never stopped.
    ///
    /// # Errors
    /// Those of [`edit`](Self::edit) and of [`LoopProgress::check`].
    pub fn resume(
        &self,
        mask: Option<&Mask>,
        request: &EditRequest,
        progress: LoopProgress,
        observer: &mut dyn EditObserver,
    ) -> Result<EditResult, EditError> {
        self.run(mask, request).run(Some(progress), observer)
    }

    /// `n` edits of one seed, from [`EditRequest::variation`] on. Each is what a request for that
    /// variation alone gives. Nothing is computed before it is asked for; the iterator goes on
    /// after an error.
    pub fn variations<'a>(
        &'a self,
        mask: Option<&'a Mask>,
        request: &'a EditRequest,
        n: u32,
        observer: &'a mut dyn EditObserver,
    ) -> impl Iterator<Item = Result<EditResult, EditError>> + 'a {
        (0..n).map(move |i| {
            let variation = request.variation.checked_add(i).ok_or_else(|| {
                EditError::option("variation", "below 2^32", u64::from(request.variation) + 1)
            })?;
            self.edit(mask, &EditRequest { variation, ..request.clone() }, &mut *observer)
        })
    }

    fn run<'a>(&'a self, mask: Option<&'a Mask>, request: &'a EditRequest) -> EditRun<'a> {
        let Self { editor, photo, features } = self;
        EditRun { editor, photo, mask, request, features }
    }
}
