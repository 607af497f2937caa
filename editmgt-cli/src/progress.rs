//! Progress display of an edit, and its interruption.

use std::io::IsTerminal;
use std::path::PathBuf;

use editmgt::{EditError, EditEvent, EditObserver, Flow, Stage, preview_photo};
use indicatif::{ProgressBar, ProgressStyle};

use crate::stop::StopSignal;

/// Folder and interval of previews.
pub(crate) struct PreviewFolder {
    pub(crate) folder: PathBuf,
    pub(crate) every: usize,
    /// Shrink factor of previews.
    pub(crate) shrink: usize,
    /// Prefix of their names.
    pub(crate) prefix: String,
}

/// Draws a bar on standard error if it is a terminal, writes plain lines otherwise, and neither if
/// `quiet`. Writes previews. Stops the edit on a signal.
pub(crate) struct Progress {
    show: Show,
    stop: StopSignal,
    pub(crate) previews: Option<PreviewFolder>,
    /// What sampling is called.
    pub(crate) sampling: &'static str,
    /// How many images are made.
    pub(crate) images: usize,
    at: Images,
    failure: Option<EditError>,
}

/// How far a run of several images is.
#[derive(Default)]
struct Images {
    /// Images of the passes before this one, and of this one.
    before: usize,
    now: usize,
    /// The last step of this pass.
    step: usize,
    decoded: usize,
}

impl Images {
    /// Counts a step of a pass with this many images; whether it is the pass's first.
    fn step(&mut self, completed: usize, images: usize) -> bool {
        let is_first = self.now == 0 || completed <= self.step;
        if is_first {
            self.before += self.now;
            self.now = images;
        }
        self.step = completed;
        is_first
    }

    /// The images of this pass, by number from 1.
    fn of(&self, all: usize) -> String {
        match (self.before + 1, self.before + self.now) {
            (first, last) if first == last => format!("image {first} of {all}"),
            (first, last) => format!("images {first} to {last} of {all}"),
        }
    }
}

enum Show {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

/// Most plain lines for the steps of an edit.
const LINES: usize = 10;

impl Progress {
    pub(crate) fn new(quiet: bool, stop: StopSignal) -> Self {
        let show = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Show::Nothing,
            (_, true) => Show::Bar(bar()),
            (_, false) => Show::Lines,
        };
        Self {
            show,
            stop,
            previews: None,
            sampling: "editing",
            images: 1,
            at: Images::default(),
            failure: None,
        }
    }

    /// Prints a note, even if `quiet`.
    pub(crate) fn note(&self, what: &str) {
        let note = format!("note: {what}");
        match &self.show {
            Show::Bar(bar) => bar.suspend(|| eprintln!("{note}")),
            Show::Lines | Show::Nothing => eprintln!("{note}"),
        }
    }

    /// Shows the current stage.
    pub(crate) fn show_stage(&self, what: &str) {
        match &self.show {
            Show::Bar(bar) => {
                bar.set_message(what.to_owned());
                bar.tick();
            }
            Show::Lines => eprintln!("{what}"),
            Show::Nothing => {}
        }
    }

    /// Clears the bar; the next edit gets a new one.
    pub(crate) fn finish(&mut self) {
        if let Show::Bar(old) = &mut self.show {
            old.finish_and_clear();
            *old = bar();
        }
    }

    /// The error that stopped the edit, other than the edit's own or an interruption.
    pub(crate) fn failure(&mut self) -> Option<EditError> {
        self.failure.take()
    }

    /// Whether Ctrl-C was pressed.
    #[cfg(feature = "remote")]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_set()
    }

    /// Shows the number of steps that are done.
    pub(crate) fn step(&self, completed: usize, total: usize) {
        match &self.show {
            Show::Bar(bar) => {
                bar.set_length(total as u64);
                bar.set_position(completed as u64);
            }
            Show::Lines if completed.is_multiple_of(total.div_ceil(LINES)) => {
                eprintln!("step {completed} of {total}");
            }
            _ => {}
        }
    }
}

impl EditObserver for Progress {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        match event {
            EditEvent::StageStarted(Stage::Decode) if self.images > 1 => {
                self.at.decoded += 1;
                self.show_stage(&format!("decoding {} of {}", self.at.decoded, self.images));
            }
            EditEvent::StageStarted(stage) => self.show_stage(match stage {
                Stage::EncodeText => "encoding text",
                Stage::EncodeImage => "encoding photo",
                Stage::Sample => self.sampling,
                Stage::Decode => "decoding",
                _ => "working",
            }),
            EditEvent::Step { completed, total, tokens, .. } => {
                if self.at.step(*completed, tokens.batch()) && self.images > 1 {
                    self.show_stage(&self.at.of(self.images));
                }
                self.step(*completed, *total);
            }
            EditEvent::Preview { completed, image, .. } => {
                let written = self.previews.iter().try_for_each(|to| -> Result<(), EditError> {
                    let name = format!("{}step-{completed:04}.png", to.prefix);
                    preview_photo(image)?.save(to.folder.join(name))?;
                    Ok(())
                });
                if let Err(error) = written {
                    self.failure = Some(error);
                    return Flow::Stop;
                }
            }
            _ => {}
        }
        if self.stop.is_set() { Flow::Stop } else { Flow::Continue }
    }

    fn wants_preview(&mut self, completed: usize, total: usize) -> bool {
        let due = |to: &PreviewFolder| completed.is_multiple_of(to.every) || completed == total;
        self.previews.as_ref().is_some_and(due)
    }

    fn preview_shrink(&self) -> usize {
        self.previews.as_ref().map_or(1, |to| to.shrink)
    }
}

fn bar() -> ProgressBar {
    // The number of steps may be the model's default: the first step reports it.
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{msg:18} {wide_bar} {pos}/{len} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_number_their_images() {
        let mut images = Images::default();
        let passes = [(4, 3), (4, 3), (1, 3)];
        let mut told = Vec::new();
        for (batch, steps) in passes {
            for step in 1..=steps {
                if images.step(step, batch) {
                    told.push(images.of(9));
                }
            }
        }
        assert_eq!(told, ["images 1 to 4 of 9", "images 5 to 8 of 9", "image 9 of 9"]);
        // Passes of one step, and of the last steps of a schedule.
        let mut images = Images::default();
        assert!(images.step(1, 1) && images.step(1, 1));
        assert_eq!(images.of(2), "image 2 of 2");
        assert!(images.step(1, 1) && !images.step(2, 1));
    }
}
