//! `editmgt devices`.

use std::process::ExitCode;

use clap::Args;

use crate::Outcome;

#[derive(Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: DevicesArgs) -> Outcome {
    let devices = editmgt::devices();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&devices)?);
        return Ok(ExitCode::SUCCESS);
    }
    for device in devices {
        println!("{device}");
    }
    Ok(ExitCode::SUCCESS)
}
