//! Photos, masks and edits in memory, bounded in number, bytes and age.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use editmgt::{EditResult, Mask, MaskReading, Photo, Resize, Task};

use crate::api::decode_photo;
use crate::disk::{Archive, Disk, Images, SavedEdit, SavedPhoto};
use crate::edit::{Edit, NewEdit};
use crate::error::{ApiError, Role};
use crate::models::{Models, OpenIn};
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
    /// The last use that the folder has.
    noted: Mutex<Instant>,
    /// Bytes of its file in the store's folder, where its results are, too; `None` where all is in memory only.
    file_bytes: Option<usize>,
}

/// Least time between two notes of the last use in the folder.
const NOTE_PAUSE: Duration = Duration::from_secs(30);

impl StoredPhoto {
    fn new(
        id: String,
        name: String,
        open: Arc<OpenIn>,
        used: Instant,
        file_bytes: Option<usize>,
    ) -> Self {
        Self { id, name, open, used: Mutex::new(used), noted: Mutex::new(used), file_bytes }
    }

    fn is_saved(&self) -> bool {
        self.file_bytes.is_some()
    }

    pub(crate) fn photo(&self) -> &Photo {
        self.open.photo()
    }

    fn touch(&self, disk: Option<&Disk>) {
        let now = Instant::now();
        *lock(&self.used) = now;
        let Some(disk) = disk.filter(|_| self.is_saved()) else { return };
        {
            let mut noted = lock(&self.noted);
            if now.saturating_duration_since(*noted) <= NOTE_PAUSE {
                return;
            }
            *noted = now;
        }
        disk.touch(&self.id);
    }

