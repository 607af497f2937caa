//! `editmgt-lab train`.

mod codec;
mod edit;
mod options;
mod view;

use clap::{Args, Subcommand};

use crate::Outcome;
use options::{ExportArgs, RunArgs};

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

pub(crate) fn run(args: TrainArgs) -> Outcome {
    match args.what {
        What::Codec(args) => codec::run(&args),
        What::Edit(args) => edit::run(&args),
        What::Export(args) => edit::export(&args),
    }
}
