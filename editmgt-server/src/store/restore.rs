//! Photos, masks and edits of an earlier run of the program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use editmgt::{Mask, MaskReading, Resize, Task};

use super::{Store, StoredMask, StoredPhoto, Usage};
use crate::api::decode_photo;
use crate::disk::{Archive, Disk, SavedEdit, SavedPhoto};
use crate::edit::{Edit, NewEdit};
use crate::error::{ApiError, Role};
use crate::models::Models;
use crate::options::ServerLimits;
use crate::sync::lock;

/// A mask from the levels that were written.
fn decode_mask_levels(png: &[u8], limits: &ServerLimits) -> Result<Mask, ApiError> {
    let image = decode_photo(png, limits, Role::Mask)?;
    Ok(Mask::from_photo(&image, MaskReading::Luma)?)
}

impl Store {
    /// Takes the photos and edits of an earlier run from the folder, as many as the limits allow;
    /// what has expired is removed, what can't be read is ignored.
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
}
