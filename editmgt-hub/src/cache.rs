//! The hub's cache on disk: `models--ORG--NAME/{blobs,refs,snapshots/COMMIT}`.
//!
//! A blob is named by its hash (the ETag that the hub gives it), a snapshot has a relative link to
//! the blob of each file, and a ref has the commit of a branch. Downloads in progress are
//! `blobs/HASH.incomplete`, guarded by `.locks/models--ORG--NAME/HASH.lock`, as older Python
//! clients (0.x) do it: both resume each other's downloads. Newer ones write
//! `blobs/HASH.NUMBER.incomplete`, guarded by the same lock, and start anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use serde::Serialize;

use crate::HubError;
use crate::files::Layout;

/// The branch that is meant where none is named.
pub(crate) const MAIN: &str = "main";

/// A repository in the cache, as far as it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CachedRepository {
    /// The repository.
    pub repository: String,
    /// Its folder in the cache.
    pub folder: PathBuf,
    /// The revisions of which there is a snapshot with files.
    pub revisions: Vec<CachedRevision>,
    /// Bytes of downloads that were not finished, by this program or by Python's client.
    pub unfinished_bytes: u64,
}

/// A snapshot in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CachedRevision {
    /// The commit.
    pub commit: String,
    /// Branches and tags that point to it.
    pub refs: Vec<String>,
    /// Its folder: a model's folder, if it is complete.
    pub folder: PathBuf,
    /// Files and folders that a model needs and that are not there; empty for a complete one.
    pub lacking: Vec<String>,
    /// Bytes of all of its files.
    pub bytes: u64,
}

/// Paths of a repository in the cache.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryCache {
    repository: String,
    cache: PathBuf,
    folder: PathBuf,
}

/// The files of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Path relative to the snapshot, and length; `None` for a link that points nowhere.
    pub(crate) files: BTreeMap<String, Option<u64>>,
}

impl Snapshot {
    /// The files that can be read.
    pub(crate) fn present(&self) -> BTreeSet<String> {
        let present = self.files.iter().filter(|(_, length)| length.is_some());
        present.map(|(name, _)| name.clone()).collect()
    }

    /// All names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.files.keys().cloned().collect()
    }

    fn bytes(&self) -> u64 {
        self.files.values().flatten().sum()
    }
}

impl RepositoryCache {
    pub(crate) fn new(cache: &Path, repository: &str) -> Self {
        let repo = Repo::new(repository.to_owned(), RepoType::Model);
        let folder = cache.join(repo.folder_name());
        Self { repository: repository.to_owned(), cache: cache.to_owned(), folder }
    }

    fn paths(&self, revision: &str) -> hf_hub::CacheRepo {
        let repo =
            Repo::with_revision(self.repository.clone(), RepoType::Model, revision.to_owned());
        Cache::new(self.cache.clone()).repo(repo)
    }

    pub(crate) fn blob(&self, digits: &str) -> PathBuf {
        self.paths(MAIN).blob_path(digits)
    }

    pub(crate) fn incomplete(&self, digits: &str) -> PathBuf {
        self.blob(&format!("{digits}.incomplete"))
    }

    /// Removes unfinished downloads of a blob that is whole, unless a download of it is running.
    /// What can't be removed stays: the blob is whole all the same.
    pub(crate) fn tidy(&self, digits: &str) {
        if self.unfinished_of(digits).is_empty() {
            return;
        }
        let path = self.lock(digits);
        if let Some(folder) = path.parent() {
            let _ = fs::create_dir_all(folder);
        }
        let lock = fs::OpenOptions::new().create(true).append(true).open(path);
        if let Ok(lock) = lock
            && lock.try_lock().is_ok()
        {
            self.remove_unfinished(digits);
        }
    }

    /// The same, for a caller who holds the lock.
    pub(crate) fn remove_unfinished(&self, digits: &str) {
        for path in self.unfinished_of(digits) {
            let _ = fs::remove_file(path);
        }
    }

    fn unfinished_of(&self, digits: &str) -> Vec<PathBuf> {
        let blobs = self.blobs();
        let names = entries(&blobs).unwrap_or_default().into_iter();
        let names = names.filter(|name| unfinished(name) == Some(digits));
        names.map(|name| blobs.join(name)).collect()
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    /// Creates the folder of a snapshot: Python's client takes a repository without one for
    /// damaged.
    pub(crate) fn create_snapshot(&self, commit: &str) -> Result<(), HubError> {
        let folder = self.snapshot(commit);
        fs::create_dir_all(&folder).map_err(HubError::io(&folder))
    }

    /// Whether a file of a snapshot has this length and is no link, as Python's client writes it
    /// where there are none.
    pub(crate) fn has_plain_file(&self, commit: &str, file: &str, bytes: u64) -> bool {
        let found = fs::symlink_metadata(self.snapshot(commit).join(file));
        found.is_ok_and(|found| found.is_file() && found.len() == bytes)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.paths(MAIN).pointer_path(commit)
    }

    pub(crate) fn lock(&self, digits: &str) -> PathBuf {
        let name = self.folder.file_name().unwrap_or_default();
        self.cache.join(".locks").join(name).join(format!("{digits}.lock"))
    }

    /// Whether the cache knows the repository at all.
    pub(crate) fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    /// The commit of a branch or tag, or the commit itself, if its snapshot is there.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        let by_ref = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commit = by_ref.map_or_else(|| revision.to_owned(), |text| text.trim().to_owned());
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Lets a branch or tag point to a commit. A commit needs no ref.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        Ok(editmgt_store::write(&path, commit)?)
    }

