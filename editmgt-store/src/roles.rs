use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::identity::IdentityKey;
use crate::pending::{PREFIX, SUFFIX};
use crate::{FileIdentity, StoreError};

/// Depth to which input folders are searched.
const MAX_DEPTH: usize = 8;

/// The files that a command reads and writes. Detects, before any work, an output that is an input
/// or another output, by file identity rather than by name.
///
/// ```
/// use editmgt_store::FileRoles;
///
/// let folder = tempfile::tempdir()?;
/// let photo = folder.path().join("photo.png");
/// std::fs::write(&photo, "")?;
/// let mut roles = FileRoles::default();
/// roles.input("photo", &photo);
/// let error = roles.output("report", folder.path().join(".").join("photo.png"));
/// assert!(error.unwrap_err().to_string().contains("this is the photo"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FileRoles {
    files: HashMap<IdentityKey, Role>,
    /// Outputs that don't exist yet, by folder and lower-case name.
    new: HashMap<(PathBuf, String), Role>,
    /// Whether names in a folder are case-sensitive.
    cases: HashMap<PathBuf, bool>,
}

#[derive(Debug, Clone)]
struct Role {
    what: String,
    path: PathBuf,
    is_output: bool,
    /// The output that may overwrite it, and the option for it.
    hint: Option<(String, String)>,
}

impl FileRoles {
    /// Declares an input file. All inputs must precede the first output.
    pub fn input(&mut self, what: impl Into<String>, path: impl AsRef<Path>) {
        self.add_input(what.into(), path.as_ref(), None);
    }

    /// Declares an input file, with a hint for the output that may overwrite it.
    pub fn input_with_hint(
        &mut self,
        what: impl Into<String>,
        path: impl AsRef<Path>,
        output: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add_input(what.into(), path.as_ref(), Some((output.into(), hint.into())));
    }

    /// Declares an input file, or a folder with all its files, following links.
    pub fn input_tree(&mut self, what: impl Into<String>, path: impl AsRef<Path>) {
        self.tree(&what.into(), path.as_ref(), 0, &mut HashSet::new());
    }

    /// Whether a file is an input.
    pub fn is_input(&self, path: impl AsRef<Path>) -> bool {
        let key = FileIdentity::of(path).key();
        self.files.get(&key).is_some_and(|role| !role.is_output)
    }

    /// Declares an output file.
    ///
    /// # Errors
    /// [`StoreError::OverInput`], [`StoreError::SameOutput`].
    pub fn output(
        &mut self,
        what: impl Into<String>,
        path: impl AsRef<Path>,
    ) -> Result<(), StoreError> {
        let (what, path) = (what.into(), path.as_ref().to_owned());
        if is_device(&path) {
            return Ok(());
        }
        let identity = FileIdentity::of(&path);
        let role = Role { what, path, is_output: true, hint: None };
        let key = identity.key();
        if let Some(other) = self.files.get(&key) {
            return Err(conflict(&role, other));
        }
        if matches!(key, IdentityKey::Place(_)) {
            let (folder, name) = identity.place;
            let lower = (folder.clone(), name.to_string_lossy().to_lowercase());
            if let Some(other) = self.new.get(&lower).cloned()
                && self.ignores_case(&folder)
            {
                return Err(conflict(&role, &other));
            }
            self.new.insert(lower, role.clone());
        }
        self.files.insert(key, role);
        Ok(())
    }

    /// Declares the files in a folder for which `matches` is true as outputs, both existing and
    /// declared ones.
    ///
    /// # Errors
    /// [`StoreError::OverInput`], [`StoreError::SameOutput`].
    pub fn outputs_in(
        &mut self,
        what: &str,
        folder: impl AsRef<Path>,
        matches: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let folder = folder.as_ref();
        let canonical = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        for role in self.files.values() {
            let (parent, name) = FileIdentity::of(&role.path).place;
            if parent == canonical && matches(&name.to_string_lossy()) {
                let path = role.path.clone();
                let output = Role { what: what.to_owned(), path, is_output: true, hint: None };
                return Err(conflict(&output, role));
            }
        }
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten() {
            if matches(&entry.file_name().to_string_lossy()) {
                self.output(what, entry.path())?;
            }
        }
        Ok(())
    }

    /// Declares all files in a folder as outputs, following links: for a folder that is replaced or
    /// extended.
    /// # Errors
    /// [`StoreError::OverInput`], [`StoreError::SameOutput`].
    pub fn output_tree(
        &mut self,
        what: impl Into<String>,
        folder: impl AsRef<Path>,
    ) -> Result<(), StoreError> {
        let what = what.into();
        let mut found = Self::default();
        found.tree(&what, folder.as_ref(), 0, &mut HashSet::new());
        let mut paths: Vec<PathBuf> = found.files.into_values().map(|role| role.path).collect();
        // Sorted, so that the message is deterministic.
        paths.sort();
        paths.into_iter().try_for_each(|path| self.output(what.clone(), path))
    }

    fn add_input(&mut self, what: String, path: &Path, hint: Option<(String, String)>) {
        if is_device(path) {
            return;
        }
        let role = Role { what, path: path.to_owned(), is_output: false, hint };
        self.files.entry(FileIdentity::of(path).key()).or_insert(role);
    }

    fn tree(&mut self, what: &str, path: &Path, depth: usize, seen: &mut HashSet<IdentityKey>) {
        if !path.is_dir() {
            self.add_input(what.to_owned(), path, None);
            return;
        }
        if depth > MAX_DEPTH || !seen.insert(FileIdentity::of(path).key()) {
            return;
        }
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            self.tree(what, &entry.path(), depth + 1, seen);
        }
    }

    /// Whether a folder ignores case, by experiment.
    fn ignores_case(&mut self, folder: &Path) -> bool {
        let tried = self.cases.entry(folder.to_owned()).or_insert_with(|| {
            let mut builder = tempfile::Builder::new();
            builder.prefix(PREFIX).suffix(SUFFIX);
            let Ok(file) = builder.tempfile_in(folder) else { return true };
            let name = file.path().file_name().unwrap_or_default().to_string_lossy();
            folder.join(name.to_uppercase()).exists()
        });
        *tried
    }
}

fn conflict(output: &Role, other: &Role) -> StoreError {
    let Role { what, path, .. } = output.clone();
    if other.is_output {
        StoreError::SameOutput {
            output: what.into(),
            path,
            other: other.what.as_str().into(),
            other_path: other.path.clone(),
        }
    } else {
        let hint = other.hint.as_ref().filter(|(output, _)| *output == what);
        let hint = hint.map_or_else(String::new, |(_, hint)| format!(", or {hint}"));
        StoreError::OverInput {
            output: what.into(),
            path,
            input: other.what.as_str().into(),
            input_path: other.path.clone(),
            hint: hint.into(),
        }
    }
}

/// A device or a pipe: has no contents that could be lost.
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}
