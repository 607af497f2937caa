//! `editmgt train`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};
use editmgt::Flow;
use editmgt_store::{FileRoles, RunAccess};
use editmgt_train::codec::CodecRun;
use editmgt_train::run::{RunFolder, TrainError, TrainEvent};
use editmgt_world::Metrics;
use indicatif::{ProgressBar, ProgressStyle};

use crate::Outcome;
use crate::lock::LockArgs;

#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Train a VQ codec.
    Codec(RunArgs),
    /// Train to edit: a small model from nothing, or a model that there is (`init_from`), all of
    /// it or a LoRA adapter.
    Edit(RunArgs),
    /// Write the model of the newest checkpoint of an edit run, which may go on meanwhile.
    Export(ExportArgs),
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The run's config, TOML
    pub(crate) config: PathBuf,
    /// The run's own folder; the model goes to its folder `model`
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The run's config, TOML
    pub(crate) config: PathBuf,
    /// The run's own folder: checkpoints, metrics.jsonl, and the result
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Go on with the run in the folder
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
    /// Where to compute: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    pub(crate) device: String,
}

impl RunArgs {
    /// Refuses, before anything is loaded, a folder that can't be used and files of the run that it
    /// also reads: its config, and what `declare` declares.
    pub(crate) fn check_files(
        &self,
        declare: impl FnOnce(&mut FileRoles),
    ) -> Result<FileRoles, TrainError> {
        RunFolder::check(&self.out, self.resume)?;
        let mut roles = FileRoles::default();
        roles.input("config", &self.config);
        declare(&mut roles);
        RunFolder::declare_outputs(&self.out, &mut roles)?;
        Ok(roles)
    }

    pub(crate) fn access(&self) -> RunAccess {
        RunAccess { resume: self.resume, locking: self.lock.locking() }
    }
}

pub(crate) fn run(args: TrainArgs) -> Outcome {
    match args.what {
        What::Codec(args) => codec(&args),
        What::Edit(args) => crate::train_edit::run(&args),
        What::Export(args) => crate::train_edit::export(&args),
    }
}

fn codec(args: &RunArgs) -> Outcome {
    let path = args.config.display();
    let text = editmgt_store::read_text(&args.config)?;
    let run = CodecRun::from_toml(&text).map_err(|e| format!("{path}: {e}"))?;
    args.check_files(|_| {})?;
    let device = editmgt::open_device(&args.device)?;
    let mut view = View::new(run.training.run.log_every);
    let trained = run.train(&args.out, args.access(), &device, &mut |event| {
        view.show(event);
        Flow::Continue
    });
    view.finish();
    let (dir, report) = trained?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    println!("{}", dir.display());
    Ok(ExitCode::SUCCESS)
}

/// A bar on a terminal, a line now and then elsewhere.
pub(crate) struct View {
    bar: ProgressBar,
    is_terminal: bool,
    log_every: u64,
    /// When this process began, and after how many steps of the run.
    start: (Instant, u64),
}

impl View {
    pub(crate) fn new(log_every: u64) -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{pos}/{len} {wide_bar} {per_sec} {eta}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let is_terminal = std::io::stderr().is_terminal();
        Self { bar, is_terminal, log_every, start: (Instant::now(), 0) }
    }

    pub(crate) fn show(&mut self, event: &TrainEvent<'_>) {
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

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        match self.is_terminal {
            true => self.bar.println(text),
            false => eprintln!("{text}"),
        }
    }
}

fn numbers(metrics: &Metrics) -> String {
    let numbers = metrics.iter().map(|(name, value)| format!("{name} {value:.4}"));
    numbers.collect::<Vec<_>>().join("  ")
}
