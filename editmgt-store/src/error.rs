use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be written, locked or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An I/O error, such as a full disk.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The output is a folder.
    #[error("{}: expected a file to write, got a folder", path.display())]
    IsFolder {
        /// The output.
        path: PathBuf,
    },
    /// The folder of the output does not exist.
    #[error("{}: the folder {} does not exist; create it first", path.display(), folder.display())]
    NoFolder {
        /// The output.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// The existing output is write-protected.
    #[error("{}: the file is read-only; make it writable or name another file", path.display())]
    ReadOnly {
        /// The output.
        path: PathBuf,
    },
    /// A loop of symbolic links, or too long a chain.
    #[error("{}: more than {max} symbolic links in a row", path.display())]
    LinkLoop {
        /// The first link.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// A folder that must be new or empty has files.
    #[error("{}: exists and is not empty; name a new folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// An output is the same file as an input.
    #[error(
        "{}: this is the {input} ({}), which the {output} would overwrite; name another file{hint}",
        path.display(), input_path.display()
    )]
    OverInput {
        /// The role of the output.
        output: Box<str>,
        /// The output's path.
        path: PathBuf,
        /// The role of the input.
        input: Box<str>,
        /// The input's path.
        input_path: PathBuf,
        /// A way to allow it, if there is one: begins with a comma.
        hint: Box<str>,
    },
    /// Two outputs are the same file.
    #[error(
        "{}: expected a separate file for the {output}, got that of the {other} ({})",
        path.display(), other_path.display()
    )]
    SameOutput {
        /// The second output.
        output: Box<str>,
        /// Its path.
        path: PathBuf,
        /// The first output.
        other: Box<str>,
        /// Its path.
        other_path: PathBuf,
    },
    /// Another process has locked the folder or the file.
    #[error("{}: locked by another process; wait for it or use another folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file system does not support locks.
    #[error(
        "{}: this file system has no locks ({cause}); with --no-lock it works without them, if \
         nothing else writes to the folder meanwhile",
        path.display()
    )]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A text in an unsupported encoding.
    #[error("{}: expected UTF-8, got {encoding}; save it as UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The detected encoding.
        encoding: &'static str,
    },
}

impl StoreError {
    /// Turns an I/O error into one that names the file.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |cause| Self::Io { path, cause }
    }
}
