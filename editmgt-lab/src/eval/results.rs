//! `editmgt-lab eval summary`, `compare` and `report`: commands on finished runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_eval::{Comparison, ReportOptions, Summary, read_records};
use editmgt_store::FileRoles;

use super::{declare_run, report_summary};
use crate::{Outcome, files};

#[derive(Args)]
pub(super) struct SummaryArgs {
    /// The run's folder
    dir: PathBuf,
    /// Write the summary to this file
    #[arg(long, value_name = "JSON")]
    summary: Option<PathBuf>,
    /// Seed of the intervals
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

#[derive(Args)]
pub(super) struct CompareArgs {
    /// The first run's folder
    a: PathBuf,
    /// The second run's folder
    b: PathBuf,
    /// Write the comparison to this file
    #[arg(long, value_name = "JSON")]
    out: Option<PathBuf>,
    /// Seed of the intervals and tests
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

#[derive(Args)]
pub(super) struct ReportArgs {
    /// The run's folder; run with `--pictures`, or the gallery has no images
    dir: PathBuf,
    /// The page to write
    #[arg(long, value_name = "HTML")]
    out: PathBuf,
    /// The metric by which the worst edits are chosen
    #[arg(long, default_value = "l1")]
    by: String,
    /// Most edits in the gallery
    #[arg(long, default_value_t = 60)]
    cases: usize,
    /// Title of the page
    #[arg(long, default_value = "How well it edits")]
    title: String,
    /// Seed of the intervals
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

pub(super) fn summary(args: &SummaryArgs) -> Outcome {
    let mut run = FileRoles::default();
    declare_run(&mut run, "run", &args.dir);
    files::check_outputs(run, [("summary", args.summary.as_deref())])?;
    let records = read_records(&args.dir)?;
    report_summary(&Summary::of(&records, args.interval_seed), args.summary.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn report(args: &ReportArgs) -> Outcome {
    let mut run = FileRoles::default();
    declare_run(&mut run, "run", &args.dir);
    files::check_outputs(run, [("page", Some(&*args.out))])?;
    let records = read_records(&args.dir)?;
    let options = ReportOptions {
        title: args.title.clone(),
        by: args.by.clone(),
        cases: args.cases,
        seed: args.interval_seed,
    };
    files::write(&args.out, editmgt_eval::report(&args.dir, &records, &options)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn compare(args: &CompareArgs) -> Outcome {
    let mut runs = FileRoles::default();
    declare_run(&mut runs, "first run", &args.a);
    declare_run(&mut runs, "second run", &args.b);
    files::check_outputs(runs, [("comparison", args.out.as_deref())])?;
    let (a, b) = (read_records(&args.a)?, read_records(&args.b)?);
    let comparison = Comparison::of(&a, &b, &args.b, args.interval_seed)?;
    if let Some(path) = &args.out {
        files::write(path, serde_json::to_string_pretty(&comparison)? + "\n")?;
    }
    print!("{comparison}");
    Ok(ExitCode::SUCCESS)
}
