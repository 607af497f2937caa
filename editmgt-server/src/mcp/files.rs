//! The folders that a user allowed, and the files in them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use editmgt::image::ImageFormat;
use tempfile::NamedTempFile;

use crate::error::ApiError;

/// Most files that are tried for a name that is free.
const NAMES: usize = 1000;

/// A folder that can't be allowed.
#[derive(Debug, thiserror::Error)]
#[error("{}: expected a folder to read and write images in: {cause}", path.display())]
pub struct RootError {
    /// The path.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: io::Error,
}

/// Why a path is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    #[error("expected a path in an allowed folder without \"..\", got {given:?}")]
    Parent { given: String },
    #[error("expected a path in one of the allowed folders ({}), got {given:?}", roots.join(", "))]
    Outside { given: String, roots: Vec<String> },
    #[error("expected an image file, got {given:?}: {cause}")]
    Read { given: String, cause: io::Error },
    #[error("expected an image file, got {given:?}, which is no file")]
    NoFile { given: String },
    #[error("{given:?} has {bytes} bytes, the limit is {limit}; make it smaller")]
    TooLarge { given: String, bytes: u64, limit: usize },
    #[error(
        "expected the name of a new file, got {given:?}, which exists and is not overwritten; choose another name"
    )]
    Exists { given: String },
    #[error(
        "expected a folder that exists for {given:?}; files are written into existing folders only"
    )]
    NoFolder { given: String },
    #[error("expected a name that ends in .png, .jpg, .webp or .tiff, got {given:?}")]
    Format { given: String },
    #[error("{given:?} cannot be written: {cause}")]
    Write { given: String, cause: io::Error },
}

impl PathError {
    /// As the error of an argument.
    pub(super) fn of(self, argument: &str) -> ApiError {
        ApiError::bad("path", format!("{argument}: {self}")).param(argument)
    }
}

/// A folder: as it was given, and without symbolic links.
#[derive(Debug, Clone)]
struct Root {
    given: PathBuf,
    real: PathBuf,
}

/// The folders that a user allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct Roots(Vec<Root>);

/// A new file in an allowed folder, whose path has no symbolic links.
#[derive(Debug, Clone)]
pub(super) enum Output {
    /// The file of this name.
    Named { path: PathBuf, format: ImageFormat },
    /// A file of this name, or with the first number that is free.
    Free { folder: PathBuf, stem: String },
}

impl Roots {
    /// Opens the folders.
    ///
    /// # Errors
    /// [`RootError`] for a path that is no folder.
    pub(super) fn open(folders: &[PathBuf]) -> Result<Self, RootError> {
        let root = |path: &PathBuf| {
            let real = fs::canonicalize(path)?;
            if !real.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok(Root { given: std::path::absolute(path)?, real })
        };
        let opened = folders
            .iter()
            .map(|path| root(path).map_err(|cause| RootError { path: path.clone(), cause }));
        Ok(Self(opened.collect::<Result<_, _>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The folders, to show.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|root| root.given.display().to_string()).collect()
    }

    fn outside(&self, given: &str) -> PathError {
        PathError::Outside { given: given.to_owned(), roots: self.names() }
    }

    /// The places that a path may mean, each in an allowed folder by its name.
    fn places(&self, given: &str) -> Result<Vec<PathBuf>, PathError> {
        let path = Path::new(given);
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(PathError::Parent { given: given.to_owned() });
        }
        let of_root = |root: &Root| {
            if path.is_absolute() {
                let inside =
                    path.strip_prefix(&root.given).or_else(|_| path.strip_prefix(&root.real));
                inside.ok().map(|inside| root.real.join(inside))
            } else {
                // A drive without a root is neither.
                let is_plain = path
                    .components()
                    .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
                is_plain.then(|| root.real.join(path))
            }
        };
        let places: Vec<PathBuf> = self.0.iter().filter_map(of_root).collect();
        if places.is_empty() || given.contains('\0') {
            Err(self.outside(given))
        } else {
            Ok(places)
        }
    }

    /// A path without symbolic links, which is in an allowed folder.
    fn real(&self, place: &Path, given: &str) -> Result<io::Result<PathBuf>, PathError> {
        match fs::canonicalize(place) {
            Ok(real) if self.0.iter().any(|root| real.starts_with(&root.real)) => Ok(Ok(real)),
            Ok(_) => Err(self.outside(given)),
            Err(cause) => Ok(Err(cause)),
        }
    }

    /// An existing file of an allowed folder.
    ///
    /// # Errors
    /// [`PathError`] for a path outside of the folders, through a symbolic link too, and for what
    /// is no file.
    pub(super) fn input(&self, given: &str) -> Result<PathBuf, PathError> {
        let mut missing = None;
        for place in self.places(given)? {
            match self.real(&place, given)? {
                Ok(real) if real.is_file() => return Ok(real),
                Ok(_) => return Err(PathError::NoFile { given: given.to_owned() }),
                Err(cause) => missing = Some(cause),
            }
        }
        let cause = missing.unwrap_or_else(|| io::ErrorKind::NotFound.into());
        Err(PathError::Read { given: given.to_owned(), cause })
    }