    fn bytes(&self) -> usize {
        let size = self.photo().size();
        // A copy of the pixels may be in the model's size, and tokens are few.
        let pixels = (3 + usize::from(self.photo().alpha().is_some())) * size.height * size.width;
        pixels + self.file_bytes.unwrap_or(0)
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
    disk: Option<Disk>,
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
    fn remove(&mut self, photo: &str, disk: Option<&Disk>) -> Vec<Arc<Edit>> {
        let is_saved = self.photos.remove(photo).is_some_and(|photo| photo.is_saved());
        if let Some(disk) = disk.filter(|_| is_saved) {
            disk.remove_photo(photo);
        }
        self.masks.retain(|_, mask| mask.photo != photo);
        let removed = self.edits_of(photo);
        self.edits.retain(|_, edit| edit.photo.id != photo);
        removed
    }

    /// Removes what was used least recently until `fits`; spares the photo `spared` and the edits that wait or run.
    fn make_room(
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

/// A mask from the levels that were written.
fn decode_mask_levels(png: &[u8], limits: &ServerLimits) -> Result<Mask, ApiError> {
    let image = decode_photo(png, limits, Role::Mask)?;
    Ok(Mask::from_photo(&image, MaskReading::Luma)?)
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
    /// As [`add_photo`](Self::add_photo); status 507 where the disk is full, 500 where the file can't be written for
    /// another reason.
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

    /// Takes the photos and edits of an earlier run from the folder, as many as the limits allow; what has expired is
    /// removed, what can't be read is ignored.
    pub(crate) fn restore(&self, models: &Models, keep: Duration) {
        let Some(disk) = &self.disk else { return };
        let limits = &self.limits;
        let fits = |usage: &Usage| usage.edits <= limits.edits && usage.bytes <= limits.kept_bytes;
        let mut room = Ok(());
        for saved in disk.photos(keep) {
            let id = saved.id.clone();
            if let Err(error) = self.restore_photo(disk, models, saved) {
                let error = &error.body.message;
                tracing::warn!(photo = id, error, "a photo was not restored");
            }
            room = lock(&self.kept).make_room(Some(&id), Some(disk), fits);
        }
        if room.is_err() {
            // The masks of the last photo are too many. Nothing runs yet: it can be removed.
            let _fits = lock(&self.kept).make_room(None, Some(disk), fits);
        }
    }

    fn restore_photo(
        &self,
        disk: &Disk,
        models: &Models,
        saved: SavedPhoto,
    ) -> Result<(), ApiError> {
        let SavedPhoto { id, name, age } = saved;
        let limits = &self.limits;
        let file = disk.file(&id, limits.photo_bytes).map_err(ApiError::internal)?;
        let photo = decode_photo(&file, limits, Role::Photo)?;
        let open = models.openable(Arc::new(photo));
        let used = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        let added = self.add(StoredPhoto::new(id.clone(), name, open, used, Some(file.len())));
        // Larger than all that is kept: it would never fit.
        let photo = added.inspect_err(|_| disk.remove_photo(&id))?;
        // As large as the photo at most, and PNG stores what it can't compress.
        let mask_bytes = 2 * photo.bytes() + (1 << 16);
        for (id, png) in disk.masks(&photo.id, mask_bytes) {
            match decode_mask_levels(&png, limits) {
                Ok(mask) => {
                    let (id, photo) = (id.clone(), photo.id.clone());
                    let mask = Arc::new(StoredMask { id, photo, mask: Arc::new(mask) });
                    lock(&self.kept).masks.insert(mask.id.clone(), mask);
                }
                Err(error) => {
                    let error = &error.body.message;
                    tracing::warn!(mask = id, error, "a mask was not restored");
                }
            }
        }
        for (id, saved, archive) in disk.edits(&photo.id) {
            if let Err(error) = self.restore_edit(models, &photo, &id, saved, archive) {
                let error = &error.body.message;
                tracing::warn!(edit = id, error, "an edit was not restored");
            }
        }
        Ok(())
    }

    fn restore_edit(
        &self,
        models: &Models,
        photo: &Arc<StoredPhoto>,
        id: &str,
        saved: SavedEdit,
        archive: Archive,
    ) -> Result<(), ApiError> {
        let SavedEdit { serial, model, multiple, base, parent, mask, options, record, .. } = saved;
        let model = models.find(Some(&model))?;
        // Not by `self.edit` and `self.mask`, which are uses of the photo.
        let (base, mask) = {
            let kept = lock(&self.kept);
            let base_of = |id: String| kept.edits.get(&id).filter(|base| base.photo.id == photo.id);
            let mask_of = |id: String| kept.masks.get(&id).filter(|mask| mask.photo == photo.id);
            let base =
                base.map(|id| base_of(id).cloned().ok_or_else(|| ApiError::not_found("edit")));
            let mask =
                mask.map(|id| mask_of(id).cloned().ok_or_else(|| ApiError::not_found("mask")));
            (base.transpose()?, mask.transpose()?)
        };
        let (mut request, settings) = (record.request, record.settings);
        request.mask = mask.as_ref().map(|mask| Arc::clone(&mask.mask));
        let size = match settings.task {
            Task::Outpaint(margins) => margins.canvas(photo.photo().size())?,
            Task::Edit | Task::Inpaint => photo.photo().size(),
        };
        let area = match &request.mask {
            Some(mask) if settings.resize == Resize::Mask => Some(mask.bounds(size)?),
            _ => None,
        };
        let plan = settings.resize.plan(size, area, settings.size, multiple.get())?;
        let new = NewEdit {
            id: id.to_owned(),
            photo: Arc::clone(photo),
            model,
            model_name: models.name(model).to_owned(),
            base,
            parent,
            mask,
            look: false,
            request,
            options,
            settings,
            plan,
            resume: None,
            previews: false,
        };
        let edit = Arc::new(Edit::restored(new, serial, archive));
        let mut kept = lock(&self.kept);
        kept.serial = kept.serial.max(serial);
        kept.edits.insert(edit.id.clone(), edit);
        Ok(())
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
        // One photo with its running edit may be more than all that may be kept: it stays until it is idle.
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

    /// Removes a photo with its masks and edits, and gives the edits; `None` if there is no such photo.
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
