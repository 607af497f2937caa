use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// Most symbolic links in a chain, as on Linux.
const MAX_LINKS: usize = 40;

/// The target of writing to a path: the file at the end of its symbolic links.
#[derive(Debug, Clone)]
pub struct Target {
    /// The path as given by the user.
    pub(crate) named: PathBuf,
    /// The resolved file; it may not exist yet.
    pub(crate) file: PathBuf,
    /// The folder of that file.
    pub(crate) folder: PathBuf,
    /// Its metadata, if it exists.
    pub(crate) existing: Option<Metadata>,
    /// A device, a pipe or an open file of the process: written to directly, not replaced.
    pub(crate) special: bool,
}

impl Target {
    /// Follows the links of `path` and checks that a file can be created there.
    ///
    /// # Errors
    /// [`StoreError::IsFolder`], [`StoreError::NoFolder`], [`StoreError::ReadOnly`],
    /// [`StoreError::LinkLoop`], [`StoreError::Io`].
    pub fn find(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let named = path.as_ref().to_owned();
        let existing = match std::fs::metadata(&named) {
            Ok(existing) => Some(existing),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            // A file in place of a folder: the folder is what is missing.
            Err(error) if error.kind() == ErrorKind::NotADirectory => None,
            Err(error) => return Err(link_error(&named, error)),
        };
        if existing.as_ref().is_some_and(Metadata::is_dir) {
            return Err(StoreError::IsFolder { path: named });
        }
        let end = follow(&named)?;
        let special = existing.as_ref().is_some_and(|existing| !existing.is_file())
            || end.open_file_of_process;
        let file = if special { named.clone() } else { end.file };
        let folder = folder_of(&file).to_owned();
        if !special {
            if !folder.is_dir() {
                return Err(StoreError::NoFolder { path: named, folder });
            }
            if existing.as_ref().is_some_and(|existing| existing.permissions().readonly()) {
                return Err(StoreError::ReadOnly { path: named });
            }
        }
        Ok(Self { named, file, folder, existing, special })
    }

    /// The resolved file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

fn link_error(path: &Path, error: std::io::Error) -> StoreError {
    if is_loop(&error) {
        StoreError::LinkLoop { path: path.to_owned(), max: MAX_LINKS }
    } else {
        StoreError::io(path)(error)
    }
}

/// `ErrorKind::FilesystemLoop` is not stable.
fn is_loop(error: &std::io::Error) -> bool {
    format!("{:?}", error.kind()) == "FilesystemLoop"
}

struct End {
    file: PathBuf,
    /// A link of `/proc` to an open file of the process, such as `/dev/stdout`.
    open_file_of_process: bool,
}

/// The end of the symbolic links that begin at `path`; it may not exist.
fn follow(path: &Path) -> Result<End, StoreError> {
    let mut file = path.to_owned();
    for _ in 0..=MAX_LINKS {
        match std::fs::read_link(&file) {
            Ok(_) if file.starts_with("/proc") || file.starts_with("/dev/fd") => {
                return Ok(End { file, open_file_of_process: true });
            }
            // An absolute target replaces the whole path.
            Ok(to) => file = folder_of(&file).join(to),
            Err(_no_link) => return Ok(End { file, open_file_of_process: false }),
        }
    }
    Err(StoreError::LinkLoop { path: path.to_owned(), max: MAX_LINKS })
}

/// The parent folder of a path.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
