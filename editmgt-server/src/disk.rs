//! Photos and results in a folder, which survive the program.
//!
//! ```text
//! DIR/lock
//! DIR/photos/PHOTO/photo                  the file as it was uploaded
//!                  photo.json             its name; its time of change is the photo's last use
//!                  masks/MASK.png         the levels
//!                  edits/EDIT/result.png  with its record
//!                             map.png
//!                             edit.json   the rest
//! ```
//!
//! Every file is written under another name first. A folder without its JSON, which is written last, was not finished:
//! the next start removes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use editmgt::image::ImageFormat;
use editmgt::{EditRecord, EditResult, Photo, SaveOptions};
use editmgt_store::{FolderLock, Locking, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::edit::{Edit, notes_of};
use crate::error::ApiError;
use crate::sync::is_id;

const PHOTO: &str = "photo";
const PHOTO_JSON: &str = "photo.json";
const MASKS: &str = "masks";
const EDITS: &str = "edits";
const EDIT_JSON: &str = "edit.json";
const RESULT: &str = "result.png";
const MAP: &str = "map.png";

/// The folder.
pub(crate) struct Disk {
    photos: PathBuf,
    _lock: FolderLock,
}

#[derive(Serialize, Deserialize)]
struct PhotoJson {
    name: String,
}

/// An edit in its folder, without its images.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedEdit {
    pub(crate) serial: u64,
    pub(crate) model: String,
    /// Granularity of the model's image, pixels.
    pub(crate) multiple: usize,
    pub(crate) base: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) mask: Option<String>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) record: EditRecord,
    pub(crate) report: Value,
    pub(crate) notes: Vec<String>,
}

/// A photo in its folder.
pub(crate) struct SavedPhoto {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) file: Vec<u8>,
    /// Since its last use.
    pub(crate) age: Duration,
}

/// The images of a result.
pub(crate) struct Images {
    result: Vec<u8>,
    map: Vec<u8>,
}

impl Images {
    /// Encodes the images of a result; `photo` is what was edited.
    ///
    /// # Errors
    /// Status 500 where one can't be encoded.
    pub(crate) fn of(result: &EditResult, photo: &Photo) -> Result<Self, ApiError> {
        let save = SaveOptions::default().with_text(EditRecord::from(&result.report).png_text());
        Ok(Self {
            result: result.image.encode_with(ImageFormat::Png, &save)?,
            map: result.overlay(photo)?.encode(ImageFormat::Png)?,
        })
    }
}

/// A result in its folder.
pub(crate) struct Archive {
    folder: PathBuf,
    pub(crate) bytes: usize,
    pub(crate) record: EditRecord,
    pub(crate) report: Value,
    pub(crate) notes: Vec<String>,
}

impl Archive {
    fn read(&self, name: &str) -> Result<Vec<u8>, ApiError> {
        fs::read(self.folder.join(name)).map_err(ApiError::internal)
    }

    /// The result as a PNG with its record.
    ///
    /// # Errors
    /// Status 500 where it can't be read.
    pub(crate) fn result(&self) -> Result<Vec<u8>, ApiError> {
        self.read(RESULT)
    }

    /// The map as a PNG.
    ///
    /// # Errors
    /// Status 500 where it can't be read.
    pub(crate) fn map(&self) -> Result<Vec<u8>, ApiError> {
        self.read(MAP)
    }
}

