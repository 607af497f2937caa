use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::StoreError;

/// Syncs the names in a folder to disk. Does nothing if the system does not support it (Windows,
/// some network file systems).
///
/// # Errors
/// [`StoreError::Io`] for a missing folder or a failing disk.
pub fn sync_folder(dir: impl AsRef<Path>) -> Result<(), StoreError> {
    #[cfg(unix)]
    {
        let dir = if dir.as_ref().as_os_str().is_empty() { Path::new(".") } else { dir.as_ref() };
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        allow_unsupported(synced).map_err(StoreError::io(dir))
    }
    #[cfg(not(unix))]
    {
        let _no_such_call = dir;
        Ok(())
    }
}

/// Syncs a file's contents to disk, if the file system supports it.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    allow_unsupported(file.sync_all())
}

/// Syncs an open file's contents to disk, if the file system supports it.
///
/// # Errors
/// [`StoreError::Io`] for a failing disk.
pub fn sync_log(path: impl AsRef<Path>, file: &File) -> Result<(), StoreError> {
    sync_file(file).map_err(StoreError::io(path.as_ref()))
}

fn allow_unsupported(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        // File systems without such a call, and folders that are writable but not readable.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// Syncs every file and folder below `from`, and renames it to `to`, which must be missing or an
/// empty folder. The new name is synced to disk when this returns.
///
/// # Errors
/// [`StoreError::Io`].
pub fn publish_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    sync_tree(from)?;
    // Windows does not rename over an empty folder.
    if to.is_dir() {
        std::fs::remove_dir(to).map_err(StoreError::io(to))?;
    }
    std::fs::rename(from, to).map_err(StoreError::io(to))?;
    sync_folder(crate::target::folder_of(to))
}

fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(dir).map_err(StoreError::io(dir))? {
        let entry = entry.map_err(StoreError::io(dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(StoreError::io(&path))?;
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            // Windows only syncs files that are open for writing.
            let file = std::fs::OpenOptions::new().read(true).append(true).open(&path);
            file.and_then(|file| sync_file(&file)).map_err(StoreError::io(&path))?;
        }
    }
    sync_folder(dir)
}
