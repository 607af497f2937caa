//! The files of one edit.

use std::error::Error as StdError;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use editmgt::{EditRecord, EditRequest, EditResult, Photo, PixelSize, SaveOptions, check_writable};
use indicatif::HumanBytes;

use crate::files;

/// One output file.
pub(crate) struct Job {
    pub(crate) request: EditRequest,
    pub(crate) output: PathBuf,
    pub(crate) report: Option<PathBuf>,
    pub(crate) map: Option<PathBuf>,
    pub(crate) record: bool,
    /// Prefix of its previews' names.
    pub(super) prefix: String,
}

impl Job {
    /// Checks that every file can be written.
    pub(super) fn check(&self, size: PixelSize) -> Result<(), Box<dyn StdError>> {
        let save = SaveOptions::default();
        check_writable(&self.output, size, &save)?;
        if let Some(report) = &self.report {
            editmgt_store::check_writable(report)?;
        }
        if let Some(map) = &self.map {
            check_writable(map, size, &save)?;
        }
        Ok(())
    }

    pub(super) fn write(
        &self,
        photo: &Photo,
        result: &EditResult,
        start: Instant,
    ) -> Result<(), Box<dyn StdError>> {
        let text = self.record.then(|| EditRecord::from(&result.report).png_text());
        let save = text.into_iter().fold(SaveOptions::default(), SaveOptions::with_text);
        result.image.save_with(&self.output, &save)?;
        if let Some(map) = &self.map {
            result.overlay(photo)?.save(map)?;
        }
        if let Some(report) = &self.report {
            files::write(report, serde_json::to_vec_pretty(&result.report)?)?;
        }
        let peak = result
            .report
            .peak_memory_bytes
            .map_or_else(String::new, |bytes| format!(", peak memory {}", HumanBytes(bytes)));
        // The edit is written; a closed pipe is not an error.
        let _unread = writeln!(
            std::io::stdout(),
            "{}: seed {}, {:.1} s, {:.1}% of tokens held{peak}",
            self.output.display(),
            self.request.seed,
            start.elapsed().as_secs_f64(),
            100.0 * result.report.tokens_held,
        );
        Ok(())
    }
}

/// `name.png` to `name-3.png`.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}
