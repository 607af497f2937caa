//! An uploaded photo or mask.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use editmgt::{Mask, Photo};

use crate::disk::Disk;
use crate::models::OpenIn;
use crate::sync::lock;

/// An uploaded photo.
pub(crate) struct StoredPhoto {
    pub(crate) id: String,
    /// Of the file, for names of downloads; never a path.
    pub(crate) name: String,
    pub(crate) open: Arc<OpenIn>,
    /// When it or one of its edits was last asked for.
    pub(super) used: Mutex<Instant>,
    /// The last use that the folder has.
    noted: Mutex<Instant>,
    /// Bytes of its file in the store's folder, where its results are, too; `None` where all is in
    /// memory only.
    file_bytes: Option<usize>,
}

/// Least time between two notes of the last use in the folder.
const NOTE_PAUSE: Duration = Duration::from_secs(30);

impl StoredPhoto {
    pub(super) fn new(
        id: String,
        name: String,
        open: Arc<OpenIn>,
        used: Instant,
        file_bytes: Option<usize>,
    ) -> Self {
        Self { id, name, open, used: Mutex::new(used), noted: Mutex::new(used), file_bytes }
    }

    pub(super) fn is_saved(&self) -> bool {
        self.file_bytes.is_some()
    }

    pub(crate) fn photo(&self) -> &Photo {
        self.open.photo()
    }

    pub(super) fn touch(&self, disk: Option<&Disk>) {
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

    pub(super) fn bytes(&self) -> usize {
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
    pub(super) fn bytes(&self) -> usize {
        let size = self.mask.size();
        size.height * size.width
    }
}
