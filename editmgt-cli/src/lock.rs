//! The option for file systems without locks.

use clap::Args;
use editmgt_store::Locking;

#[derive(Args)]
pub(crate) struct LockArgs {
    /// Do not lock the folder, for file systems without locks; nothing else may write to it
    /// meanwhile
    #[arg(long)]
    no_lock: bool,
}

impl LockArgs {
    pub(crate) fn locking(&self) -> Locking {
        if self.no_lock { Locking::Off } else { Locking::Required }
    }
}
