use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use editmgt_core::EditObserver;
use editmgt_store::panic_text;

use super::{BatchEntry, BatchError, BatchFolder, BatchJob};
use crate::editor::Editor;
use crate::error::EditError;
use crate::open::OpenPhoto;
use crate::photo::{Mask, Photo, PhotoError, PhotoLimits, SaveOptions};
use crate::record::EditRecord;
use crate::report::{EditReport, TextLeftOut};

/// Runs the jobs of a batch sequentially, and keeps the folder's manifest.
pub struct Batch<'a> {
    editor: Editor,
    folder: &'a mut BatchFolder,
    /// File extension of the results, which determines their format: `png` by default.
    pub extension: String,
    /// Size limits of photos and masks.
    pub limits: PhotoLimits,
    /// Options for writing results.
    pub save: SaveOptions,
    /// Whether a PNG gets the record of its edit ([`EditRecord`]); true by default.
    pub record: bool,
    /// The last photo: consecutive jobs often share it.
    open: Option<(PathBuf, OpenPhoto)>,
    /// See [`prompts_cut`](Self::prompts_cut).
    prompts_cut: Vec<TextLeftOut>,
}

impl<'a> Batch<'a> {
    /// A batch that writes into `folder`.
    ///
    /// # Errors
    /// [`BatchError::OtherModel`] when a result in the folder is another model's, or was made with
    /// other LoRA adapters. (The precision may differ.)
    pub fn new(editor: Editor, folder: &'a mut BatchFolder) -> Result<Self, BatchError> {
        folder.check_model(editor.model().source.as_ref())?;
        Ok(Self {
            editor,
            folder,
            extension: "png".to_owned(),
            limits: PhotoLimits::default(),
            save: SaveOptions::default(),
            record: true,
            open: None,
            prompts_cut: Vec::new(),
        })
    }

    /// Whether this job was done in an earlier run.
    pub fn is_done(&self, job: &BatchJob) -> bool {
        self.folder.is_done(job)
    }

    /// What encoders left out of the prompts of the last job: [`EditReport::prompts_cut`].
    pub fn prompts_cut(&self) -> &[TextLeftOut] {
        &self.prompts_cut
    }

    /// Runs a job, and records its outcome when its result is synced to disk. A panic in it, for
    /// instance in a backend, is a failed job, too (where panics unwind).
    ///
    /// # Errors
    /// Not those of the job, which are in the entry: [`BatchError::Stopped`] when the observer
    /// stops it, [`BatchError::Gone`], [`BatchError::Output`] and [`BatchError::Io`] when results
    /// cannot be written. The job is then not recorded.
    pub fn edit(
        &mut self,
        job: &BatchJob,
        observer: &mut dyn EditObserver,
    ) -> Result<BatchEntry, BatchError> {
        self.folder.check()?;
        self.prompts_cut.clear();
        let output = format!("{}.{}", job.name, self.extension);
        let mut entry = BatchEntry::failed(job);
        // Unwind safe: an edit does not change the model, a result appears under its name when
        // complete, and the cached photo is dropped.
        let made = panic::catch_unwind(AssertUnwindSafe(|| self.make(job, &output, observer)));
        let made = match made {
            Ok(made) => made,
            Err(panic) => {
                self.open = None;
                entry.error = Some(format!(
                    "internal error: {}; unless the device ran out of memory this is a bug: please \
                     report it",
                    panic_text(&*panic)
                ));
                self.folder.record(entry.clone())?;
                return Ok(entry);
            }
        };
        match made {
            Ok(report) => {
                self.prompts_cut = report.prompts_cut().cloned().collect();
                entry.set_output(self.folder.dir(), output)?;
                entry.report = serde_json::to_value(&report).ok();
            }
            Err(EditError::Stopped(stopped)) => {
                return Err(BatchError::Stopped(stopped));
            }
            Err(EditError::Photo(PhotoError::NoFolder { .. })) => {
                return Err(BatchError::Gone { dir: self.folder.dir().to_owned() });
            }
            Err(error @ EditError::Photo(PhotoError::Write { .. } | PhotoError::Store(_))) => {
                return Err(BatchError::Output(error));
            }
            Err(error) => entry.error = Some(error.to_string()),
        }
        self.folder.record(entry.clone())?;
        Ok(entry)
    }

    /// Records that a job failed before it could be edited, for instance because its photo could
    /// not be downloaded.
    ///
    /// # Errors
    /// As [`edit`](Self::edit).
    pub fn fail(&mut self, job: &BatchJob, error: String) -> Result<BatchEntry, BatchError> {
        self.folder.check()?;
        self.prompts_cut.clear();
        let entry = BatchEntry { error: Some(error), ..BatchEntry::failed(job) };
        self.folder.record(entry.clone())?;
        Ok(entry)
    }

    fn make(
        &mut self,
        job: &BatchJob,
        output: &str,
        observer: &mut dyn EditObserver,
    ) -> Result<EditReport, EditError> {
        if self.open.as_ref().is_none_or(|(path, _)| *path != job.photo) {
            // Drops the old one first: two photos need twice the memory.
            self.open = None;
            let photo = Photo::open_within(&job.photo, &self.limits)?;
            self.open = Some((job.photo.clone(), self.editor.open_photo(photo)));
        }
        let (_, photo) = self.open.as_ref().expect("opened above");
        let mut request = job.request.clone();
        if let Some(path) = &job.mask {
            request = request.mask(Mask::open_reading(path, job.mask_reads, &self.limits)?);
        }
        let mut result = photo.edit_observed(&request, observer)?;
        result.report.notes.extend(result.image.losses(output, &self.save));
        let mut save = self.save.clone();
        if self.record {
            save.text.push(EditRecord::from(&result.report).png_text());
        }
        result.image.save_with(self.folder.dir().join(output), &save)?;
        Ok(result.report)
    }
}
