use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::pending::{PREFIX, SUFFIX};

/// Age at which a temporary file is stale on a file system without locks.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Removes the temporary files and folders that killed processes left in `dir`; those of running
/// processes are locked and stay. Removal is best effort.
pub fn remove_stale(dir: impl AsRef<Path>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            continue;
        }
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        let Ok(file) = File::open(&path) else { continue };
        let stale = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_no_locks)) => metadata
                .modified()
                .ok()
                .and_then(|modified| SystemTime::now().duration_since(modified).ok())
                .is_some_and(|age| age > STALE),
        };
        if stale {
            let _stays =
                if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}
