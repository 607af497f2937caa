use std::ffi::OsStr;

/// Whether a file of this name is a sidecar file of an operating system or program: `._*` and
/// `.DS_Store` of macOS, `Thumbs.db` and `desktop.ini` of Windows, `@eaDir` of NAS devices, and
/// every other name that begins with a dot.
///
/// They are ignored in folders of models, photos and data sets.
pub fn is_sidecar(name: impl AsRef<OsStr>) -> bool {
    let name = name.as_ref().to_string_lossy();
    let known = ["thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx"];
    name.starts_with('.') || known.iter().any(|known| name.eq_ignore_ascii_case(known))
}
