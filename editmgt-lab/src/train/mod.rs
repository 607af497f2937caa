//! `editmgt-lab train`.

mod codec;
mod edit;
mod options;
mod view;

use clap::{Args, Subcommand};

use crate::Outcome;
use options::{ExportArgs, TrainRunArgs};

#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Train a VQ codec.
    Codec(TrainRunArgs),
    /// Train an editing model: a small one from scratch, or an existing one (`init_from`), in full
    /// or by a LoRA adapter.
    Edit(TrainRunArgs),
    /// Export the newest checkpoint of an edit run, which may still be active.
    Export(ExportArgs),
}

pub(crate) fn run(args: TrainArgs) -> Outcome {
    match args.what {
        What::Codec(args) => codec::run(&args),
        What::Edit(args) => edit::run(&args),
        What::Export(args) => edit::export(&args),
    }
}