    /// Reads an existing file of an allowed folder.
    ///
    /// # Errors
    /// Those of [`input`](Self::input); [`PathError::TooLarge`].
    pub(super) fn read(&self, given: &str, limit: usize) -> Result<Vec<u8>, PathError> {
        let path = self.input(given)?;
        let failed = |cause| PathError::Read { given: given.to_owned(), cause };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes > limit as u64 {
            return Err(PathError::TooLarge { given: given.to_owned(), bytes, limit });
        }
        let mut contents = Vec::new();
        file.take(limit as u64).read_to_end(&mut contents).map_err(failed)?;
        Ok(contents)
    }

    /// A file that does not exist yet, in an existing folder.
    ///
    /// # Errors
    /// [`PathError`].
    pub(super) fn output(&self, given: &str) -> Result<Output, PathError> {
        let owned = || given.to_owned();
        for place in self.places(given)? {
            let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
                return Err(self.outside(given));
            };
            let Ok(folder) = self.real(folder, given)? else { continue };
            let path = folder.join(name);
            let format = format_of(&path).ok_or_else(|| PathError::Format { given: owned() })?;
            // A symbolic link that leads nowhere exists, too.
            if fs::symlink_metadata(&path).is_ok() {
                return Err(PathError::Exists { given: owned() });
            }
            return Ok(Output::Named { path, format });
        }
        Err(PathError::NoFolder { given: owned() })
    }

    /// A free name for the result of an edit, beside the photo.
    ///
    /// # Errors
    /// [`PathError`].
    pub(super) fn beside(&self, photo: &str) -> Result<Output, PathError> {
        let path = self.input(photo)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Output::Free { folder, stem: format!("{stem}-edited") })
    }

    /// A free name in the first folder; `None` without one.
    pub(super) fn new_file(&self, stem: &str) -> Option<Output> {
        let root = self.0.first()?;
        Some(Output::Free { folder: root.real.clone(), stem: stem.to_owned() })
    }
}

fn format_of(path: &Path) -> Option<ImageFormat> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "png" => Some(ImageFormat::Png),
        "jpg" | "jpeg" => Some(ImageFormat::Jpeg),
        "webp" => Some(ImageFormat::WebP),
        "tif" | "tiff" => Some(ImageFormat::Tiff),
        _ => None,
    }
}

impl Output {
    pub(super) fn format(&self) -> ImageFormat {
        match self {
            Self::Named { format, .. } => *format,
            Self::Free { .. } => ImageFormat::Png,
        }
    }

    /// One of several: with a number before the extension, or the next free name.
    ///
    /// # Errors
    /// [`PathError::Exists`].
    pub(super) fn numbered(&self, number: u32) -> Result<Self, PathError> {
        let Self::Named { path, format } = self else { return Ok(self.clone()) };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let path = path.with_file_name(format!("{stem}-{number}.{extension}"));
        if fs::symlink_metadata(&path).is_ok() {
            return Err(PathError::Exists { given: path.display().to_string() });
        }
        Ok(Self::Named { path, format: *format })
    }

    /// Writes the whole file, on disk when this returns, or nothing; gives its path.
    ///
    /// # Errors
    /// [`PathError::Exists`] for a file that exists by now; [`PathError::Write`].
    pub(super) fn write(&self, bytes: &[u8]) -> Result<PathBuf, PathError> {
        let (folder, stem) = match self {
            Self::Named { path, .. } => {
                let folder = path.parent().unwrap_or(Path::new("."));
                let file = complete(folder, bytes).map_err(|cause| failed(path, cause))?;
                publish(file, path)?;
                return Ok(path.clone());
            }
            Self::Free { folder, stem } => (folder, stem),
        };
        let name = |i| if i == 1 { format!("{stem}.png") } else { format!("{stem}-{i}.png") };
        let mut last = folder.join(name(1));
        for i in 1..=NAMES {
            let path = folder.join(name(i));
            if fs::symlink_metadata(&path).is_err() {
                let file = complete(folder, bytes).map_err(|cause| failed(&path, cause))?;
                match publish(file, &path) {
                    // Another call was faster.
                    Err(PathError::Exists { .. }) => {}
                    published => return published.map(|()| path),
                }
            }
            last = path;
        }
        Err(PathError::Exists { given: last.display().to_string() })
    }
}

fn failed(path: &Path, cause: io::Error) -> PathError {
    let given = path.display().to_string();
    if cause.kind() == io::ErrorKind::AlreadyExists {
        PathError::Exists { given }
    } else {
        PathError::Write { given, cause }
    }
}

/// A temporary file with these bytes, on disk.
fn complete(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".editmgt-").suffix(".tmp");
    // Temporary files are private by default; a result gets the umask's permissions.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Gives a file its name, unless there is one.