impl Disk {
    /// Opens a folder, created if needed.
    ///
    /// # Errors
    /// [`StoreError`]: another server uses it, it can't be written.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let photos = folder.join("photos");
        fs::create_dir_all(&photos).map_err(StoreError::io(&photos))?;
        let lock = FolderLock::exclusive(folder.join("lock"), Locking::Required)?;
        Ok(Self { photos, _lock: lock })
    }

    fn photo(&self, id: &str) -> PathBuf {
        self.photos.join(id)
    }

    fn edit(&self, photo: &str, id: &str) -> PathBuf {
        self.photo(photo).join(EDITS).join(id)
    }

    pub(crate) fn save_photo(&self, id: &str, name: &str, file: &[u8]) -> Result<(), ApiError> {
        let folder = self.photo(id);
        for inner in [MASKS, EDITS] {
            fs::create_dir_all(folder.join(inner)).map_err(ApiError::internal)?;
        }
        write(&folder.join(PHOTO), file)?;
        write(&folder.join(PHOTO_JSON), &json(&PhotoJson { name: name.to_owned() })?)
    }

    pub(crate) fn save_mask(&self, photo: &str, id: &str, png: &[u8]) -> Result<(), ApiError> {
        write(&self.photo(photo).join(MASKS).join(format!("{id}.png")), png)
    }

    /// Writes a result; gives it as one that can be read again.
    pub(crate) fn save_edit(
        &self,
        edit: &Edit,
        multiple: usize,
        result: &EditResult,
        images: &Images,
    ) -> Result<Archive, ApiError> {
        let folder = self.edit(&edit.photo.id, &edit.id);
        fs::create_dir_all(&folder).map_err(ApiError::internal)?;
        let saved = SavedEdit {
            serial: edit.serial,
            model: edit.model_name.clone(),
            multiple,
            base: edit.base.as_ref().map(|base| base.id.clone()),
            parent: edit.parent.clone(),
            mask: edit.mask.as_ref().map(|mask| mask.id.clone()),
            options: edit.options.clone(),
            record: EditRecord::from(&result.report),
            // Through text, so that a number of 32 bits has as few digits as it needs.
            report: serde_json::from_slice(&json(&result.report)?).map_err(ApiError::internal)?,
            notes: notes_of(result),
        };
        write(&folder.join(RESULT), &images.result)?;
        write(&folder.join(MAP), &images.map)?;
        let text = json(&saved)?;
        write(&folder.join(EDIT_JSON), &text)?;
        let bytes = images.result.len() + images.map.len() + text.len();
        let SavedEdit { record, report, notes, .. } = saved;
        Ok(Archive { folder, bytes, record, report, notes })
    }

    /// Removes a photo with its masks and edits.
    pub(crate) fn remove_photo(&self, id: &str) {
        removed(&self.photo(id));
    }

    pub(crate) fn remove_edit(&self, photo: &str, id: &str) {
        removed(&self.edit(photo, id));
    }

    /// Notes that a photo was used.
    pub(crate) fn touch(&self, photo: &str) {
        let path = self.photo(photo).join(PHOTO_JSON);
        let now = || File::options().write(true).open(&path)?.set_modified(SystemTime::now());
        if let Err(error) = now() {
            tracing::warn!(photo, %error, "the time of the last use was not noted");
        }
    }

    /// The photos that are there, the longest unused first; what is not whole is removed.
    pub(crate) fn photos(&self) -> Vec<SavedPhoto> {
        let mut photos = Vec::new();
        for id in names(&self.photos) {
            let folder = self.photo(&id);
            let read = || -> io::Result<SavedPhoto> {
                let path = folder.join(PHOTO_JSON);
                let PhotoJson { name } = parsed(&path)?;
                let used = fs::metadata(&path)?.modified()?;
                // A clock that was set back makes nothing old.
                let age = SystemTime::now().duration_since(used).unwrap_or_default();
                let file = fs::read(folder.join(PHOTO))?;
                Ok(SavedPhoto { id: id.clone(), name, file, age })
            };
            match read() {
                Ok(photo) if is_id(&id) => photos.push(photo),
                _ => unreadable(&folder),
            }
        }
        photos.sort_by_key(|photo| std::cmp::Reverse(photo.age));
        photos
    }

    /// The masks of a photo.
    pub(crate) fn masks(&self, photo: &str) -> Vec<(String, Vec<u8>)> {
        let folder = self.photo(photo).join(MASKS);
        let mask = |name: String| {
            let id = name.strip_suffix(".png").filter(|id| is_id(id))?.to_owned();
            Some((id, fs::read(folder.join(name)).ok()?))
        };
        names(&folder).into_iter().filter_map(mask).collect()
    }

    /// The edits of a photo in the order of their starts; what is not whole is removed.
    pub(crate) fn edits(&self, photo: &str) -> Vec<(String, SavedEdit, Archive)> {
        let mut edits = Vec::new();
        for id in names(&self.photo(photo).join(EDITS)) {
            let folder = self.edit(photo, &id);
            let read = || -> io::Result<(SavedEdit, usize)> {
                let size =
                    |name| Ok::<_, io::Error>(fs::metadata(folder.join(name))?.len() as usize);
                let bytes = size(RESULT)? + size(MAP)? + size(EDIT_JSON)?;
                Ok((parsed(&folder.join(EDIT_JSON))?, bytes))
            };
            match read() {
                Ok((saved, bytes)) if is_id(&id) => {
                    let archive = Archive {
                        folder,
                        bytes,
                        record: saved.record.clone(),
                        report: saved.report.clone(),
                        notes: saved.notes.clone(),
                    };
                    edits.push((id, saved, archive));
                }
                _ => unreadable(&folder),
            }
        }
        edits.sort_by_key(|(_, saved, _)| saved.serial);
        edits
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(ApiError::internal)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ApiError> {
    editmgt_store::write(path, bytes).map_err(ApiError::internal)
}

fn parsed<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// The names in a folder; none where it can't be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn unreadable(folder: &Path) {
    tracing::warn!(folder = %folder.display(), "removed: it is damaged, or was not finished");
    removed(folder);
}

fn removed(path: &Path) {
    let outcome = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "not removed");
    }
}
