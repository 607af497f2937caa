use std::ffi::OsStr;

/// Whether a file of this name was put there by a system or a program and not by the user:
/// `._*` and `.DS_Store` of macOS, `Thumbs.db` and `desktop.ini` of Windows, `@eaDir` of NAS
/// devices, and every other name that begins with a dot.
///
/// Folders of models, photos and data sets are read without them.
pub fn is_sidecar(name: impl AsRef<OsStr>) -> bool {
    let name = name.as_ref().to_string_lossy();
    let known = ["thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx"];
    name.starts_with('.') || known.iter().any(|known| name.eq_ignore_ascii_case(known))
}
