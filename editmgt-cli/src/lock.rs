//! The option for file systems without locks.

use clap::Args;
use editmgt_store::Locking;

/// Whether the folder of a run is locked.
#[derive(Args)]
pub struct LockArgs {
    /// Do not lock the folder, for file systems without locks; no other process may write to it
    #[arg(long)]
    no_lock: bool,
}

impl LockArgs {
    /// How a run locks its folder.
    pub fn locking(&self) -> Locking {
        if self.no_lock { Locking::Off } else { Locking::Required }
    }
}
