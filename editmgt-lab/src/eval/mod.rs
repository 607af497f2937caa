//! `editmgt-lab eval`.

mod ablate;
mod encoders;
mod gedit;
mod pairs;
mod rate;
mod results;
mod world;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use editmgt::{EditRequest, Editor};
use editmgt_eval::encoders::{Encoders, WithSimilarity};
use editmgt_eval::{Measured, RunStore, Shard, Suite, Summary};
use editmgt_store::{FileRoles, json};
use indicatif::ProgressBar;

use crate::lock::LockArgs;
use crate::model::{ModelArg, PrecisionArgs};
use crate::{Outcome, files};

#[derive(Args)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Edit held-out scenes of the training world, and measure the results against its ground truth
    World(Box<world::WorldEvalArgs>),
    /// Edit the images of a data set of pairs, and compare the results with the images after
    Pairs(Box<pairs::PairsArgs>),
    /// Edit the photos of GEdit-Bench, and write the results in the layout of its rating scripts
    Gedit(Box<gedit::GeditArgs>),
    /// Rate every edit of a run by a model behind an OpenAI-compatible endpoint
    Rate(rate::RateArgs),
    /// Vary one option at a time over scenes of the training world: tables and plots
    Ablate(Box<ablate::AblateArgs>),
    /// Summarise the run in a folder, with all its shards
    Summary(results::SummaryArgs),
    /// Write an HTML report of the run in a folder: table, plots, and the worst edits
    Report(results::ReportArgs),
    /// Compare two runs edit by edit, with intervals and paired tests
    Compare(results::CompareArgs),
}

pub(crate) fn run(args: EvalArgs) -> Outcome {
    match args.what {
        What::World(args) => world::run(&args),
        What::Pairs(args) => pairs::run(&args),
        What::Gedit(args) => gedit::run(&args),
        What::Rate(args) => rate::run(&args),
        What::Ablate(args) => ablate::run(&args),
        What::Summary(args) => results::summary(&args),
        What::Report(args) => results::report(&args),
        What::Compare(args) => results::compare(&args),
    }
}

/// Options of the editor and its edits.
#[derive(Args)]
struct EditorArgs {
    #[command(flatten)]
    model: ModelArg,
    /// Options of the edits, as in a report's `request`, JSON; missing keys have their defaults
    #[arg(long, value_name = "JSON")]
    request: Option<PathBuf>,
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
    #[command(flatten)]
    precision: PrecisionArgs,
}

impl EditorArgs {
    fn request(&self) -> Result<EditRequest, Box<dyn Error>> {
        match &self.request {
            Some(path) => read(path, |text| {
                Ok(json::parse_object(text.as_bytes()).and_then(json::from_object)?)
            }),
            None => Ok(EditRequest::default()),
        }
    }

    /// Declares the files of the model and the request as inputs.
    fn declare(&self, roles: &mut FileRoles) {
        self.model.declare(roles);
        if let Some(request) = &self.request {
            roles.input("request", request);
        }
    }

    fn editor(&self) -> Result<Editor, Box<dyn Error>> {
        let device = editmgt::open_device(&self.device)?;
        let dtype = self.precision.policy(&device)?;
        Ok(self.model.builder().device(device).dtype(dtype).build()?)
    }
}

/// Options shared by all suites.
#[derive(Args)]
struct SuiteArgs {
    /// Output folder of the run: `run.json`, and `trials.jsonl` with a line per edit. A run that
    /// was stopped resumes when it is started again
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run every N-th edit, from the I-th on; N processes share one folder
    #[arg(long, value_name = "I/N", default_value = "1/1", requires = "out")]
    shard: Shard,
    #[command(flatten)]
    lock: LockArgs,
    /// Write the summary to this file
    #[arg(long, value_name = "JSON")]
    summary: Option<PathBuf>,
    /// Save the images of every edit in the run's folder, for `editmgt-lab eval report`
    #[arg(long, requires = "out")]
    pictures: bool,
    /// Seed of the intervals
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

impl SuiteArgs {
    /// Checks the outputs before a model is loaded: each must be writable, and differ from the
    /// inputs (`inputs`) and from other outputs.
    fn check(&self, mut inputs: FileRoles) -> Result<(), Box<dyn Error>> {
        if let Some(out) = &self.out {
            inputs.output("run's own files", out.join("run.json"))?;
            for name in ["trials", "seconds"] {
                let file = out.join(self.shard.file(name));
                inputs.output("run's own files", file.with_extension("lock"))?;
                inputs.output("run's own files", file)?;
            }
            for folder in ["pictures", "fullset"] {
                inputs.output_tree("run's images", out.join(folder))?;
            }
        }
        files::check_outputs(inputs, [("summary", self.summary.as_deref())])
    }

    /// Runs the remaining edits of a suite's shard, and prints and writes its summary. The encoders
    /// measure every edit.
    fn run(&self, suite: &dyn Suite, encoders: &Encoders) -> Result<(), Box<dyn Error>> {
        let looked_at = WithSimilarity { suite, encoders };
        // Without saved images a run is still the same run.
        let suite = if encoders.is_empty() { suite } else { &looked_at };
        let identity = suite.identity()?;
        let store = self
            .out
            .as_deref()
            .map(|dir| RunStore::open_with(dir, &identity, self.shard, self.lock.locking()));
        let mut store = store.transpose()?;
        let bar = ProgressBar::new(0);
        let mut keep = |measured: &Measured| {
            let Some(dir) = &self.out else { return Ok(()) };
            suite.save(dir, measured)?;
            match &measured.panels {
                Some(panels) if self.pictures => panels.save(dir, measured.record.index),
                _ => Ok(()),
            }
        };
        let records =
            editmgt_eval::run(suite, self.shard, store.as_mut(), &mut keep, &mut |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            })?;
        bar.finish_and_clear();
        report_summary(&Summary::of(&records, self.interval_seed), self.summary.as_deref())
    }
}

/// Declares the files of the run in `dir` as inputs.
fn declare_run(roles: &mut FileRoles, what: &str, dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_log = ["trials", "seconds"].iter().any(|log| name.starts_with(log));
        if name == "run.json" || (is_log && name.ends_with(".jsonl")) {
            roles.input(what, entry.path());
        }
    }
    for folder in ["pictures", "fullset"] {
        roles.input_tree(what, dir.join(folder));
    }
}

/// Prints a summary, and writes it if requested.
fn report_summary(summary: &Summary, path: Option<&Path>) -> Result<(), Box<dyn Error>> {
    if let Some(path) = path {
        files::write(path, serde_json::to_string_pretty(summary)? + "\n")?;
    }
    print!("{summary}");
    Ok(())
}

fn read<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let text = editmgt_store::read_text(path)?;
    parse(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}
