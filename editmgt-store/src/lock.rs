use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::StoreError;

/// Whether a folder is locked before it is written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Locking {
    /// Locked.
    #[default]
    Required,
    /// Not locked: the user guarantees a single writer. For file systems without locks.
    Off,
}

/// Options for opening the folder of a run or a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunAccess {
    /// Whether to resume an existing run.
    pub resume: bool,
    /// Whether to lock it.
    pub locking: Locking,
}

/// `true` resumes; locked.
impl From<bool> for RunAccess {
    fn from(resume: bool) -> Self {
        Self { resume, locking: Locking::Required }
    }
}

/// An advisory lock, held by the operating system: it ends with the process, so it cannot become
/// stale.
#[derive(Debug)]
pub struct FolderLock(Option<File>);

impl FolderLock {
    /// Locks the file `path`, created if needed, exclusively.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::NoLocks`], [`StoreError::Io`].
    pub fn exclusive(path: impl AsRef<Path>, locking: Locking) -> Result<Self, StoreError> {
        Self::with(path.as_ref(), locking, File::try_lock)
    }

    /// Locks the file `path`, shared with other shared locks.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::NoLocks`], [`StoreError::Io`].
    pub fn shared(path: impl AsRef<Path>, locking: Locking) -> Result<Self, StoreError> {
        Self::with(path.as_ref(), locking, File::try_lock_shared)
    }

    fn with(
        path: &Path,
        locking: Locking,
        lock: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, StoreError> {
        if locking == Locking::Off {
            return Ok(Self(None));
        }
        // The file has no contents, so it is never truncated.
        let file = OpenOptions::new().read(true).create(true).append(true).open(path);
        let file = file.map_err(StoreError::io(path))?;
        match lock(&file) {
            Ok(()) => Ok(Self(Some(file))),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
            // The errors of `flock` without lock support: ENOSYS, ENOTSUP, ENOLCK, EINVAL, by file
            // system.
            Err(TryLockError::Error(cause)) => {
                Err(StoreError::NoLocks { path: path.to_owned(), cause })
            }
        }
    }

    /// No lock.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether there is a lock.
    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_lock_is_refused_while_another_has_it_unless_locks_are_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let first = FolderLock::exclusive(&path, Locking::Required).unwrap();
        let second = FolderLock::exclusive(&path, Locking::Required);
        assert!(matches!(second, Err(StoreError::Locked { .. })));
        assert!(!FolderLock::exclusive(&path, Locking::Off).unwrap().is_held());
        drop(first);
        let shared = [(); 2].map(|()| FolderLock::shared(&path, Locking::Required).unwrap());
        assert!(FolderLock::exclusive(&path, Locking::Required).is_err());
        drop(shared);
        FolderLock::exclusive(&path, Locking::Required).unwrap();
    }

    #[test]
    fn a_file_system_without_locks_is_named_with_the_way_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        for kind in [io::ErrorKind::Unsupported, io::ErrorKind::InvalidInput, io::ErrorKind::Other]
        {
            let lock = |_: &File| Err(TryLockError::Error(kind.into()));
            let error = FolderLock::with(&path, Locking::Required, lock).unwrap_err().to_string();
            assert!(error.contains("no locks") && error.contains("--no-lock"), "{error}");
            FolderLock::with(&path, Locking::Off, lock).unwrap();
        }
    }
}
