//! `editmgt eval summary` and `compare`: what is done with runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_eval::{Comparison, Summary, read_records};

use super::tell;
use crate::{Outcome, files};

#[derive(Args)]
pub(super) struct SummaryArgs {
    /// The run's folder
    dir: PathBuf,
    /// Write the summary
    #[arg(long, value_name = "JSON")]
    summary: Option<PathBuf>,
    /// The seed of the intervals
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

#[derive(Args)]
pub(super) struct CompareArgs {
    /// The first run's folder
    a: PathBuf,
    /// The second run's folder
    b: PathBuf,
    /// Write the comparison
    #[arg(long, value_name = "JSON")]
    out: Option<PathBuf>,
    /// The seed of the intervals and tests
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

pub(super) fn summary(args: &SummaryArgs) -> Outcome {
    let records = read_records(&args.dir)?;
    tell(&Summary::of(&records, args.interval_seed), args.summary.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn compare(args: &CompareArgs) -> Outcome {
    let (a, b) = (read_records(&args.a)?, read_records(&args.b)?);
    let comparison = Comparison::of(&a, &b, &args.b, args.interval_seed)?;
    if let Some(path) = &args.out {
        files::write(path, (serde_json::to_string_pretty(&comparison)? + "\n").as_bytes())?;
    }
    print!("{comparison}");
    Ok(ExitCode::SUCCESS)
}
