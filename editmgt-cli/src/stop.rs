//! Ctrl-C (SIGINT) and SIGTERM.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit status after an interruption, by the shells' convention: 128 plus SIGINT.
const STOPPED: u8 = 130;

/// Whether the edit was asked to stop.
#[derive(Clone, Default)]
pub(crate) struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Installs handlers: the first Ctrl-C or SIGTERM sets the signal instead of ending the
    /// program; a second one ends it.
    pub(crate) fn on_ctrl_c() -> Result<Self, Box<dyn Error>> {
        let signal = Self::default();
        for wish in [SIGINT, SIGTERM] {
            // In this order: the first handler sees the flag's value before this signal.
            flag::register_conditional_shutdown(wish, STOPPED.into(), signal.0.clone())
                .and_then(|_| flag::register(wish, signal.0.clone()))
                .map_err(|error| format!("cannot handle Ctrl-C: {error}"))?;
        }
        Ok(signal)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Reports the interruption in one line.
    pub(crate) fn stopped(what: &str) -> ExitCode {
        eprintln!("editmgt: {what}");
        ExitCode::from(STOPPED)
    }
}
