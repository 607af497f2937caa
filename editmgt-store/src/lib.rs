//! Atomic file writes, and protection of inputs against being overwritten.
//!
//! ```text
//! FileRoles ──► inputs and outputs of a command are different files, checked before any work
//! write, PendingFile ──► temporary file beside the target ─► fsync ─► rename ─► fsync of the folder
//! StagedFolder ──► the same for a folder
//! append_line, open_log ──► crash-safe lines: synced one by one, a torn last one repaired
//! FolderLock ──► one process at a time; an error suggests how to work without locks
//! ```
//!
//! The guarantees by file system are in `docs/durability.md`.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("report.json");
//! editmgt_store::write(&path, b"{}\n")?;
//! assert_eq!(std::fs::read(&path)?, b"{}\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod array_task;
mod differences;
mod error;
mod folder;
mod identity;
pub mod json;
mod lock;
mod log;
mod panic;
mod pending;
mod roles;
mod shard;
mod sidecar;
mod sweep;
mod sync;
mod target;
mod text;

pub use array_task::ArrayTaskError;
pub use differences::differences;
pub use error::StoreError;
pub use folder::StagedFolder;
pub use identity::FileIdentity;
pub use lock::{FolderLock, Locking, RunAccess};
pub use log::{append_line, open_log, parse_log, read_log};
pub use panic::panic_text;
pub use pending::{PendingFile, check_writable, write};
pub use roles::FileRoles;
pub use shard::{Shard, ShardError};
pub use sidecar::is_sidecar;
pub use sweep::remove_stale;
pub use sync::{publish_folder, sync_folder, sync_log};
pub use target::Target;
pub use text::{TextLines, decode_text, read_text};
