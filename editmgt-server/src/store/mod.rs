//! Photos, masks and edits in memory, bounded in number, bytes and age.

mod kept;
mod photo;
mod restore;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use editmgt::{EditResult, Mask};

use kept::Kept;
pub(crate) use kept::Usage;
pub(crate) use photo::{StoredMask, StoredPhoto};

use crate::disk::{Archive, Disk, Images};
use crate::edit::{Edit, NewEdit};
use crate::error::ApiError;
use crate::models::{Models, OpenIn};
use crate::options::ServerLimits;
use crate::sync::{lock, new_id};

/// All that is kept.
pub(crate) struct Store {
    kept: Mutex<Kept>,
    limits: ServerLimits,
    disk: Option<Disk>,
}

impl Store {
    pub(crate) fn new(limits: ServerLimits, disk: Option<Disk>) -> Self {
        Self { kept: Mutex::default(), limits, disk }
    }

    /// The folder, where a photo's file is in it.
    pub(crate) fn disk_of(&self, photo: &StoredPhoto) -> Option<&Disk> {
        self.disk.as_ref().filter(|_| photo.is_saved())
    }

    /// Keeps a photo, and its file in the folder, where there is one.
    ///
    /// # Errors
    /// As [`add_photo`](Self::add_photo); status 507 where the disk is full, 500 where the file
    /// can't be written for another reason.
    pub(crate) fn add_saved_photo(
        &self,
        name: String,
        open: Arc<OpenIn>,
        file: &[u8],
    ) -> Result<Arc<StoredPhoto>, ApiError> {
        let Some(disk) = &self.disk else { return self.add_photo(name, open) };
        let id = new_id()?;
        // Before it is known, so that no other request finds it half written.
        let saved = disk.save_photo(&id, &name, file);
        let photo = StoredPhoto::new(id.clone(), name, open, Instant::now(), Some(file.len()));
        let added = saved.and_then(|()| self.add(photo));
        if added.is_err() {
            disk.remove_photo(&id);
        }
        added
    }

    /// Writes the result of an edit into the folder, where its photo is in it.
    ///
    /// # Errors
    /// Status 507 where the disk is full, 500 where it can't be written for another reason.
    pub(crate) fn archive(
        &self,
        edit: &Edit,
        result: &EditResult,
        models: &Models,
    ) -> Result<Option<Archive>, ApiError> {
        let Some(disk) = self.disk_of(&edit.photo) else { return Ok(None) };
        let multiple = models.get(edit.model, None)?.editor.model().pixels_per_cell();
        let images = Images::of(result, edit.source(models)?.photo())?;
        let multiple = NonZeroUsize::new(multiple)
            .ok_or_else(|| ApiError::internal("a model's cell has no pixels"))?;
        // An edit without its JSON is ignored at the next start, but takes room.
        let archive = disk
            .save_edit(edit, multiple, result, &images)
            .inspect_err(|_| disk.remove_edit(&edit.photo.id, &edit.id))?;
        // The photo may have been removed in the meantime.
        if self.photo_is_gone(&edit.photo.id) {
            disk.remove_photo(&edit.photo.id);
            return Ok(None);
        }
        Ok(Some(archive))
    }

    fn photo_is_gone(&self, id: &str) -> bool {
        !lock(&self.kept).photos.contains_key(id)
    }

    /// Keeps a photo.
    ///
    /// # Errors
    /// Status 429 where there is no room because all others are being edited.
    pub(crate) fn add_photo(
        &self,
        name: String,
        open: Arc<OpenIn>,
    ) -> Result<Arc<StoredPhoto>, ApiError> {
        self.add(StoredPhoto::new(new_id()?, name, open, Instant::now(), None))
    }

    fn add(&self, photo: StoredPhoto) -> Result<Arc<StoredPhoto>, ApiError> {
        let photo = Arc::new(photo);
        let limits = &self.limits;
        if photo.bytes() > limits.kept_bytes {
            let message = "the photo is larger than all that this server keeps";
            return Err(ApiError::too_large("kept_bytes", message));
        }
        let mut kept = lock(&self.kept);
        kept.make_room(None, self.disk.as_ref(), |usage| {
            usage.photos < limits.photos && usage.bytes + photo.bytes() <= limits.kept_bytes
        })?;
        kept.photos.insert(photo.id.clone(), Arc::clone(&photo));
        Ok(photo)
    }

