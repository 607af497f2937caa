//! Published models: what is known of them, their downloads, and the cache they are in.
//!
//! ```text
//! "editmgt", "WeiChow/EditMGT@main" ──ModelName──► KnownModel or any repository
//!     ├─ Hub::resolve ──► ModelLocation: the folders of a model that is complete in the cache; asks nothing
//!     └─ Hub::pull ──► PullPlan (the files that are needed) ──► downloads ──► PullReport
//! ```
//!
//! The cache is the one that Python's `huggingface_hub` and all that is built on it use; each finds
//! what the other downloaded.
//!
//! `hf-hub` provides the names and paths of that cache. Its downloads are not used, because they
//! lack what a download of gigabytes needs: it resumes without checking a hash, takes the revision
//! of each file by itself, stops at the first cut, sends the token to another host's redirect only
//! by luck of the host's name, ignores `HF_HUB_OFFLINE` and `HF_HUB_CACHE`, and reports a refusal
//! by its status alone. `client.rs` and `download.rs` do that with `ureq`.
//!
//! ```no_run
//! use editmgt_hub::{Hub, HubSettings, PullRequest, Quiet};
//!
//! # fn main() -> Result<(), editmgt_hub::HubError> {
//! let hub = Hub::new(HubSettings::from_env()?);
//! let request = PullRequest::new("meissonic").variant("fp16");
//! println!("{} bytes to download", hub.plan(&request)?.missing_bytes());
//! hub.pull(&request, &mut Quiet)?;
//! println!("{:?}", hub.resolve("meissonic")?);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod cache;
mod client;
mod download;
mod error;
mod files;
mod hash;
mod known;
mod name;
mod plan;
mod pull;
mod resolve;
mod settings;
mod space;

pub use cache::{CachedRepository, CachedRevision};
pub use error::HubError;
pub use known::{KNOWN, KnownModel, KnownPart};
pub use name::ModelName;
pub use plan::{
    PlannedFile, PullEvent, PullObserver, PullPlan, PullReport, PullRequest, Quiet, RepositoryPlan,
};
pub use pull::Hub;
pub use resolve::ModelLocation;
pub use settings::{HubSettings, Token};
