//! Downloads of models: which files, in which repositories, and how far they are.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::{CachedRepository, MAIN, RepositoryCache, repositories};
use crate::client::{About, Client, RemoteFile};
use crate::download::{Download, Watch};
use crate::files::{Layout, Needed};
use crate::known::{KNOWN, KnownModel};
use crate::plan::{
    PlannedFile, PullEvent, PullObserver, PullPlan, PullReport, PullRequest, RepositoryPlan,
};
use crate::{HubError, HubSettings, ModelName};

/// The hub and its cache.
#[derive(Debug, Clone)]
pub struct Hub {
    pub(crate) settings: HubSettings,
}

/// A repository that a model has parts in.
pub(crate) struct Source {
    pub(crate) repository: String,
    pub(crate) revision: String,
    known: Option<&'static KnownModel>,
}

impl Source {
    /// The repositories of a model, its own first. A revision is one of its own repository.
    pub(crate) fn of(name: &ModelName) -> Vec<Self> {
        let known = name.known();
        let revision = name.revision().unwrap_or(MAIN).to_owned();
        let mut sources = vec![Self { repository: name.repository().to_owned(), revision, known }];
        for part in known.into_iter().flat_map(|known| known.parts) {
            let Some(repository) = part.repository else { continue };
            if sources.iter().all(|source| source.repository != repository) {
                let (repository, revision) = (repository.to_owned(), MAIN.to_owned());
                sources.push(Self { repository, revision, known });
            }
        }
        sources
    }

    /// Whether it is known that none of these parts is here.
    fn has_none_of(&self, parts: &[String]) -> bool {
        let Some(known) = self.known else { return false };
        let layout = Layout::known(known, &self.repository);
        !parts.is_empty() && !parts.iter().any(|part| layout.has(part))
    }

    /// The parts to look for among these files.
    pub(crate) fn layout(&self, files: &BTreeSet<String>, indexed: &[String]) -> Layout {
        match self.known {
            Some(known) => Layout::known(known, &self.repository),
            None => Layout::of_files(files, indexed),
        }
    }
}

impl Hub {
    /// A hub with these settings. Opens nothing.
    pub fn new(settings: HubSettings) -> Self {
        Self { settings }
    }

    /// The settings.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// What a download would bring. The hub is asked unless the cache has it all.
    ///
    /// # Errors
    /// [`HubError`], as [`pull`](Self::pull) before its first download.
    pub fn plan(&self, request: &PullRequest) -> Result<PullPlan, HubError> {
        self.plan_watched(request, &mut |_, _| ControlFlow::Continue(()))
    }

    fn plan_watched(
        &self,
        request: &PullRequest,
        waiting: &mut dyn FnMut(Duration, &str) -> ControlFlow<()>,
    ) -> Result<PullPlan, HubError> {
        let mut name: ModelName = request.name.parse()?;
        request.check(&name)?;
        if let Some(revision) = &request.revision {
            name = name.at(revision)?;
        }
        let client = Client::new(&self.settings);
        let mut plans = Vec::new();
        let mut unknown: Option<Vec<String>> = None;
        for source in Source::of(&name) {
            if source.has_none_of(&request.only) {
                continue;
            }
            let (plan, not_here) = self.plan_source(&name, &source, request, &client, waiting)?;
            // A part may be in any of the repositories.
            unknown = Some(match unknown {
                None => not_here,
                Some(before) => before.into_iter().filter(|part| not_here.contains(part)).collect(),
            });
            plans.push(plan);
        }
        // Without a plan every source was left out.
        let unknown = unknown.unwrap_or_else(|| request.only.clone());
        if let Some(part) = unknown.into_iter().next() {
            let known = name.known().into_iter().flat_map(|known| known.parts);
            let mut parts: Vec<String> = known.map(|part| part.component.to_owned()).collect();
            if parts.is_empty() {
                let standard = ["transformer", "vqvae", "text_encoder", "tokenizer", "llm_encoder"];
                parts = standard.into_iter().chain(["scheduler"]).map(str::to_owned).collect();
            }
            return Err(HubError::UnknownPart { name: name.to_string(), part, parts });
        }
        plans.retain(|plan| !plan.files.is_empty());
        Ok(PullPlan { name: name.to_string(), known: name.known(), repositories: plans })
    }

