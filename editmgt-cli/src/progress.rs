//! A progress bar that listens to an edit.

use editmgt::{EditEvent, EditObserver, Flow, Stage};
use indicatif::{ProgressBar, ProgressStyle};

/// Draws on standard error when that is a terminal, and is silent otherwise.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        // The model decides the number of steps where the user did not: the first one tells.
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        let style = ProgressStyle::with_template("{msg:16} {wide_bar} {pos}/{len} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// Names what is going on before the edit itself starts.
    pub(crate) fn say(&self, what: &'static str) {
        self.bar.set_message(what);
        self.bar.tick();
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl EditObserver for Progress {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        match event {
            EditEvent::StageStarted(stage) => self.say(match stage {
                Stage::EncodeText => "reading words",
                Stage::EncodeImage => "reading photo",
                Stage::Sample => "editing",
                Stage::Decode => "decoding",
                _ => "working",
            }),
            EditEvent::Step { completed, total, .. } => {
                self.bar.set_length(*total as u64);
                self.bar.set_position(*completed as u64);
            }
            _ => {}
        }
        Flow::Continue
    }
}
