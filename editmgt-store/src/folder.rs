use std::fs::File;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::pending::{PREFIX, SUFFIX};
use crate::target::folder_of;
use crate::{StoreError, publish_folder, sync_folder};

/// A folder that is filled under a temporary name beside its target, and renamed to it when
/// complete. Dropping it earlier removes it.
#[derive(Debug)]
pub struct StagedFolder {
    staging: TempDir,
    target: PathBuf,
    /// Locked while the folder is in use, if the system supports locks.
    _lock: Option<File>,
}

impl StagedFolder {
    /// Begins a folder that becomes `target`, which must be missing or empty.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], [`StoreError::NoFolder`], [`StoreError::Io`].
    pub fn new(target: impl AsRef<Path>) -> Result<Self, StoreError> {
        let target = target.as_ref();
        if target.exists() {
            let mut entries = std::fs::read_dir(target).map_err(StoreError::io(target))?;
            if entries.next().is_some() {
                return Err(StoreError::NotEmpty { path: target.to_owned() });
            }
        }
        Self::replacing(target)
    }

    /// Begins a folder that becomes `target`, replacing an existing one.
    ///
    /// # Errors
    /// [`StoreError::NoFolder`], [`StoreError::Io`].
    pub fn replacing(target: impl AsRef<Path>) -> Result<Self, StoreError> {
        let target = target.as_ref().to_owned();
        let folder = folder_of(&target);
        if !folder.is_dir() {
            return Err(StoreError::NoFolder { folder: folder.to_owned(), path: target });
        }
        crate::remove_stale(folder);
        let staging = temporary_in(folder).map_err(StoreError::io(&target))?;
        // A folder that cannot be opened or locked is removed when it is old.
        let lock = File::open(staging.path()).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(Self { staging, target, _lock: lock })
    }

    /// The path for its files.
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Renames the folder to its target. Files and names are synced to disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Io`]; an earlier folder is then unchanged.
    pub fn publish(self) -> Result<PathBuf, StoreError> {
        let Self { staging, target, .. } = self;
        let filled = match std::fs::read_dir(&target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(_missing) => false,
        };
        // A non-empty folder cannot be replaced atomically: it is kept under a temporary name until
        // the new one is in place.
        let old = if filled {
            let old = temporary_in(folder_of(&target)).map_err(StoreError::io(&target))?;
            std::fs::rename(&target, old.path().join("old")).map_err(StoreError::io(&target))?;
            Some(old)
        } else {
            None
        };
        if let Err(error) = publish_folder(staging.path(), &target) {
            if let Some(old) = &old {
                let _as_it_was = std::fs::rename(old.path().join("old"), &target);
            }
            return Err(error);
        }
        // Renamed: nothing to remove.
        let _moved = staging.keep();
        if let Some(old) = old {
            old.close().map_err(StoreError::io(&target))?;
            sync_folder(folder_of(&target))?;
        }
        Ok(target)
    }
}

fn temporary_in(folder: &Path) -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary folders are private by default; a result gets the umask's permissions.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(folder)
}
