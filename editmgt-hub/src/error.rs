use std::io;
use std::path::PathBuf;

/// Why a model can't be downloaded or found in the cache. Each message ends with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Neither an alias nor a repository.
    #[error("{name:?}: {problem}; expected ORG/NAME, or one of {}", aliases.join(", "))]
    Name {
        /// The input.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
        /// The known aliases.
        aliases: Vec<&'static str>,
    },
    /// An option of a download that can't be right.
    #[error("--{option}: expected {expected}, got {got:?}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A revision in the name, and another one as an option.
    #[error(
        "{name}: two revisions, {of_name:?} in the name and {revision:?} in --revision; give one"
    )]
    TwoRevisions {
        /// The name.
        name: String,
        /// Its revision.
        of_name: String,
        /// The other one.
        revision: String,
    },
    /// The cache has no place.
    #[error("no folder for the hub's cache: set HF_HOME or HF_HUB_CACHE, or HOME")]
    NoHome,
    /// The repository does not exist, or is hidden from this user: the hub does not distinguish
    /// these.
    #[error(
        "{repository}: {} has no such repository, or it is private; check the name{}", endpoint,
        if *has_token { ", and that the token's account may read it" } else {
            ", or set HF_TOKEN to a token of an account that may read it"
        }
    )]
    NotFound {
        /// The repository.
        repository: String,
        /// The hub's URL.
        endpoint: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// Its authors ask to accept terms first.
    #[error(
        "{repository} is gated: accept its terms at {endpoint}/{repository}{}",
        if *has_token { " with the account of this token; it may have to be granted" } else {
            ", then set HF_TOKEN to a token of that account (or run `hf auth login`)"
        }
    )]
    Gated {
        /// The repository.
        repository: String,
        /// The hub's URL.
        endpoint: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The hub refuses the token.
    #[error(
        "{endpoint} refuses the token ({reason}); make a new one at {endpoint}/settings/tokens or run `hf auth login`, \
         or unset HF_TOKEN (and remove the token file) for public repositories"
    )]
    WrongToken {
        /// The hub's URL.
        endpoint: String,
        /// The hub's reason.
        reason: String,
    },
    /// The account may not read it.
    #[error(
        "{repository}: the hub forbids it ({reason}); use a token that may read this repository"
    )]
    Forbidden {
        /// The repository.
        repository: String,
        /// The hub's reason.
        reason: String,
    },
    /// The hub has taken the repository down.
    #[error(
        "{repository}: the hub has disabled this repository, for every account; {endpoint}/{repository} may say why; use \
         another model, or a copy of this one"
    )]
    Disabled {
        /// The repository.
        repository: String,
        /// The hub's URL.
        endpoint: String,
    },
    /// No branch, tag or commit of that name.
    #[error(
        "{repository} has no revision {revision:?}; expected a branch, a tag or a commit, which {endpoint}/{repository}/commits \
         lists"
    )]
    Revision {
        /// The repository.
        repository: String,
        /// The hub's URL.
        endpoint: String,
        /// The revision.
        revision: String,
    },
    /// A dataset or a Space has this name.
    #[error("{repository} is a {kind}, expected a model; models are listed at {endpoint}/models")]
    OtherKind {
        /// The repository.
        repository: String,
        /// The hub's URL.
        endpoint: String,
        /// `dataset` or `Space`.
        kind: &'static str,
    },
    /// The repository lacks files of a model.
    #[error(
        "{repository} at {revision} is not a model that this program reads: it lacks {}", lacking.join(", ")
    )]
    NotAModel {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// Every missing file or folder.
        lacking: Vec<String>,
    },
    /// A part that the model does not have.
    #[error("{name} has no part {part:?}; expected some of {}", parts.join(", "))]
    UnknownPart {
        /// The model.
        name: String,
        /// The part.
        part: String,
        /// Its parts.
        parts: Vec<String>,
    },
    /// No part has weights of the variant.
    #[error(
        "{repository} has no weights of the variant {variant:?}; expected {}",
        if found.is_empty() { "no variant".to_owned() } else { found.join(", ") }
    )]
    NoVariant {
        /// The repository.
        repository: String,
        /// The variant.
        variant: String,
        /// Its variants.
        found: Vec<String>,
    },
    /// Nothing may be asked, and the cache lacks it.
    #[error(
        "{name} is not complete in the cache {}: it lacks {}; HF_HUB_OFFLINE forbids to ask the hub: unset it, or copy \
         the cache from a machine that has the model", cache.display(), lacking.join(", ")
    )]
    Offline {
        /// The model.
        name: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        lacking: Vec<String>,
    },
    /// The cache lacks it. Models are downloaded only when asked to.
    #[error(
        "{name}: {}not complete in the hub's cache {}: it lacks {}; download it with `editmgt pull {name}`",
        if *is_path { "no such folder, and " } else { "" }, cache.display(), lacking.join(", ")
    )]
    NotCached {
        /// The model.
        name: String,
        /// The cache.
        cache: PathBuf,
        /// What is missing.
        lacking: Vec<String>,
        /// Whether the name could be a path, too.
        is_path: bool,
    },
    /// A link of the cache points nowhere.
    #[error(
        "{}: this link of the hub's cache points to {}, which does not exist; download the model again with `editmgt pull \
         {name}`", link.display(), target.display()
    )]
    DanglingLink {
        /// The model.
        name: String,
        /// The link.
        link: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// The disk is too small.
    #[error(
        "{}: the disk has {free} bytes free, the download needs {needed}; free {} more, or set HF_HUB_CACHE to a folder \
         on another disk", path.display(), needed.saturating_sub(*free)
    )]
    DiskFull {
        /// A folder of the disk.
        path: PathBuf,
        /// Bytes to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A web page came, not the hub's answer: the page of a proxy or of a login.
    #[error(
        "{url}: expected {expected}, got a web page{}; a proxy or a login page of the network may answer in the hub's \
         place: open the URL in a browser, check HTTPS_PROXY and HF_ENDPOINT", title.as_deref().map_or_else(String::new,
            |title| format!(" ({title:?})"))
    )]
    WebPage {
        /// The URL.
        url: String,
        /// What was expected.
        expected: &'static str,
        /// The page's title.
        title: Option<String>,
    },
    /// Too many requests.
    #[error(
        "{url}: the hub limits requests{}; try again later, or set HF_TOKEN: accounts have higher limits",
        seconds.map_or_else(String::new, |s| format!(" and asks to wait {s} s"))
    )]
    RateLimited {
        /// The URL.
        url: String,
        /// The wait that the hub asks for.
        seconds: Option<u64>,
    },
    /// Another refusal.
    #[error("{url}: expected {expected}, got status {status}{}; try again later", if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    })]
    Status {
        /// The URL.
        url: String,
        /// What was expected.
        expected: &'static str,
        /// The HTTP status.
        status: u16,
        /// The hub's reason, if it gives one.
        reason: String,
    },
    /// An answer that is not understood.
    #[error("{url}: {problem}; check HF_ENDPOINT")]
    Reply {
        /// The URL.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The hub can't be reached, or the connection is cut again and again.
    #[error(
        "{url}: {reason} ({attempts} attempts); check the network and run the command again: what is downloaded is kept"
    )]
    Connection {
        /// The URL.
        url: String,
        /// The last failure.
        reason: String,
        /// How often in a row it failed.
        attempts: u32,
    },
    /// A downloaded file is not the one that the hub lists.
    #[error(
        "{url}: expected {expected}, got {got}; the download was damaged on the way and is removed: run the command again"
    )]
    Damaged {
        /// The URL.
        url: String,
        /// The hash or the length that the hub lists.
        expected: String,
        /// What came.
        got: String,
    },
    /// A file of the cache can't be read or written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// A file can't be written.
    #[error(transparent)]
    Store(#[from] editmgt_store::StoreError),
    /// The observer stopped the download.
    #[error("stopped; run the command again to continue: what is downloaded is kept")]
    Stopped,
}

impl HubError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io { path, cause }
    }
}