    /// Keeps a mask of a photo.
    ///
    /// # Errors
    /// As [`add_photo`](Self::add_photo).
    pub(crate) fn add_mask(
        &self,
        photo: &StoredPhoto,
        mask: Arc<Mask>,
    ) -> Result<Arc<StoredMask>, ApiError> {
        let mask = Arc::new(StoredMask { id: new_id()?, photo: photo.id.clone(), mask });
        let mut kept = lock(&self.kept);
        // A photo has at most as many masks as edits, the oldest of which are unknown: refused.
        let count = kept.masks.values().filter(|other| other.photo == photo.id).count();
        if count >= self.limits.edits {
            return Err(ApiError::storage_full());
        }
        kept.make_room(Some(&photo.id), self.disk.as_ref(), |usage| {
            usage.bytes + mask.bytes() <= self.limits.kept_bytes
        })?;
        kept.masks.insert(mask.id.clone(), Arc::clone(&mask));
        Ok(mask)
    }

    /// Keeps edits, all or none.
    ///
    /// # Errors
    /// As [`add_photo`](Self::add_photo).
    pub(crate) fn add_edits(&self, edits: Vec<NewEdit>) -> Result<Vec<Arc<Edit>>, ApiError> {
        let mut kept = lock(&self.kept);
        let (count, most) = (edits.len(), self.limits.edits);
        let spared = edits.first().map(|edit| edit.photo.id.clone());
        kept.make_room(spared.as_deref(), self.disk.as_ref(), |usage| usage.edits + count <= most)?;
        let mut added = Vec::with_capacity(count);
        for edit in edits {
            kept.serial += 1;
            let edit = Arc::new(Edit::new(edit, kept.serial));
            kept.edits.insert(edit.id.clone(), Arc::clone(&edit));
            added.push(edit);
        }
        Ok(added)
    }

    /// Removes what was used least recently where a result has made it too much.
    pub(crate) fn trim(&self, photo: &StoredPhoto) {
        let most = self.limits.kept_bytes;
        // One photo with its running edit may be more than all that may be kept: it stays until it
        // is idle.
        let mut kept = lock(&self.kept);
        let disk = self.disk.as_ref();
        let _too_much = kept.make_room(Some(&photo.id), disk, |usage| usage.bytes <= most);
    }

    /// Removes a mask that could not be written.
    pub(crate) fn forget_mask(&self, id: &str) {
        lock(&self.kept).masks.remove(id);
    }

    pub(crate) fn forget_edits(&self, edits: &[Arc<Edit>]) {
        let mut kept = lock(&self.kept);
        for edit in edits {
            kept.edits.remove(&edit.id);
        }
    }

    /// Removes a photo with its masks and edits, and gives the edits; `None` if there is no such
    /// photo.
    pub(crate) fn remove_photo(&self, id: &str) -> Option<Vec<Arc<Edit>>> {
        let mut kept = lock(&self.kept);
        kept.photos.contains_key(id).then(|| kept.remove(id, self.disk.as_ref()))
    }

    /// Removes photos that were not used for `keep`, except those that are being edited.
    pub(crate) fn expire(&self, keep: Duration) {
        let mut kept = lock(&self.kept);
        let old = kept.photos.values().filter(|photo| lock(&photo.used).elapsed() > keep);
        let old: Vec<_> = old.map(|photo| photo.id.clone()).collect();
        for id in old {
            if !kept.is_busy(&id) {
                kept.remove(&id, self.disk.as_ref());
            }
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        lock(&self.kept).usage()
    }

    /// # Errors
    /// Status 404.
    pub(crate) fn photo(&self, id: &str) -> Result<Arc<StoredPhoto>, ApiError> {
        let photo = lock(&self.kept).photos.get(id).cloned();
        let photo = photo.ok_or_else(|| ApiError::not_found("photo"))?;
        photo.touch(self.disk.as_ref());
        Ok(photo)
    }

    /// The mask `id`; with `photo` only a mask of that photo.
    ///
    /// # Errors
    /// Status 404.
    pub(crate) fn mask(
        &self,
        id: &str,
        photo: Option<&StoredPhoto>,
    ) -> Result<Arc<StoredMask>, ApiError> {
        let mask = lock(&self.kept).masks.get(id).cloned();
        mask.filter(|mask| photo.is_none_or(|photo| photo.id == mask.photo))
            .ok_or_else(|| ApiError::not_found("mask"))
    }

    /// # Errors
    /// Status 404.
    pub(crate) fn edit(&self, id: &str) -> Result<Arc<Edit>, ApiError> {
        let edit = lock(&self.kept).edits.get(id).cloned();
        let edit = edit.ok_or_else(|| ApiError::not_found("edit"))?;
        edit.photo.touch(self.disk.as_ref());
        Ok(edit)
    }

    /// The edits of a photo in the order of their starts.
    pub(crate) fn edits_of(&self, photo: &StoredPhoto) -> Vec<Arc<Edit>> {
        lock(&self.kept).edits_of(&photo.id)
    }
}
