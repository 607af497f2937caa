use std::ffi::OsString;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::target::folder_of;

/// The file that a path refers to, whatever its spelling: with links resolved, and equal for all
/// hard links of an existing file. Equal identities are one file.
#[derive(Debug, Clone)]
pub struct FileIdentity {
    /// The resolved folder, and the name in it.
    pub(crate) place: (PathBuf, OsString),
    /// The file itself, if it exists.
    id: Option<FileId>,
}

#[cfg(unix)]
type FileId = (u64, u64);
#[cfg(not(unix))]
type FileId = std::sync::Arc<same_file::Handle>;

#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    // A device has no contents that could be lost: two outputs may both be /dev/null.
    let metadata = std::fs::metadata(path).ok().filter(|m| m.is_file() || m.is_dir())?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(path: &Path) -> Option<FileId> {
    same_file::Handle::from_path(path).ok().map(std::sync::Arc::new)
}

impl FileIdentity {
    /// The identity of the file that `path` refers to for writing or reading; it may not exist.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let end = end_of_links(path);
        let folder = folder_of(&end);
        let folder = std::fs::canonicalize(folder).or_else(|_| std::path::absolute(folder));
        let folder = folder.unwrap_or_else(|_: io::Error| folder_of(&end).to_owned());
        let name = end.file_name().map(ToOwned::to_owned).unwrap_or_default();
        Self { place: (folder, name), id: file_id(path) }
    }

    /// The identity of a file by itself, without its path.
    // A pair of numbers on Unix, a shared handle elsewhere.
    #[allow(clippy::clone_on_copy)]
    pub(crate) fn key(&self) -> IdentityKey {
        match &self.id {
            Some(id) => IdentityKey::File(id.clone()),
            None => IdentityKey::Place(self.place.clone()),
        }
    }
}

impl PartialEq for FileIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for FileIdentity {}

impl Hash for FileIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// An existing file is identified by itself, a missing one by its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum IdentityKey {
    File(FileId),
    Place((PathBuf, OsString)),
}

/// The end of a chain of links, which may not exist.
fn end_of_links(path: &Path) -> PathBuf {
    let mut end = path.to_owned();
    for _ in 0..40 {
        match std::fs::read_link(&end) {
            Ok(to) => end = folder_of(&end).join(to),
            Err(_no_link) => break,
        }
    }
    end
}
