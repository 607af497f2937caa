//! From a name to the folders of a model in the cache. Asks nothing of the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::cache::RepositoryCache;
use crate::pull::Source;
use crate::{Hub, HubError, ModelName};

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelLocation {
    /// In one folder: a snapshot.
    Folder(PathBuf),
    /// In parts, which may be in snapshots of several repositories.
    Parts {
        /// The folder of the model's own repository.
        root: PathBuf,
        /// The folder of each part, by its name in a `pipeline.json`.
        parts: BTreeMap<String, PathBuf>,
    },
}

impl Hub {
    /// The folders of a model that is complete in the cache, by its [name](ModelName). Downloads
    /// nothing.
    ///
    /// # Errors
    /// [`HubError::NotCached`] with what is missing, [`HubError::Offline`] likewise where nothing
    /// may be asked, [`HubError::DanglingLink`], [`HubError::Name`].
    pub fn resolve(&self, name: &str) -> Result<ModelLocation, HubError> {
        let name: ModelName = name.parse()?;
        let mut lacking = Vec::new();
        let mut roots = BTreeMap::new();
        for source in Source::of(&name) {
            let cache = RepositoryCache::new(&self.settings.cache, &source.repository);
            let Some(commit) = cache.commit(&source.revision) else {
                lacking.push(format!("{} at {}", source.repository, source.revision));
                continue;
            };
            let snapshot = cache.files(&commit)?;
            let root = cache.snapshot(&commit);
            let names = snapshot.names();
            let layout = source.layout(&names, &cache.indexed_parts(&commit));
            let wanted = layout.needed(&names, None);
            if let Some(link) = dangling(&root, &wanted.files, &snapshot.present()) {
                let target = last_target(&link);
                return Err(HubError::DanglingLink { name: name.to_string(), link, target });
            }
            lacking.extend(wanted.lacking);
            roots.insert(source.repository, root);
        }
        let cache = || self.settings.cache.clone();
        if !lacking.is_empty() {
            let (name, is_path) = (name.to_string(), name.name().contains('/'));
            return Err(if self.settings.offline {
                HubError::Offline { name, cache: cache(), lacking }
            } else {
                HubError::NotCached { name, cache: cache(), lacking, is_path }
            });
        }
        let root = roots.get(name.repository()).cloned().unwrap_or_default();
        let standard = |folder: &str, component: &str| {
            folder == component || (component == "transformer" && folder == "editmgt")
        };
        match name.known() {
            Some(known)
                if known.parts.iter().any(|part| {
                    part.repository.is_some() || !standard(part.folder, part.component)
                }) =>
            {
                let folder = |part: &crate::KnownPart| {
                    let repository = part.repository.unwrap_or(known.repository);
                    let root = roots.get(repository).cloned().unwrap_or_default();
                    (part.component.to_owned(), root.join(part.folder))
                };
                Ok(ModelLocation::Parts { root, parts: known.parts.iter().map(folder).collect() })
            }
            _ => Ok(ModelLocation::Folder(root)),
        }
    }

    /// Whether the cache has anything of the repository of this name.
    pub fn has(&self, name: &str) -> bool {
        let name: Result<ModelName, _> = name.parse();
        name.is_ok_and(|name| {
            RepositoryCache::new(&self.settings.cache, name.repository()).exists()
        })
    }
}

/// Where a link points to in the end: Xet's files are links to a blob that is itself a link.
fn last_target(link: &Path) -> PathBuf {
    let mut target = link.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(next) = std::fs::read_link(&target) else { break };
        target = target.parent().map_or_else(|| next.clone(), |folder| folder.join(&next));
    }
    target
}

/// A link among the wanted files whose target is missing.
fn dangling(root: &Path, wanted: &BTreeSet<String>, present: &BTreeSet<String>) -> Option<PathBuf> {
    wanted.difference(present).next().map(|file| root.join(file))
}
