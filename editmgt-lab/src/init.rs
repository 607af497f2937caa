//! `editmgt-lab init`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_diagnostics::init::{InitRequest, init};

use crate::Outcome;

#[derive(Args)]
pub(crate) struct InitArgs {
    /// The folder to write; must be empty or not exist
    out: PathBuf,
    /// full (the official sizes), tiny, or a base that was not trained to edit: meissonic-tiny,
    /// amused-tiny
    #[arg(long, default_value = "full")]
    preset: String,
    /// f32, f16 or bf16
    #[arg(long, default_value = "bf16")]
    dtype: String,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: InitArgs) -> Outcome {
    let request =
        InitRequest { preset: args.preset.parse()?, dtype: args.dtype.parse()?, seed: args.seed };
    init(&args.out, &request)?;
    // The model is written; a closed pipe is not an error.
    let _unread = writeln!(
        std::io::stdout(),
        "{}: wrote a random {} model in {}",
        args.out.display(),
        request.preset,
        request.dtype
    );
    Ok(ExitCode::SUCCESS)
}
