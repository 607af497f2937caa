//! `editmgt-lab`: train and evaluate editing models, and measure models and devices.
//!
//! Exit status: 0 done, 1 a check failed, 2 any error (with one line on standard error). `editmgt`
//! edits.
#![forbid(unsafe_code)]

mod bench;
mod conformance;
#[cfg(feature = "train")]
mod cost;
#[cfg(feature = "train")]
mod eval;
mod init;
#[cfg(feature = "train")]
mod plans;
mod precision;
mod runs;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "train")]
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
#[cfg(feature = "train")]
use editmgt_cli::lock;
use editmgt_cli::{Outcome, failure, files, model, options};

/// Train, evaluate and measure models that edit images by instruction.
#[derive(Parser)]
#[command(name = "editmgt-lab", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "To edit: editmgt.\n\n\
                           Exit status: 0 done, 1 a check failed, 2 anything that could not be done \
                           (with one line on standard error that says why).";

#[derive(Subcommand)]
enum Command {
    /// Train a codec, or an editing model.
    #[cfg(feature = "train")]
    Train(train::TrainArgs),
    /// Evaluate an editing model.
    #[cfg(feature = "train")]
    Eval(eval::EvalArgs),
    /// Write images, instructions and edited images of the training world.
    #[cfg(feature = "train")]
    World(world::WorldArgs),
    /// Measure the time of each stage of an edit, with random weights.
    Bench(bench::BenchArgs),
    /// Measure and plot how the time and memory of edits grow with size, steps, batch and attention
    /// capture.
    #[cfg(feature = "train")]
    Cost(cost::CostArgs),
    /// Measure and plot the time of an edit's steps by step plan and by the share of the canvas
    /// that is edited, with random weights.
    #[cfg(feature = "train")]
    Plans(plans::PlansArgs),
    /// Check the operations of a device against exact numbers.
    Conformance(conformance::ConformanceArgs),
    /// Measure the error of half precision in each stage of a model on a device.
    Precision(Box<precision::PrecisionArgs>),
    /// Write a model with random weights in the official layout.
    Init(init::InitArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    failure::run("editmgt-lab", || match command {
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(args),
        #[cfg(feature = "train")]
        Command::Eval(args) => eval::run(args),
        #[cfg(feature = "train")]
        Command::World(args) => world::run(args),
        Command::Bench(args) => bench::run(args),
        #[cfg(feature = "train")]
        Command::Cost(args) => cost::run(args),
        #[cfg(feature = "train")]
        Command::Plans(args) => plans::run(args),
        Command::Conformance(args) => conformance::run(args),
        Command::Precision(args) => precision::run(*args),
        Command::Init(args) => init::run(args),
    })
}
