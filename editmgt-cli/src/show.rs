//! `editmgt show`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::Record;

use crate::Outcome;

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// A PNG written by `editmgt edit`, `inpaint`, `outpaint`, `generate` or `batch`
    file: PathBuf,
}

pub(crate) fn run(args: ShowArgs) -> Outcome {
    let record = Record::open(&args.file)?;
    println!("{}", serde_json::to_string_pretty(&record)?);
    Ok(ExitCode::SUCCESS)
}
