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
//! Every file is written under a temporary name, synced and renamed; only the user may read the
//! folders. A folder without its JSON, which is written last, was not finished. What was not
//! finished, is damaged or has another name is not read, and logged; of it, only folders of photos
//! are removed, once they are as old as photos may be.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
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

/// Permissions of folders.
#[cfg(unix)]
const PRIVATE: u32 = 0o700;

const PHOTO: &str = "photo";
const PHOTO_JSON: &str = "photo.json";
const MASKS: &str = "masks";
const EDITS: &str = "edits";
const EDIT_JSON: &str = "edit.json";
const RESULT: &str = "result.png";
const MAP: &str = "map.png";
/// Most bytes of a JSON file; the reports of thousands of steps have less than 1 MB.
const JSON_BYTES: usize = 16 << 20;

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
    pub(crate) multiple: NonZeroUsize,
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
        private_folder(&photos).map_err(StoreError::io(&photos))?;
        // Others could read it where it was there before.
        #[cfg(unix)]
        fs::set_permissions(&photos, fs::Permissions::from_mode(PRIVATE))
            .map_err(StoreError::io(&photos))?;
        let lock = FolderLock::exclusive(folder.join("lock"), Locking::Required)?;
        Ok(Self { photos, _lock: lock })
    }

    fn photo(&self, id: &str) -> PathBuf {
        self.photos.join(id)
    }

    fn edit(&self, photo: &str, id: &str) -> PathBuf {
        self.photo(photo).join(EDITS).join(id)
    }

    /// Writes a photo's file, as it was uploaded.
    ///
    /// # Errors
    /// Status 507 where the disk is full, 500 where it can't be written for another reason.
    pub(crate) fn save_photo(&self, id: &str, name: &str, file: &[u8]) -> Result<(), ApiError> {
        let folder = self.photo(id);
        for inner in [MASKS, EDITS] {
            new_folder(&folder.join(inner))?;
        }
        write(&folder.join(PHOTO), file)?;
        write(&folder.join(PHOTO_JSON), &json(&PhotoJson { name: name.to_owned() })?)
    }

    /// Writes the levels of a mask.
    ///
    /// # Errors
    /// As [`save_photo`](Self::save_photo).
    pub(crate) fn save_mask(&self, photo: &str, id: &str, png: &[u8]) -> Result<(), ApiError> {
        write(&self.photo(photo).join(MASKS).join(format!("{id}.png")), png)
    }

    /// Writes a result; gives it as one that can be read again.
    ///
    /// # Errors
    /// As [`save_photo`](Self::save_photo).
    pub(crate) fn save_edit(
        &self,
        edit: &Edit,
        multiple: NonZeroUsize,
        result: &EditResult,
        images: &Images,
    ) -> Result<Archive, ApiError> {
        let folder = self.edit(&edit.photo.id, &edit.id);
        new_folder(&folder)?;
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

    /// The photos that were used within `keep`, the longest unused first; removes the others.
    pub(crate) fn photos(&self, keep: Duration) -> Vec<SavedPhoto> {
        let mut photos = Vec::new();
        for id in ids(&self.photos) {
            let folder = self.photo(&id);
            let path = folder.join(PHOTO_JSON);
            let read = parsed(&path).and_then(|json| Ok((json, age(&path)?)));
            let old = match read {
                Ok((PhotoJson { name }, age)) if age <= keep => {
                    photos.push(SavedPhoto { id, name, age });
                    continue;
                }
                Ok(_) => true,
                Err(error) => {
                    ignored(&folder, &error);
                    age(&folder).is_ok_and(|age| age > keep)
                }
            };
            if old {
                self.remove_photo(&id);
            }
        }
        photos.sort_by_key(|photo| Reverse(photo.age));
        photos
    }

    /// The file of a photo.
    ///
    /// # Errors
    /// That of the system; one for a file of more than `limit` bytes.
    pub(crate) fn file(&self, photo: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_file(&self.photo(photo).join(PHOTO), limit)
    }

    /// The masks of a photo of which each has `limit` bytes at most.
    pub(crate) fn masks(&self, photo: &str, limit: usize) -> Vec<(String, Vec<u8>)> {
        let mut masks = Vec::new();
        for name in names(&self.photo(photo).join(MASKS)) {
            let path = self.photo(photo).join(MASKS).join(&name);
            let Some(id) = name.strip_suffix(".png").filter(|id| is_id(id)) else {
                ignored(&path, &"not the name of a mask");
                continue;
            };
            match read_file(&path, limit) {
                Ok(png) => masks.push((id.to_owned(), png)),
                Err(error) => ignored(&path, &error),
            }
        }
        masks
    }

    /// The edits of a photo in the order of their starts.
    pub(crate) fn edits(&self, photo: &str) -> Vec<(String, SavedEdit, Archive)> {
        let mut edits = Vec::new();
        for id in ids(&self.photo(photo).join(EDITS)) {
            let folder = self.edit(photo, &id);
            let read = || -> io::Result<(SavedEdit, usize)> {
                let mut bytes = 0;
                for name in [RESULT, MAP, EDIT_JSON] {
                    bytes += fs::metadata(folder.join(name))?.len() as usize;
                }
                Ok((parsed(&folder.join(EDIT_JSON))?, bytes))
            };
            match read() {
                Ok((saved, bytes)) => {
                    let (record, report) = (saved.record.clone(), saved.report.clone());
                    let notes = saved.notes.clone();
                    edits.push((id, saved, Archive { folder, bytes, record, report, notes }));
                }
                Err(error) => ignored(&folder, &error),
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
    editmgt_store::write(path, bytes).map_err(ApiError::not_written)
}

/// Creates a folder and those it is in, readable by the user only.
fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(PRIVATE);
    builder.create(path)
}

fn new_folder(path: &Path) -> Result<(), ApiError> {
    private_folder(path).map_err(StoreError::io(path)).map_err(ApiError::not_written)
}

/// The contents of a file of `limit` bytes at most.
fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    // A pipe would never end.
    if !metadata.is_file() || metadata.len() > limit as u64 {
        return Err(io::Error::other(format!("expected a file of {limit} bytes at most")));
    }
    fs::read(path)
}

fn parsed<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&read_file(path, JSON_BYTES)?).map_err(io::Error::other)
}

/// Since a file or folder was changed.
fn age(path: &Path) -> io::Result<Duration> {
    let changed = fs::metadata(path)?.modified()?;
    // A clock that was set back makes nothing old.
    Ok(SystemTime::now().duration_since(changed).unwrap_or_default())
}

/// The names in a folder; none where it can't be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The ids that name folders, not links to them, in a folder.
fn ids(folder: &Path) -> Vec<String> {
    let mut names = names(folder);
    names.retain(|name| {
        let path = folder.join(name);
        let is_ours = is_id(name) && fs::symlink_metadata(&path).is_ok_and(|of| of.is_dir());
        if !is_ours {
            ignored(&path, &"not a folder of this server");
        }
        is_ours
    });
    names
}

fn ignored(path: &Path, reason: &dyn fmt::Display) {
    tracing::warn!(path = %path.display(), %reason, "ignored: not finished, damaged or foreign");
}

/// Removes a folder with all that is in it.
fn removed(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %folder.display(), %error, "not removed");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_status_507() {
        let error = write(Path::new("/dev/full"), b"pixels").unwrap_err();
        assert_eq!((error.status.as_u16(), error.body.code), (507, "disk_full"));
        let error = write(Path::new("/dev/null/photo"), b"pixels").unwrap_err();
        assert_eq!(error.status.as_u16(), 500);
    }
}
