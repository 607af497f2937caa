//! The two files that `torch.save` writes: a ZIP archive, and before PyTorch 1.6 pickles in a row.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::scan::{Budget, scan};
use crate::{CheckpointError, PickleError};

/// The entry of the archive that describes the tensors.
const PICKLE: &str = "data.pkl";
/// How the pickle of an old file starts: protocol 2, then PyTorch's magic number in ten bytes.
const OLD_START: [u8; 14] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// In an old file: magic number, version, system, tensors, and the order of their data.
const OLD_PICKLES: usize = 5;
/// Where a TAR archive has its magic bytes.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

/// Why a file is refused.
pub(super) enum Refusal {
    Io(io::Error),
    Pickle(PickleError),
}

impl Refusal {
    pub(super) fn of(self, path: &Path) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Self::Io(cause) => CheckpointError::Io { path, cause },
            Self::Pickle(cause) => CheckpointError::Pickle { path, cause },
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Pickle(PickleError::Truncated),
            _ => Self::Io(error),
        }
    }
}

impl From<PickleError> for Refusal {
    fn from(error: PickleError) -> Self {
        Self::Pickle(error)
    }
}

impl From<ZipError> for Refusal {
    fn from(error: ZipError) -> Self {
        match error {
            ZipError::Io(error) if error.raw_os_error().is_some() => Self::Io(error),
            error => Self::Pickle(PickleError::Zip(error.to_string())),
        }
    }
}

/// Scans the pickles of a file of `len` bytes, and refuses what `torch.save` doesn't write.
pub(super) fn check(file: &mut File, len: u64) -> Result<(), Refusal> {
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let (tar_at, tar_magic) = TAR_MAGIC;
    if start.starts_with(b"PK") {
        archive(file)
    } else if start.starts_with(&OLD_START) {
        let mut budget = Budget::new(len);
        let mut file = BufReader::new(file);
        for _ in 0..OLD_PICKLES {
            scan(&mut file, &mut budget)?;
        }
        Ok(())
    } else if start.get(tar_at..).is_some_and(|rest| rest.starts_with(tar_magic)) {
        Err(PickleError::Tar.into())
    } else {
        Err(PickleError::Format.into())
    }
}

/// Scans the pickle of a ZIP archive, in which no entry may be compressed.
fn archive(file: &mut File) -> Result<(), Refusal> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    let mut pickles = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let name = entry.name()?.into_owned();
        // A small compressed entry can fill any memory.
        if entry.compression() != CompressionMethod::Stored
            || entry.compressed_size() != entry.size()
        {
            return Err(PickleError::Compressed { entry: name }.into());
        }
        let folder = name.strip_suffix(PICKLE);
        if folder.is_some_and(|folder| folder.is_empty() || folder.ends_with('/')) {
            pickles.push(index);
        }
    }
    let [pickle] = pickles[..] else {
        return Err(PickleError::Pickles { count: pickles.len() }.into());
    };
    let entry = archive.by_index_raw(pickle)?;
    let mut budget = Budget::new(entry.size());
    scan(&mut BufReader::new(entry), &mut budget)
}
