//! Photos, masks and edits in memory, bounded in number, bytes and age.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use editmgt::{Mask, Photo};

use crate::edit::{Edit, NewEdit};
use crate::error::ApiError;
use crate::models::OpenIn;
use crate::options::ServerLimits;
use crate::sync::{lock, new_id};

/// An uploaded photo.
pub(crate) struct StoredPhoto {
    pub(crate) id: String,
    /// Of the file, for names of downloads; never a path.
    pub(crate) name: String,
    pub(crate) open: Arc<OpenIn>,
    /// When it or one of its edits was last asked for.
    used: Mutex<Instant>,
}

impl StoredPhoto {
    pub(crate) fn photo(&self) -> &Photo {
        self.open.photo()
    }

    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    fn bytes(&self) -> usize {
        let size = self.photo().size();
        // A copy of the pixels may be in the model's size, and tokens are few.
        (3 + usize::from(self.photo().alpha().is_some())) * size.height * size.width
    }
}

/// An uploaded mask.
pub(crate) struct StoredMask {
    pub(crate) id: String,
    pub(crate) photo: String,
    pub(crate) mask: Arc<Mask>,
}

impl StoredMask {
    fn bytes(&self) -> usize {
        let size = self.mask.size();
        size.height * size.width
    }
}

#[derive(Default)]
struct Kept {
    photos: HashMap<String, Arc<StoredPhoto>>,
    masks: HashMap<String, Arc<StoredMask>>,
    edits: HashMap<String, Arc<Edit>>,
    /// Edits so far.
    serial: u64,
}

/// All that is kept.
pub(crate) struct Store {
    kept: Mutex<Kept>,
    limits: ServerLimits,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) photos: usize,
    pub(crate) edits: usize,
    pub(crate) bytes: usize,
}

impl Kept {
    fn usage(&self) -> Usage {
        let photos: usize = self.photos.values().map(|photo| photo.bytes()).sum();
        let masks: usize = self.masks.values().map(|mask| mask.bytes()).sum();
        let edits: usize = self.edits.values().map(|edit| edit.bytes()).sum();
        Usage { photos: self.photos.len(), edits: self.edits.len(), bytes: photos + masks + edits }
    }

    fn edits_of(&self, photo: &str) -> Vec<Arc<Edit>> {
        let edits = self.edits.values().filter(|edit| edit.photo.id == photo);
        let mut edits: Vec<_> = edits.cloned().collect();
        edits.sort_by_key(|edit| edit.serial);
        edits
    }

    /// Whether an edit of this photo waits or runs.
    fn is_busy(&self, photo: &str) -> bool {
        self.edits.values().any(|edit| edit.photo.id == photo && !edit.status().has_ended())
    }

    /// Removes a photo, its masks and its edits; gives the edits.
    fn remove(&mut self, photo: &str) -> Vec<Arc<Edit>> {
        self.photos.remove(photo);
        self.masks.retain(|_, mask| mask.photo != photo);
        let removed = self.edits_of(photo);
        self.edits.retain(|_, edit| edit.photo.id != photo);
        removed
    }

    /// Removes what was used least recently until `fits`; spares the photo `spared` and the edits that wait or run.
    fn make_room(
        &mut self,
        spared: Option<&str>,
        fits: impl Fn(&Usage) -> bool,
    ) -> Result<(), ApiError> {
        while !fits(&self.usage()) {
            let others = self.photos.values().filter(|photo| Some(&*photo.id) != spared);
            let idle = others.filter(|photo| !self.is_busy(&photo.id));
            let oldest = idle.min_by_key(|photo| *lock(&photo.used)).map(|photo| photo.id.clone());
            if let Some(oldest) = oldest {
                self.remove(&oldest);
                continue;
            }
            let ended = self.edits.values().filter(|edit| edit.status().has_ended());
            let oldest = ended.min_by_key(|edit| edit.serial).map(|edit| edit.id.clone());
            match oldest {
                Some(oldest) => self.edits.remove(&oldest),
                None => return Err(ApiError::storage_full()),
            };
        }
        Ok(())
    }
}

impl Store {
    pub(crate) fn new(limits: ServerLimits) -> Self {
        Self { kept: Mutex::default(), limits }
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
        let used = Mutex::new(Instant::now());
        let photo = Arc::new(StoredPhoto { id: new_id()?, name, open, used });
        let limits = &self.limits;
        if photo.bytes() > limits.kept_bytes {
            let message = "the photo is larger than all that this server keeps";
            return Err(ApiError::too_large("kept_bytes", message));
        }
        let mut kept = lock(&self.kept);
        kept.make_room(None, |usage| {
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
        kept.make_room(Some(&photo.id), |usage| {
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
        kept.make_room(spared.as_deref(), |usage| usage.edits + count <= most)?;
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
        // One photo with its running edit may be more than all that may be kept: it stays until it is idle.
        let _too_much = lock(&self.kept).make_room(Some(&photo.id), |usage| usage.bytes <= most);
    }

    pub(crate) fn forget_edits(&self, edits: &[Arc<Edit>]) {
        let mut kept = lock(&self.kept);
        for edit in edits {
            kept.edits.remove(&edit.id);
        }
    }

    /// Removes a photo with its masks and edits, and gives the edits; `None` if there is no such photo.
    pub(crate) fn remove_photo(&self, id: &str) -> Option<Vec<Arc<Edit>>> {
        let mut kept = lock(&self.kept);
        kept.photos.contains_key(id).then(|| kept.remove(id))
    }

    /// Removes photos that were not used for `keep`, except those that are being edited.
    pub(crate) fn expire(&self, keep: Duration) {
        let mut kept = lock(&self.kept);
        let old = kept.photos.values().filter(|photo| lock(&photo.used).elapsed() > keep);
        let old: Vec<_> = old.map(|photo| photo.id.clone()).collect();
        for id in old {
            if !kept.is_busy(&id) {
                kept.remove(&id);
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
        photo.touch();
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
        edit.photo.touch();
        Ok(edit)
    }

    /// The edits of a photo in the order of their starts.
    pub(crate) fn edits_of(&self, photo: &StoredPhoto) -> Vec<Arc<Edit>> {
        lock(&self.kept).edits_of(&photo.id)
    }
}