    /// The plan of one repository, and the parts of `only` that it does not have.
    fn plan_source(
        &self,
        name: &ModelName,
        source: &Source,
        request: &PullRequest,
        client: &Client<'_>,
        waiting: &mut dyn FnMut(Duration, &str) -> ControlFlow<()>,
    ) -> Result<(RepositoryPlan, Vec<String>), HubError> {
        let cache = RepositoryCache::new(&self.settings.cache, &source.repository);
        let variant = request.variant.as_deref();
        let select = |mut layout: Layout| {
            let unknown: Vec<String> = if request.only.is_empty() {
                Vec::new()
            } else {
                request.only.iter().filter(|part| !layout.has(part)).cloned().collect()
            };
            layout.only(&request.only);
            (layout, unknown)
        };
        let commit = cache.commit(&source.revision);
        let mut lacking = vec![format!("{} at {}", source.repository, source.revision)];
        if let Some(commit) = &commit {
            let snapshot = cache.files(commit)?;
            let present = snapshot.present();
            let layout = source.layout(&present, &cache.indexed_parts(commit));
            let (layout, unknown) = select(layout);
            let needed = layout.needed(&present, variant);
            let has_variant = needed.without_variant == 0
                || (self.settings.offline && (variant.is_none() || needed.with_variant > 0));
            if needed.lacking.is_empty()
                && has_variant
                && (!request.refresh || self.settings.offline)
            {
                let size = |path: &String| snapshot.files.get(path).copied().flatten().unwrap_or(0);
                let file = |path: &String| PlannedFile {
                    path: path.clone(),
                    bytes: size(path),
                    cached: size(path),
                    checksum: None,
                };
                let plan = RepositoryPlan {
                    repository: source.repository.clone(),
                    revision: source.revision.clone(),
                    commit: commit.clone(),
                    snapshot: cache.snapshot(commit),
                    licence: None,
                    is_gated: false,
                    is_first: false,
                    files: needed.files.iter().map(file).collect(),
                };
                return Ok((plan, unknown));
            }
            lacking = needed.lacking;
            if lacking.is_empty() {
                lacking.push(format!("the weights of the variant {}", variant.unwrap_or("none")));
            }
        }
        if self.settings.offline {
            let cache = self.settings.cache.clone();
            return Err(HubError::Offline { name: name.to_string(), cache, lacking });
        }

        let remote = client.list(&source.repository, &source.revision, waiting)?;
        let paths: BTreeSet<String> = remote.files.iter().map(|file| file.path.clone()).collect();
        // The parts of an index that is not downloaded yet are those of the list.
        let (layout, unknown) = select(source.layout(&paths, &[]));
        let needed = layout.needed(&paths, variant);
        check_needed(source, &needed, variant, request.only.is_empty())?;
        let files = remote.files.iter().filter(|file| needed.files.contains(&file.path));
        let files = files.map(|file| self.planned(&cache, source, &remote.commit, file));
        let mut files = files.collect::<Result<Vec<_>, _>>()?;
        // What may make a model useless here is in small files: they come before the gigabytes.
        files.sort_by_key(|file| file.bytes);
        let plan = RepositoryPlan {
            repository: source.repository.clone(),
            revision: source.revision.clone(),
            snapshot: cache.snapshot(&remote.commit),
            licence: remote.licence.clone(),
            is_gated: remote.is_gated,
            is_first: files.iter().all(|file| file.cached == 0),
            files,
            commit: remote.commit,
        };
        Ok((plan, unknown))
    }

    fn planned(
        &self,
        cache: &RepositoryCache,
        source: &Source,
        commit: &str,
        file: &RemoteFile,
    ) -> Result<PlannedFile, HubError> {
        let Some((bytes, checksum)) = file.contents.clone() else {
            let url = format!("{}/{}", self.settings.endpoint, source.repository);
            let problem =
                format!("expected length and hash of {} at {commit}, got none", file.path);
            return Err(HubError::Reply { url, problem });
        };
        let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        let whole = cache.blob(checksum.digits());
        let is_plain = cache.has_plain_file(commit, &file.path, bytes);
        let cached = match length(whole) {
            length if length == bytes || is_plain => bytes,
            _ => Some(length(cache.incomplete(checksum.digits())))
                .filter(|n| *n < bytes)
                .unwrap_or(0),
        };
        Ok(PlannedFile { path: file.path.clone(), bytes, cached, checksum: Some(checksum) })
    }

