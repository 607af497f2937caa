//! A command's edits on a server: the same files as of edits here.

use std::error::Error as StdError;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use editmgt::{Mask, Photo, PhotoLimits, SaveOptions};
use serde_json::Value;

use super::{Ended, RemoteEdit, RemoteError, Server, options};
use crate::Outcome;
use crate::edit::Job;
use crate::files;
use crate::progress::Progress;
use crate::stop::StopSignal;

/// What is edited on a server.
pub(crate) struct RemoteRun<'a> {
    pub(crate) server: &'a Server,
    /// The photo's file, and the photo in it.
    pub(crate) path: &'a Path,
    pub(crate) photo: &'a Photo,
    pub(crate) mask: Option<&'a Mask>,
    pub(crate) limits: &'a PhotoLimits,
    pub(crate) jobs: &'a [Job],
}

impl RemoteRun<'_> {
    /// Checks that the jobs can be sent.
    ///
    /// # Errors
    /// [`RemoteError::Option`].
    pub(crate) fn check(&self, has_previews: bool) -> Result<(), RemoteError> {
        if has_previews {
            let why = "previews are written where the model runs".to_owned();
            return Err(RemoteError::Option { option: "--preview".to_owned(), why });
        }
        self.jobs.iter().try_for_each(|job| options::texts(&job.request).map(drop))
    }

    pub(crate) fn run(&self, progress: &mut Progress, start: Instant) -> Outcome {
        let photo = self.server.open(self.path, self.mask, progress)?;
        for job in self.jobs {
            let ended = photo.edit(&job.request, progress);
            progress.finish();
            match ended? {
                Ended::Done(edit) => self.write(job, &edit, progress, start)?,
                Ended::Stopped { completed, total } => {
                    let steps = format!("stopped by the caller after {completed} of {total} steps");
                    return Ok(StopSignal::stopped(&steps));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn write(
        &self,
        job: &Job,
        edit: &RemoteEdit,
        progress: &Progress,
        start: Instant,
    ) -> Result<(), Box<dyn StdError>> {
        let known: Vec<String> = self.photo.notes().iter().map(ToString::to_string).collect();
        for note in
            edit.notes.iter().filter(|note| !known.contains(note) && !note.starts_with("mask: "))
        {
            progress.note(&format!("{} {note}", self.path.display()));
        }
        let save = SaveOptions::default();
        let losses = self.photo.losses(&job.output, &save);
        for note in &losses {
            progress.note(&format!("{} {note}", self.path.display()));
        }
        match format_of(&job.output) {
            // The server's file has the record.
            Some(format) if job.record || format != "png" => {
                files::write(&job.output, self.server.result(edit, format)?)?;
            }
            _ => self.image(&self.server.result(edit, "png")?)?.save_with(&job.output, &save)?,
        }
        if let Some(map) = &job.map {
            let png = self.server.map(edit)?;
            match format_of(map) {
                Some("png") => files::write(map, png)?,
                _ => self.image(&png)?.save(map)?,
            }
        }
        if let Some(path) = &job.report {
            let mut report = edit.report.clone();
            if let (Some(notes), Value::Array(more)) =
                (report["notes"].as_array_mut(), serde_json::to_value(&losses)?)
            {
                notes.extend(more);
            }
            files::write(path, serde_json::to_vec_pretty(&report)?)?;
        }
        // The edit is written; a closed pipe is not an error.
        let _unread = writeln!(
            std::io::stdout(),
            "{}: seed {}, {:.1} s, {:.1}% of tokens held",
            job.output.display(),
            job.request.seed,
            start.elapsed().as_secs_f64(),
            100.0 * edit.report["tokens_held"].as_f64().unwrap_or_default(),
        );
        Ok(())
    }

    /// An image of the server's, which may be as large as the photo.
    fn image(&self, png: &[u8]) -> Result<Photo, Box<dyn StdError>> {
        Ok(Photo::from_bytes_within(png, self.limits)?)
    }
}

/// The server's name of a file's format; `None` for one that it does not write.
fn format_of(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "png" => Some("png"),
        "jpg" | "jpeg" => Some("jpeg"),
        "webp" => Some("webp"),
        "tif" | "tiff" => Some("tiff"),
        _ => None,
    }
}