    /// Lets a file of a snapshot be a link to its blob; where the system has no links, a second
    /// name or a copy of it.
    pub(crate) fn link(&self, commit: &str, file: &str, digits: &str) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(file);
        let folder = link.parent().unwrap_or(&link);
        fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let mut target = PathBuf::from("../..");
        target.extend(file.matches('/').map(|_| ".."));
        let target = target.join("blobs").join(digits);
        if fs::read_link(&link).is_ok_and(|old| old == target) {
            return Ok(());
        }
        match fs::remove_file(&link) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(HubError::io(&link)(error));
            }
            _ => {}
        }
        let linked = symlink(&target, &link).or_else(|_| {
            let blob = self.blob(digits);
            fs::hard_link(&blob, &link).or_else(|_| fs::copy(&blob, &link).map(drop))
        });
        linked.map_err(HubError::io(&link))
    }

    /// The files of a snapshot.
    pub(crate) fn files(&self, commit: &str) -> Result<Snapshot, HubError> {
        let root = self.snapshot(commit);
        let mut snapshot = Snapshot::default();
        list(&root, "", 0, &mut snapshot)?;
        Ok(snapshot)
    }

    /// The parts that the index of a snapshot names, if there is one that can be read.
    pub(crate) fn indexed_parts(&self, commit: &str) -> Vec<String> {
        let path = self.snapshot(commit).join("model_index.json");
        let text = fs::read_to_string(path).unwrap_or_default();
        let index: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&text).unwrap_or_default();
        let is_part = |value: &serde_json::Value| {
            value.as_array().is_some_and(|pair| pair.iter().any(|name| !name.is_null()))
        };
        index.into_iter().filter(|(_, value)| is_part(value)).map(|(name, _)| name).collect()
    }

    /// What there is. `layout` gives the parts that a snapshot must have, by its commit and files.
    pub(crate) fn describe(
        &self,
        layout: impl Fn(&str, &BTreeSet<String>) -> Layout,
    ) -> Result<CachedRepository, HubError> {
        let mut refs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut names = Snapshot::default();
        list(&self.folder.join("refs"), "", 0, &mut names)?;
        for name in names.present() {
            if let Some(commit) = self.commit(&name) {
                refs.entry(commit).or_default().push(name);
            }
        }
        let mut revisions = Vec::new();
        for commit in entries(&self.folder.join("snapshots"))? {
            if !is_commit(&commit) {
                continue;
            }
            let files = self.files(&commit)?;
            if files.files.is_empty() {
                // A download that was refused or stopped in its first file.
                continue;
            }
            let present = files.present();
            let needed = layout(&commit, &present).needed(&present, None);
            revisions.push(CachedRevision {
                refs: refs.remove(&commit).unwrap_or_default(),
                folder: self.snapshot(&commit),
                lacking: needed.lacking,
                bytes: files.bytes(),
                commit,
            });
        }
        let blobs = self.blobs();
        // One whose blob is whole was finished by another download.
        let is_unfinished =
            |name: &String| unfinished(name).is_some_and(|digits| !blobs.join(digits).exists());
        let unfinished = entries(&blobs)?.into_iter().filter(is_unfinished);
        let length = |name: String| fs::metadata(blobs.join(name)).map_or(0, |file| file.len());
        Ok(CachedRepository {
            repository: self.repository.clone(),
            folder: self.folder.clone(),
            revisions,
            unfinished_bytes: unfinished.map(length).sum(),
        })
    }
}

/// The blob of a download that was not finished: `HASH.incomplete`, or `HASH.NUMBER.incomplete`.
fn unfinished(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".incomplete")?;
    Some(stem.split_once('.').map_or(stem, |(digits, _)| digits))
}

/// The repositories of models in a cache.
pub(crate) fn repositories(cache: &Path) -> Result<Vec<String>, HubError> {
    let names = entries(cache)?.into_iter();
    // A name has no `--` of its own, so the first is the slash.
    Ok(names
        .filter_map(|name| Some(name.strip_prefix("models--")?.replacen("--", "/", 1)))
        .collect())
}

/// The names in a folder, sorted; none where there is no folder.
fn entries(folder: &Path) -> Result<Vec<String>, HubError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(HubError::io(folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(HubError::io(folder))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Deeper than any file of a model.
const MAX_DEPTH: usize = 8;

fn list(folder: &Path, prefix: &str, depth: usize, to: &mut Snapshot) -> Result<(), HubError> {
    for name in entries(folder)? {
        let path = folder.join(&name);
        let file = format!("{prefix}{name}");
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                if depth < MAX_DEPTH {
                    list(&path, &format!("{file}/"), depth + 1, to)?;
                }
            }
            Ok(found) => {
                to.files.insert(file, Some(found.len()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                to.files.insert(file, None);
            }
            Err(error) => return Err(HubError::io(path)(error)),
        }
    }
    Ok(())
}

/// Whether this can be the name of a snapshot: no path.
pub(crate) fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