fn publish(file: NamedTempFile, path: &Path) -> Result<(), PathError> {
    file.persist_noclobber(path).map_err(|error| failed(path, error.error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    editmgt_store::sync_folder(folder).map_err(|error| failed(path, io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["first/sub", "second", "secret"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("first/a.png"), "a").unwrap();
        fs::write(dir.path().join("second/b.png"), "bb").unwrap();
        fs::write(dir.path().join("secret/key.png"), "key").unwrap();
        let roots = Roots::open(&[dir.path().join("first"), dir.path().join("second")]).unwrap();
        (dir, roots)
    }

    #[test]
    fn files_of_the_folders_are_read_by_relative_and_absolute_paths() {
        let (dir, roots) = folders();
        assert_eq!(roots.read("a.png", 9).unwrap(), b"a");
        assert_eq!(roots.read("./b.png", 9).unwrap(), b"bb");
        let absolute = dir.path().join("second/b.png");
        assert_eq!(roots.read(absolute.to_str().unwrap(), 9).unwrap(), b"bb");
        assert!(matches!(roots.read("b.png", 1), Err(PathError::TooLarge { bytes: 2, .. })));
        assert!(matches!(roots.read("sub", 9), Err(PathError::NoFile { .. })));
        assert!(matches!(roots.read("none.png", 9), Err(PathError::Read { .. })));
    }

    #[test]
    fn paths_outside_are_refused_whether_they_exist_or_not() {
        let (dir, roots) = folders();
        let outside = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for path in ["../secret/key.png", "sub/../a.png", "sub/../../secret/new.png"] {
            assert!(matches!(roots.read(path, 9), Err(PathError::Parent { .. })), "{path}");
            assert!(matches!(roots.output(path), Err(PathError::Parent { .. })), "{path}");
        }
        // The second is beside a folder whose name it begins with.
        for path in [outside("secret/key.png"), outside("first-not/x.png"), "/etc/hostname".into()]
        {
            assert!(matches!(roots.read(&path, 9), Err(PathError::Outside { .. })), "{path}");
            assert!(matches!(roots.output(&path), Err(PathError::Outside { .. })), "{path}");
        }
        assert!(matches!(roots.read("a\0.png", 9), Err(PathError::Outside { .. })));
        let file = dir.path().join("first/a.png");
        assert!(Roots::open(&[file]).is_err() && Roots::open(&["/nowhere/x".into()]).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn symbolic_links_out_of_the_folders_are_refused() {
        use std::os::unix::fs::symlink;

        let (dir, roots) = folders();
        let first = dir.path().join("first");
        symlink(dir.path().join("secret/key.png"), first.join("key.png")).unwrap();
        symlink(dir.path().join("secret"), first.join("folder")).unwrap();
        symlink(dir.path().join("secret/new.png"), first.join("dangling.png")).unwrap();
        symlink(dir.path().join("second/b.png"), first.join("inside.png")).unwrap();
        for path in ["key.png", "folder/key.png"] {
            assert!(matches!(roots.read(path, 9), Err(PathError::Outside { .. })), "{path}");
        }
        assert!(matches!(roots.output("folder/new.png"), Err(PathError::Outside { .. })));
        assert!(matches!(roots.output("dangling.png"), Err(PathError::Exists { .. })));
        assert_eq!(roots.read("inside.png", 9).unwrap(), b"bb");
        assert!(!dir.path().join("secret/new.png").exists());
        // The folder itself may be named through a link.
        symlink(&first, dir.path().join("link")).unwrap();
        let link = Roots::open(&[dir.path().join("link")]).unwrap();
        assert_eq!(link.read(dir.path().join("link/a.png").to_str().unwrap(), 9).unwrap(), b"a");
    }

    #[test]
    fn nothing_is_overwritten() {
        let (dir, roots) = folders();
        assert!(matches!(roots.output("a.png"), Err(PathError::Exists { .. })));
        assert!(matches!(roots.output("no/a.png"), Err(PathError::NoFolder { .. })));
        assert!(matches!(roots.output("sub/new.exe"), Err(PathError::Format { .. })));
        let output = roots.output("sub/new.jpeg").unwrap();
        assert_eq!(output.format(), ImageFormat::Jpeg);
        output.write(b"one").unwrap();
        assert!(matches!(output.write(b"two"), Err(PathError::Exists { .. })));
        assert_eq!(fs::read(dir.path().join("first/sub/new.jpeg")).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path().join("first/sub")).unwrap().count(), 1);

        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let beside = roots.beside("b.png").unwrap();
        assert_eq!(
            beside.write(b"x").unwrap(),
            dir.path().canonicalize().unwrap().join("second/b-edited.png")
        );
        // The name was free when the edit began.
        assert_eq!(name(beside.write(b"y").unwrap()), "b-edited-2.png");
        let image = roots.new_file("image").unwrap();
        assert_eq!(name(image.write(b"x").unwrap()), "image.png");
        assert_eq!(name(image.numbered(3).unwrap().write(b"y").unwrap()), "image-2.png");
        let named = roots.output("many.png").unwrap();
        assert_eq!(name(named.numbered(1).unwrap().write(b"x").unwrap()), "many-1.png");
        assert!(matches!(named.numbered(1), Err(PathError::Exists { .. })));
    }
}
