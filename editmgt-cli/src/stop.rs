//! Ctrl-C (SIGINT) and SIGTERM.

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit status after an interruption, by the shells' convention: 128 plus SIGINT.
const STOPPED: u8 = 130;
/// How often the signal is looked at, besides between steps.
const POLL: Duration = Duration::from_millis(100);
/// Most edits have stopped by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the edit was asked to stop.
#[derive(Clone, Default)]
pub(crate) struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Installs handlers: the first Ctrl-C or SIGTERM sets the signal instead of ending the
    /// program; a second one ends it.
    pub(crate) fn on_ctrl_c() -> Result<Self, Box<dyn Error>> {
        // A command that downloads its model first asks twice.
        static INSTALLED: OnceLock<StopSignal> = OnceLock::new();
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let signal = Self::default();
        for wish in [SIGINT, SIGTERM] {
            // In this order: the first handler sees the flag's value before this signal.
            flag::register_conditional_shutdown(wish, STOPPED.into(), signal.0.clone())
                .and_then(|_| flag::register(wish, signal.0.clone()))
                .map_err(|error| format!("cannot handle Ctrl-C: {error}"))?;
        }
        signal.announce();
        Ok(INSTALLED.get_or_init(|| signal).clone())
    }

    /// Says once, where a step takes long, that the signal was received: a handler itself may not
    /// print.
    fn announce(&self) {
        let signal = self.clone();
        std::thread::spawn(move || {
            while !signal.is_set() {
                std::thread::sleep(POLL);
            }
            std::thread::sleep(PATIENCE);
            eprintln!("editmgt: stopping after this step; Ctrl-C again ends it now");
        });
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
