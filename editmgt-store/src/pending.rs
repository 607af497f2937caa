use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::sync::sync_file;
use crate::{StoreError, Target, sync_folder};

/// Prefix and suffix of temporary file names.
pub(crate) const PREFIX: &str = ".editmgt-";
pub(crate) const SUFFIX: &str = ".tmp";

/// A file that is written under a temporary name beside its target, and renamed to it when
/// complete. Dropping it earlier removes it.
///
/// Symbolic links are followed: the file that the link names is replaced, the link stays. A new
/// file gets the umask's permissions, a replacement those of the earlier file. Devices and pipes
/// are written to when the file is complete.
#[derive(Debug)]
pub struct PendingFile {
    temporary: NamedTempFile,
    target: Target,
}

impl PendingFile {
    /// Begins a file that becomes `path`.
    ///
    /// # Errors
    /// Those of [`Target::find`]; [`StoreError::Io`] when the folder is not writable.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let target = Target::find(path)?;
        let temporary = if target.special {
            tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile()
        } else {
            temporary_in(&target.folder)
        };
        let temporary = temporary.map_err(StoreError::io(&target.named))?;
        Ok(Self { temporary, target })
    }

    /// The file, at its beginning.
    pub fn as_file_mut(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// The file, at its beginning.
    pub fn as_file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Renames the file to its target. File and name are synced to disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Io`]; an earlier file of this name is then unchanged.
    pub fn commit(self) -> Result<(), StoreError> {
        let Self { mut temporary, target } = self;
        let error = || StoreError::io(&target.named);
        if target.special {
            let mut to = OpenOptions::new().write(true).open(&target.file).map_err(error())?;
            temporary.as_file_mut().seek(SeekFrom::Start(0)).map_err(error())?;
            std::io::copy(temporary.as_file_mut(), &mut to).map_err(error())?;
            return to.flush().map_err(error());
        }
        if let Some(existing) = &target.existing {
            temporary.as_file().set_permissions(existing.permissions()).map_err(error())?;
        }
        // Some systems report a full disk only here.
        sync_file(temporary.as_file()).map_err(error())?;
        temporary.persist(&target.file).map_err(|e| error()(e.error))?;
        sync_folder(&target.folder)
    }
}

/// Writes a file atomically. See [`PendingFile`].
///
/// # Errors
/// Those of [`PendingFile`].
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<(), StoreError> {
    let path = path.as_ref();
    let mut file = PendingFile::create(path)?;
    file.as_file_mut().write_all(bytes.as_ref()).map_err(StoreError::io(path))?;
    file.commit()
}

/// Checks that `path` is writable, without leaving anything behind.
///
/// # Errors
/// Those of [`PendingFile::create`].
pub fn check_writable(path: impl AsRef<Path>) -> Result<(), StoreError> {
    PendingFile::create(path).map(drop)
}

/// A locked temporary file: one without a lock is stale.
fn temporary_in(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary files are private by default; an output gets the umask's permissions.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder)?;
        // Another process may consider it stale before it is locked, and remove it.
        match file.as_file().try_lock() {
            Err(TryLockError::WouldBlock) => {}
            _ if file.path().exists() => return Ok(file),
            _ => {}
        }
        if !folder.is_dir() {
            return Ok(file);
        }
    }
}
