//! `editmgt`: edit images by instruction, and check that a model, a device or a port does it
//! right.
//!
//! Exit status: 0 done, 1 a verification, a check or a job of a batch failed, 2 anything that could
//! not be done (with one line on standard error that says why), 130 stopped by Ctrl-C.
#![forbid(unsafe_code)]

mod batch;
mod bench;
mod conformance;
#[cfg(feature = "train")]
mod cost;
mod devices;
mod edit;
#[cfg(feature = "train")]
mod eval;
mod failure;
mod files;
mod init;
mod inspect;
mod limits;
mod lock;
mod model;
mod options;
mod precision;
mod progress;
mod runs;
mod show;
mod stop;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "train")]
mod train_edit;
mod verify;
#[cfg(feature = "train")]
mod world;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Edit images by instruction with a masked generative transformer.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "Exit status: 0 done, 1 a verification, a check or a job of a batch \
                           failed, 2 anything that could not be done (with one line on standard error \
                           that says why), 130 stopped by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    /// Edit a photo.
    Edit(Box<edit::EditArgs>),
    /// Edit many photos with one model.
    Batch(Box<batch::BatchArgs>),
    /// Print how a PNG was edited.
    Show(show::ShowArgs),
    /// Check stages or whole pipelines against expected values.
    Verify(verify::VerifyArgs),
    /// Check the operations of a device against exact numbers.
    Conformance(conformance::ConformanceArgs),
    /// Measure what half precision costs each stage of a model on a device.
    Precision(Box<precision::PrecisionArgs>),
    /// List the devices of this build and what each can do.
    Devices(devices::DevicesArgs),
    /// Write a model with random weights in the official layout.
    Init(init::InitArgs),
    /// Measure how long each stage of an edit takes, with random weights.
    Bench(bench::BenchArgs),
    /// Measure how the time and memory of whole edits grow with size, steps, batch and captured
    /// layers, and plot it.
    #[cfg(feature = "train")]
    Cost(cost::CostArgs),
    /// Describe a model's parts, sizes and memory needs without loading it.
    Inspect(inspect::InspectArgs),
    /// Measure how well a model edits.
    #[cfg(feature = "train")]
    Eval(eval::EvalArgs),
    /// Train a codec, or a model that edits.
    #[cfg(feature = "train")]
    Train(train::TrainArgs),
    /// Write pictures, instructions and edited pictures of the training world.
    #[cfg(feature = "train")]
    World(world::WorldArgs),
}

/// What a command answers: its exit status, or why it could not be done.
type Outcome = Result<ExitCode, Box<dyn Error>>;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let outcome = failure::guarded(|| match command {
        Command::Edit(args) => edit::run(*args),
        Command::Batch(args) => batch::run(*args),
        Command::Show(args) => show::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Conformance(args) => conformance::run(args),
        Command::Precision(args) => precision::run(*args),
        Command::Devices(args) => devices::run(args),
        Command::Init(args) => init::run(args),
        Command::Bench(args) => bench::run(args),
        #[cfg(feature = "train")]
        Command::Cost(args) => cost::run(args),
        Command::Inspect(args) => inspect::run(args),
        #[cfg(feature = "train")]
        Command::Eval(args) => eval::run(args),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(args),
        #[cfg(feature = "train")]
        Command::World(args) => world::run(args),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("editmgt: {}", failure::one_line(&*error));
        ExitCode::from(2)
    })
}
