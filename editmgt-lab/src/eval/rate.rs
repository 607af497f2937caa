//! `editmgt-lab eval rate`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use editmgt_eval::{Endpoint, Summary, rate_with};
use editmgt_store::FileRoles;
use indicatif::ProgressBar;

use super::{declare_run, report_summary};
use crate::lock::LockArgs;
use crate::{Outcome, files};

#[derive(Args)]
pub(super) struct RateArgs {
    /// The run's folder, with its images
    dir: PathBuf,
    /// URL of the rater, without /chat/completions: http://localhost:8000/v1
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// The model to request
    #[arg(long, value_name = "NAME")]
    rater_model: String,
    /// Environment variable with the API key
    #[arg(long, value_name = "VAR")]
    key_env: Option<String>,
    /// Output folder of the ratings; a rating that was stopped is resumed [default: the folder
    /// ratings in the run's]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    lock: LockArgs,
    /// Time limit of an answer in seconds
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Write the summary to this file
    #[arg(long, value_name = "JSON")]
    summary: Option<PathBuf>,
    /// Seed of the intervals
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

pub(super) fn run(args: &RateArgs) -> Outcome {
    let mut run = FileRoles::default();
    declare_run(&mut run, "run", &args.dir);
    let out = args.out.clone().unwrap_or_else(|| args.dir.join("ratings"));
    for name in ["rater.json", "ratings.jsonl", "ratings.lock"] {
        run.output("ratings", out.join(name))?;
    }
    files::check_outputs(run, [("summary", args.summary.as_deref())])?;
    let key = args.key_env.as_deref().map(|name| {
        std::env::var(name).map_err(|e| format!("--key-env: expected a key in {name}: {e}"))
    });
    let timeout = Duration::from_secs(args.timeout);
    let endpoint = Endpoint::new(&args.endpoint, &args.rater_model, key.transpose()?, timeout);
    let bar = ProgressBar::new(0);
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let rated = rate_with(&args.dir, &out, &endpoint, args.lock.locking(), &mut progress)?;
    bar.finish_and_clear();
    report_summary(&Summary::of(&rated.records, args.interval_seed), args.summary.as_deref())?;
    if let Some((index, problem)) = rated.problems.first() {
        println!(
            "\n{} answers could not be used, that to edit {index} for instance: {problem}. Start \
             again to ask again.",
            rated.problems.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}