    /// Downloads what the cache lacks of a model. A download that was interrupted continues where
    /// it was.
    ///
    /// Length and hash of each file are checked before it gets its name; branches point to the new
    /// commit when all files are there.
    ///
    /// # Errors
    /// [`HubError`], whose message says what to do.
    pub fn pull(
        &self,
        request: &PullRequest,
        observer: &mut dyn PullObserver,
    ) -> Result<PullReport, HubError> {
        let plan = self.plan_watched(request, &mut |left, reason| {
            observer.event(&PullEvent::Waiting { left, reason })
        })?;
        if observer.event(&PullEvent::Planned(&plan)).is_break() {
            return Err(HubError::Stopped);
        }
        let needed = plan.missing_bytes();
        if let Some(free) = (self.settings.free_space)(&self.settings.cache)
            && needed > free
        {
            return Err(HubError::DiskFull { path: self.settings.cache.clone(), needed, free });
        }
        let client = Client::new(&self.settings);
        let mut total = plan.total_bytes() - needed;
        for repository in &plan.repositories {
            let cache = RepositoryCache::new(&self.settings.cache, &repository.repository);
            cache.create_snapshot(&repository.commit)?;
            for file in &repository.files {
                let Some(checksum) = &file.checksum else { continue };
                let digits = checksum.digits();
                let is_plain = cache.has_plain_file(&repository.commit, &file.path, file.bytes);
                let is_missing = file.cached < file.bytes || !cache.blob(digits).exists();
                if is_missing && !is_plain {
                    let mut watch = FileWatch {
                        observer,
                        repository: &repository.repository,
                        file,
                        before: total - file.cached,
                    };
                    let download = Download {
                        client: &client,
                        settings: &self.settings,
                        cache: &cache,
                        about: About {
                            repository: &repository.repository,
                            revision: &repository.revision,
                            expected: "the file",
                        },
                        url: client.file_url(
                            &repository.repository,
                            &repository.commit,
                            &file.path,
                        ),
                        size: file.bytes,
                        checksum,
                    };
                    download.run(&mut watch)?;
                } else {
                    cache.tidy(digits);
                }
                total += file.bytes - file.cached;
                if !is_plain {
                    cache.link(&repository.commit, &file.path, digits)?;
                }
                let repository = &repository.repository;
                if observer.event(&PullEvent::Finished { repository, file }).is_break() {
                    return Err(HubError::Stopped);
                }
            }
            cache.write_ref(&repository.revision, &repository.commit)?;
        }
        Ok(PullReport { plan, downloaded_bytes: needed })
    }

    /// What the cache has of the known models, in the order of [`KNOWN`]: one entry for each
    /// repository of a model.
    ///
    /// # Errors
    /// [`HubError::Io`] for a cache that can't be read.
    pub fn known(&self) -> Result<Vec<(&'static KnownModel, Vec<CachedRepository>)>, HubError> {
        let describe = |known: &'static KnownModel| {
            let name: ModelName = known.alias.parse()?;
            let sources = Source::of(&name).into_iter().map(|source| {
                let cache = RepositoryCache::new(&self.settings.cache, &source.repository);
                cache.describe(|_, files| source.layout(files, &[]))
            });
            Ok((known, sources.collect::<Result<Vec<_>, _>>()?))
        };
        KNOWN.iter().map(describe).collect()
    }

    /// Other repositories in the cache that have a complete model.
    ///
    /// # Errors
    /// [`HubError::Io`] for a cache that can't be read.
    pub fn others(&self) -> Result<Vec<CachedRepository>, HubError> {
        let mut others = Vec::new();
        for repository in repositories(&self.settings.cache)? {
            let is_known = |known: &KnownModel| {
                let parts = known.parts.iter().filter_map(|part| part.repository);
                known.repository == repository || parts.into_iter().any(|other| other == repository)
            };
            if KNOWN.iter().any(is_known) {
                continue;
            }
            let cache = RepositoryCache::new(&self.settings.cache, &repository);
            let mut found = cache
                .describe(|commit, files| Layout::of_files(files, &cache.indexed_parts(commit)))?;
            found.revisions.retain(|revision| {
                revision.lacking.is_empty() && !revision.folder.join("config.json").exists()
            });
            if !found.revisions.is_empty() {
                others.push(found);
            }
        }
        Ok(others)
    }
}

fn check_needed(
    source: &Source,
    needed: &Needed,
    variant: Option<&str>,
    is_whole: bool,
) -> Result<(), HubError> {
    if !needed.lacking.is_empty() {
        return Err(HubError::NotAModel {
            repository: source.repository.clone(),
            revision: source.revision.clone(),
            lacking: needed.lacking.clone(),
        });
    }
    match variant {
        // One part that has it is enough: others may be small.
        Some(variant) if needed.with_variant == 0 && needed.without_variant > 0 && is_whole => {
            Err(HubError::NoVariant {
                repository: source.repository.clone(),
                variant: variant.to_owned(),
                found: needed.variants.iter().cloned().collect(),
            })
        }
        _ => Ok(()),
    }
}

struct FileWatch<'a> {
    observer: &'a mut dyn PullObserver,
    repository: &'a str,
    file: &'a PlannedFile,
    /// Bytes of the other files.
    before: u64,
}

impl Watch for FileWatch<'_> {
    fn received(&mut self, bytes: u64) -> ControlFlow<()> {
        let (repository, file, total) = (self.repository, self.file, self.before + bytes);
        self.observer.event(&PullEvent::Received { repository, file, bytes, total })
    }

    fn waiting(&mut self, left: Duration, reason: &str) -> ControlFlow<()> {
        self.observer.event(&PullEvent::Waiting { left, reason })
    }
}
