//! Checks and writes of small output files.

use std::error::Error;
use std::path::Path;

use editmgt_store::FileRoles;

/// Declares small text files that a command writes, and checks that they are writable and differ
/// from inputs and each other, without leaving anything behind.
///
/// # Errors
/// An error that names the file.
pub fn check_outputs<'a>(
    mut roles: FileRoles,
    outputs: impl IntoIterator<Item = (&'a str, Option<&'a Path>)>,
) -> Result<(), Box<dyn Error>> {
    for (what, path) in outputs {
        let Some(path) = path else { continue };
        editmgt_store::check_writable(path)?;
        roles.output(what, path)?;
    }
    Ok(())
}

/// Writes a small text file atomically.
///
/// # Errors
/// An error that names the file.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Box<dyn Error>> {
    Ok(editmgt_store::write(path, bytes)?)
}
