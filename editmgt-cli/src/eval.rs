//! `editmgt eval`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use editmgt::EditRequest;
use editmgt_train::world::{Split, World, WorldConfig};
use editmgt_train::{Trial, TrialSummary, round_trip, trial};
use indicatif::{ProgressBar, ProgressIterator};

use crate::model::ModelArg;
use crate::{Outcome, files};

#[derive(Args)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Edit held-out scenes of the training world and judge every picture by the world's truth.
    World(Box<WorldEvalArgs>),
}

#[derive(Args)]
struct WorldEvalArgs {
    #[command(flatten)]
    model: ModelArg,
    /// How many scenes
    #[arg(long, default_value_t = 512)]
    n: u64,
    /// train, validation or test
    #[arg(long, default_value = "test")]
    split: String,
    /// A world's config in JSON; what it leaves out keeps its default
    #[arg(long)]
    world: Option<PathBuf>,
    /// Options of the edits, as in a report's `request`, JSON; what it leaves out keeps its default
    #[arg(long, value_name = "JSON")]
    request: Option<PathBuf>,
    /// Make no edits: judge the true pictures as the codec gives them back, which is the best that
    /// any edit can do
    #[arg(long, conflicts_with = "request")]
    codec_only: bool,
    /// Write the summary
    #[arg(long, value_name = "JSON")]
    summary: Option<PathBuf>,
    /// Write every trial, a line each
    #[arg(long, value_name = "JSONL")]
    trials: Option<PathBuf>,
    /// Where to compute: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run(args: EvalArgs) -> Outcome {
    match args.what {
        What::World(args) => world(&args),
    }
}

fn world(args: &WorldEvalArgs) -> Outcome {
    if args.n == 0 {
        return Err("--n: expected at least 1, got 0".into());
    }
    let split: Split = args.split.parse().map_err(|e| format!("--split: {e}"))?;
    let config = match &args.world {
        Some(path) => read(path, |text| Ok(WorldConfig::from_json(text)?))?,
        None => WorldConfig::default(),
    };
    let request = match &args.request {
        Some(path) => read(path, |text| Ok(serde_json::from_str(text)?))?,
        None => EditRequest::default(),
    };
    for path in [&args.trials, &args.summary].into_iter().flatten() {
        files::check_writable(path)?;
    }
    let world = World::new(config)?;
    let device = editmgt::open_device(&args.device)?;
    let editor = args.model.builder().device(device).build()?;

    let mut trials: Vec<Trial> = Vec::new();
    for index in (0..args.n).progress_with(ProgressBar::new(args.n)) {
        trials.push(match args.codec_only {
            true => round_trip(&editor, &world, (split, index))?,
            false => trial(&editor, &world, (split, index), &request)?.0,
        });
    }
    let summary = TrialSummary::of(&trials);
    if let Some(path) = &args.trials {
        let lines: Result<Vec<String>, _> = trials.iter().map(serde_json::to_string).collect();
        files::write(path, (lines?.join("\n") + "\n").as_bytes())?;
    }
    if let Some(path) = &args.summary {
        files::write(path, (serde_json::to_string_pretty(&summary)? + "\n").as_bytes())?;
    }
    print!("{summary}");
    Ok(ExitCode::SUCCESS)
}

fn read<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}
