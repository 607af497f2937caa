//! Ctrl-C, and what a system says when it wants a program to end.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The exit status of a program that was stopped, as shells have it: 128 and SIGINT.
const STOPPED: u8 = 130;

/// Whether the user wants the edit to stop.
#[derive(Clone, Default)]
pub(crate) struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// From now on Ctrl-C, or the system's wish that the program ends, sets the signal instead of
    /// ending the program; a second one ends it.
    pub(crate) fn on_ctrl_c() -> Result<Self, Box<dyn Error>> {
        let signal = Self::default();
        for wish in [SIGINT, SIGTERM] {
            // In this order: the first handler sees the flag as the last signal left it.
            flag::register_conditional_shutdown(wish, STOPPED.into(), signal.0.clone())
                .and_then(|_| flag::register(wish, signal.0.clone()))
                .map_err(|error| format!("can't listen to Ctrl-C: {error}"))?;
        }
        Ok(signal)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Says that the edit was stopped, in one line.
    pub(crate) fn stopped(what: &str) -> ExitCode {
        eprintln!("editmgt: {what}");
        ExitCode::from(STOPPED)
    }
}
