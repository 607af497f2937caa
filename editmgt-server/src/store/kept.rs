//! What is kept, and what is removed to make room.

use std::collections::HashMap;
use std::sync::Arc;

use super::{StoredMask, StoredPhoto};
use crate::disk::Disk;
use crate::edit::Edit;
use crate::error::ApiError;
use crate::sync::lock;

#[derive(Default)]
pub(super) struct Kept {
    pub(super) photos: HashMap<String, Arc<StoredPhoto>>,
    pub(super) masks: HashMap<String, Arc<StoredMask>>,
    pub(super) edits: HashMap<String, Arc<Edit>>,
    /// Edits so far.
    pub(super) serial: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) photos: usize,
    pub(crate) edits: usize,
    pub(crate) bytes: usize,
}

impl Kept {
    pub(super) fn usage(&self) -> Usage {
        let photos: usize = self.photos.values().map(|photo| photo.bytes()).sum();
        let masks: usize = self.masks.values().map(|mask| mask.bytes()).sum();
        let edits: usize = self.edits.values().map(|edit| edit.bytes()).sum();
        Usage { photos: self.photos.len(), edits: self.edits.len(), bytes: photos + masks + edits }
    }

    pub(super) fn edits_of(&self, photo: &str) -> Vec<Arc<Edit>> {
        let edits = self.edits.values().filter(|edit| edit.photo.id == photo);
        let mut edits: Vec<_> = edits.cloned().collect();
        edits.sort_by_key(|edit| edit.serial);
        edits
    }

    /// Whether an edit of this photo waits or runs.
    pub(super) fn is_busy(&self, photo: &str) -> bool {
        self.edits.values().any(|edit| edit.photo.id == photo && !edit.status().has_ended())
    }

    /// Removes a photo, its masks and its edits; gives the edits.
    pub(super) fn remove(&mut self, photo: &str, disk: Option<&Disk>) -> Vec<Arc<Edit>> {
        let is_saved = self.photos.remove(photo).is_some_and(|photo| photo.is_saved());
        if let Some(disk) = disk.filter(|_| is_saved) {
            disk.remove_photo(photo);
        }
        self.masks.retain(|_, mask| mask.photo != photo);
        let removed = self.edits_of(photo);
        self.edits.retain(|_, edit| edit.photo.id != photo);
        removed
    }

    /// Removes what was used least recently until `fits`; spares the photo `spared` and the edits
    /// that wait or run.
    pub(super) fn make_room(
        &mut self,
        spared: Option<&str>,
        disk: Option<&Disk>,
        fits: impl Fn(&Usage) -> bool,
    ) -> Result<(), ApiError> {
        while !fits(&self.usage()) {
            let others = self.photos.values().filter(|photo| Some(&*photo.id) != spared);
            let idle = others.filter(|photo| !self.is_busy(&photo.id));
            let oldest = idle.min_by_key(|photo| *lock(&photo.used)).map(|photo| photo.id.clone());
            if let Some(oldest) = oldest {
                self.remove(&oldest, disk);
                continue;
            }
            let ended = self.edits.values().filter(|edit| edit.status().has_ended());
            let oldest = ended.min_by_key(|edit| edit.serial).cloned();
            let Some(oldest) = oldest else { return Err(ApiError::storage_full()) };
            self.edits.remove(&oldest.id);
            if let Some(disk) = disk.filter(|_| oldest.photo.is_saved()) {
                disk.remove_edit(&oldest.photo.id, &oldest.id);
            }
        }
        Ok(())
    }
}
