//! Small text files that are written whole or not at all.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use tempfile::NamedTempFile;

/// Checks that `path` can be written, and leaves nothing behind.
pub(crate) fn check_writable(path: &Path) -> Result<(), Box<dyn Error>> {
    temporary(path).map(drop)
}

/// Writes to a temporary file beside `path` and renames it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let error = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = temporary(path)?;
    file.write_all(bytes).map_err(error)?;
    file.persist(path).map_err(|e| error(e.error))?;
    Ok(())
}

fn temporary(path: &Path) -> Result<NamedTempFile, Box<dyn Error>> {
    if path.is_dir() {
        return Err(format!("{}: expected a file to write, got a folder", path.display()).into());
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let (path, folder) = (path.display(), folder.display());
        return Err(format!("{path}: the folder {folder} does not exist; create it first").into());
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".editmgt-").suffix(".tmp");
    // Temporary files are private by default; a report gets what the user's umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    Ok(builder.tempfile_in(folder).map_err(|e| format!("can't write {}: {e}", path.display()))?)
}
