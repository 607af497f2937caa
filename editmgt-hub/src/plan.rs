//! What a download is asked for, what it would bring, and what it tells.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::hash::Checksum;
use crate::known::KnownModel;
use crate::{HubError, ModelName};

/// A model to download.
///
/// ```
/// use editmgt_hub::PullRequest;
///
/// let request = PullRequest::new("WeiChow/EditMGT").only(["editmgt", "vqvae"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct PullRequest {
    pub(crate) name: String,
    pub(crate) revision: Option<String>,
    pub(crate) variant: Option<String>,
    pub(crate) only: Vec<String>,
    pub(crate) refresh: bool,
}

impl PullRequest {
    /// All parts of the model of this [name](crate::ModelName), with plain weights.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A branch, tag or commit; the name must have none, or this one.
    pub fn revision(self, revision: impl Into<String>) -> Self {
        Self { revision: Some(revision.into()), ..self }
    }

    /// A variant of the weights, `fp16` for instance: of each part that has it.
    pub fn variant(self, variant: impl Into<String>) -> Self {
        Self { variant: Some(variant.into()), ..self }
    }

    /// Only these parts, by their names or folders.
    pub fn only(self, parts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { only: parts.into_iter().map(Into::into).collect(), ..self }
    }

    /// Asks the hub for a newer commit even if the cache has all files of the one that it knows.
    pub fn refresh(self, refresh: bool) -> Self {
        Self { refresh, ..self }
    }
}

impl PullRequest {
    /// Checks the options for the model of this name.
    pub(crate) fn check(&self, name: &ModelName) -> Result<(), HubError> {
        let wrong = |option, expected, got: &str| {
            Err(HubError::Option { option, expected, got: got.to_owned() })
        };
        if let Some(revision) = &self.revision {
            if name.clone().at(revision).is_err() {
                return wrong("revision", "a branch, a tag or a commit", revision);
            }
            if let Some(of_name) = name.revision().filter(|of_name| of_name != revision) {
                return Err(HubError::TwoRevisions {
                    name: self.name.clone(),
                    of_name: of_name.to_owned(),
                    revision: revision.clone(),
                });
            }
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if let Some(variant) = &self.variant
            && (variant.is_empty() || !variant.bytes().all(plain))
        {
            return wrong("variant", "the name of a variant of the weights (fp16)", variant);
        }
        if self.only.iter().any(|part| part.trim().is_empty()) {
            wrong("only", "the names of parts (editmgt, vqvae, …)", "")
        } else {
            Ok(())
        }
    }
}

/// A file of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes that the cache has: all, none, or those of a download that was not finished.
    pub cached: u64,
    /// `None` for a file of the cache that is left as it is.
    #[serde(skip)]
    pub(crate) checksum: Option<Checksum>,
}

/// The files of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepositoryPlan {
    /// The repository.
    pub repository: String,
    /// The revision that was asked for.
    pub revision: String,
    /// Its commit.
    pub commit: String,
    /// The folder of the snapshot.
    pub snapshot: PathBuf,
    /// The licence that the repository states.
    pub licence: Option<String>,
    /// Whether its terms must be accepted first.
    pub is_gated: bool,
    /// Whether the cache has none of these files yet.
    pub is_first: bool,
    /// The files.
    pub files: Vec<PlannedFile>,
}

/// What a download would bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PullPlan {
    /// The model's name.
    pub name: String,
    /// What is known of it.
    pub known: Option<&'static KnownModel>,
    /// Its repositories.
    pub repositories: Vec<RepositoryPlan>,
}

impl PullPlan {
    pub(crate) fn files(&self) -> impl Iterator<Item = &PlannedFile> {
        self.repositories.iter().flat_map(|repository| &repository.files)
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// Bytes to download.
    pub fn missing_bytes(&self) -> u64 {
        self.files().map(|file| file.bytes - file.cached).sum()
    }

    /// Files that are not complete in the cache.
    pub fn missing_files(&self) -> usize {
        self.files().filter(|file| file.cached < file.bytes).count()
    }
}

/// A finished download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PullReport {
    /// The plan that was carried out.
    pub plan: PullPlan,
    /// Bytes that were downloaded.
    pub downloaded_bytes: u64,
}

/// A step of a download.
#[derive(Debug)]
#[non_exhaustive]
pub enum PullEvent<'a> {
    /// The files are known; nothing is downloaded yet.
    Planned(&'a PullPlan),
    /// Bytes of a file have come, and of all files.
    Received {
        /// The repository.
        repository: &'a str,
        /// The file.
        file: &'a PlannedFile,
        /// Bytes of the file that are in the cache.
        bytes: u64,
        /// Bytes of all files that are in the cache.
        total: u64,
    },
    /// A file is complete.
    Finished {
        /// The repository.
        repository: &'a str,
        /// The file.
        file: &'a PlannedFile,
    },
    /// The download waits and continues by itself; reported a few times a second.
    Waiting {
        /// For how much longer.
        left: Duration,
        /// Why.
        reason: &'a str,
    },
}

/// Sees how a download proceeds; stops it by breaking.
pub trait PullObserver {
    /// A step. After a break the download ends with [`HubError::Stopped`](crate::HubError::Stopped)
    /// and keeps what there is.
    fn event(&mut self, event: &PullEvent<'_>) -> ControlFlow<()>;
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl PullObserver for Quiet {
    fn event(&mut self, _event: &PullEvent<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
