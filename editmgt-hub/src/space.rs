//! Free space of a disk.

use std::path::Path;

/// Bytes that this user may still write to the disk of `path`, or of the nearest folder above that
/// exists. `None` where the system does not report it.
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|folder| folder.is_dir())?;
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(existing).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _no_safe_call = existing;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn reports_the_disk_of_the_nearest_existing_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(&dir.path().join("not/there/yet")).unwrap() > 0);
    }
}
