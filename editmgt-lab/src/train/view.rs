//! Progress of a training run.

use std::io::IsTerminal;
use std::time::Instant;

use editmgt_train::run::TrainEvent;
use editmgt_world::Metrics;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on a terminal, occasional lines otherwise.
pub(super) struct View {
    bar: ProgressBar,
    is_terminal: bool,
    log_every: u64,
    /// Start time of this process, and the run's step at that time.
    start: (Instant, u64),
}

impl View {
    pub(super) fn new(log_every: u64) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{pos}/{len} {wide_bar} {per_sec} {eta}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let is_terminal = std::io::stderr().is_terminal();
        Self { bar, is_terminal, log_every, start: (Instant::now(), 0) }
    }

    pub(super) fn show(&mut self, event: &TrainEvent<'_>) {
        match event {
            TrainEvent::Encoding { completed, total } => {
                self.bar.set_length(*total);
                self.bar.set_position(*completed);
                self.bar.set_message("rows encoded");
                if !self.is_terminal && (completed % self.log_every == 0 || completed == total) {
                    eprintln!("encoded {completed}/{total} rows");
                }
            }
            TrainEvent::Data { report } => self.line(&report.to_string()),
            TrainEvent::Started { completed, total } => {
                self.start = (Instant::now(), *completed);
                self.bar.set_length(*total);
                self.bar.set_position(*completed);
                self.bar.reset_eta();
            }
            TrainEvent::Step { completed, total, metrics } => {
                let loss = metrics.get("loss").unwrap_or(f64::NAN);
                self.bar.set_position(*completed);
                self.bar.set_message(format!("loss {loss:.4}"));
                if !self.is_terminal && (completed % self.log_every == 0 || completed == total) {
                    let (began, before) = self.start;
                    let seconds = began.elapsed().as_secs_f64() / (completed - before) as f64;
                    let left = seconds * (total - completed) as f64 / 60.0;
                    eprintln!(
                        "step {completed}/{total}  loss {loss:.4}  {seconds:.3} s/step  \
                         {left:.0} min left"
                    );
                }
            }
            TrainEvent::Evaluation { completed, metrics } => {
                self.line(&format!("step {completed}  {}", numbers(metrics)));
            }
            TrainEvent::Saved { dir } => self.line(&format!("saved {}", dir.display())),
            _ => {}
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        if self.is_terminal { self.bar.println(text) } else { eprintln!("{text}") }
    }
}

fn numbers(metrics: &Metrics) -> String {
    let numbers = metrics.iter().map(|(name, value)| format!("{name} {value:.4}"));
    numbers.collect::<Vec<_>>().join("  ")
}
