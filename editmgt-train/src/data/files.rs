//! Image files of a row, shared by the folder and JSON Lines formats.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use editmgt::photo::{Photo, PhotoError};

use super::hash::Fingerprint;
use super::row::{EachImages, ImageReader, PairImages};
use super::{Skip, SkipCause};
use crate::run::TrainError;

/// The files of a row.
pub(super) struct ImageFiles {
    pub(super) before: PathBuf,
    pub(super) after: PathBuf,
    pub(super) mask: Option<PathBuf>,
}

impl ImageFiles {
    /// Changes when any of the files does: path, length, modification time.
    pub(super) fn stamp(&self) -> Result<u64, Skip> {
        let mut stamp = Fingerprint::default();
        for path in [&self.before, &self.after].into_iter().chain(&self.mask) {
            stamp.add(file_stamp(path).map_err(|e| missing(path, &e))?);
        }
        Ok(stamp.number())
    }
}

/// Path, length and modification time of a file.
pub(super) fn file_stamp(path: &Path) -> std::io::Result<[u8; 32]> {
    let metadata = std::fs::metadata(path)?;
    // A system without modification times leaves the length.
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let nanoseconds = changed.unwrap_or_default().as_nanos();
    let path = std::path::absolute(path)?;
    Ok(Fingerprint::default()
        .with(path.as_os_str().as_encoded_bytes())
        .with(metadata.len().to_le_bytes())
        .with(nanoseconds.to_le_bytes())
        .bytes())
}

/// Reads the files of row `i` from entry `i`.
pub(super) struct FileReader(pub(super) Vec<ImageFiles>);

impl ImageReader for FileReader {
    fn read(&self, wanted: &[usize], each: &mut EachImages<'_>) -> Result<(), TrainError> {
        wanted.iter().try_for_each(|&row| each(row, pictures(&self.0[row])))
    }
}

fn pictures(files: &ImageFiles) -> Result<PairImages, Skip> {
    Ok(PairImages {
        before: open(&files.before)?,
        after: open(&files.after)?,
        mask: files.mask.as_deref().map(open).transpose()?,
    })
}

fn open(path: &Path) -> Result<Photo, Skip> {
    Photo::open(path).map_err(|error| match error {
        PhotoError::Read { cause, .. } => missing(path, &cause),
        error => Skip::new(SkipCause::CorruptImage, error),
    })
}

/// An I/O error may be transient, unlike a damaged image.
fn missing(path: &Path, error: &std::io::Error) -> Skip {
    let path = path.display();
    Skip::new(
        SkipCause::MissingImage,
        match error.kind() {
            ErrorKind::NotFound => format!("there is no {path}"),
            _ => format!("{path}: {error}"),
        },
    )
}
