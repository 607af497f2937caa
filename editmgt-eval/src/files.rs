use std::io::Write;
use std::path::Path;

use crate::EvalError;

/// Writes a file that appears when it is complete, in place of one that may be there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), EvalError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".editmgt-").suffix(".tmp");
    // Temporary files are private by default; a result gets what the user's umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir).map_err(EvalError::io(dir))?;
    file.write_all(bytes).map_err(EvalError::io(path))?;
    file.persist(path).map_err(|e| EvalError::io(path)(e.error))?;
    Ok(())
}
