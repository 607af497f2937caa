//! `editmgt`: edit images by instruction.
//!
//! Exit status: 0 done, 1 a failed verification or batch job, 2 any error (with one line on
//! standard error), 130 stopped by Ctrl-C. `editmgt-lab` trains and measures.
#![forbid(unsafe_code)]

mod batch;
#[cfg(feature = "cloud")]
mod batch_cloud;
mod devices;
mod edit;
mod generate;
mod image_to_image;
mod inspect;
mod limits;
mod made;
#[cfg(feature = "serve")]
mod mcp;
#[cfg(feature = "hub")]
mod models;
mod progress;
#[cfg(feature = "hub")]
mod pull;
mod pull_first;
mod quantize;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serve_models;
mod show;
mod stop;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use editmgt_cli::{Outcome, failure, files, lock, model, number, options};

/// Edit images by instruction with a masked generative transformer.
#[derive(Parser)]
#[command(name = "editmgt", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "To train, evaluate and measure: editmgt-lab.\n\n\
                           Exit status: 0 done, 1 a verification or a job of a batch failed, 2 \
                           anything that could not be done (with one line on standard error that \
                           says why), 130 stopped by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    /// Edit a photo.
    Edit(Box<edit::EditArgs>),
    /// Generate what a mask leaves white in a photo from a description of it.
    Inpaint(Box<edit::InpaintCommand>),
    /// Generate margins around a photo.
    Outpaint(Box<edit::OutpaintCommand>),
    /// Generate images from text.
    Generate(Box<generate::GenerateCommand>),
    /// Generate images from text that keep something of a photo.
    ImageToImage(Box<image_to_image::ImageToImageCommand>),
    /// Edit many photos with one model.
    Batch(Box<batch::BatchArgs>),
    /// Serve a page to edit in, and an HTTP API.
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    /// Serve tools for agents over standard input and output (Model Context Protocol).
    #[cfg(feature = "serve")]
    Mcp(Box<mcp::McpArgs>),
    /// Print the options that a PNG was made with.
    Show(show::ShowArgs),
    /// Describe a model's components, sizes and memory needs without loading it.
    Inspect(inspect::InspectArgs),
    /// Write a model with its weights in 8 or 4 bits.
    Quantize(quantize::QuantizeArgs),
    /// List the devices of this build and their capabilities.
    Devices(devices::DevicesArgs),
    /// Download a published model into the hub's cache, or say what would come.
    #[cfg(feature = "hub")]
    Pull(pull::PullArgs),
    /// List published models, and what the hub's cache has of them.
    #[cfg(feature = "hub")]
    Models(models::ModelsArgs),
    /// Check stages or whole pipelines against expected values.
    Verify(verify::VerifyArgs),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    failure::run("editmgt", || match command {
        Command::Edit(args) => edit::run(*args),
        Command::Inpaint(args) => edit::inpaint(*args),
        Command::Outpaint(args) => edit::outpaint(*args),
        Command::Generate(args) => generate::run(*args),
        Command::ImageToImage(args) => image_to_image::run(*args),
        Command::Batch(args) => batch::run(*args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(*args),
        #[cfg(feature = "serve")]
        Command::Mcp(args) => mcp::run(*args),
        Command::Show(args) => show::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Devices(args) => devices::run(args),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::run(args),
        #[cfg(feature = "hub")]
        Command::Models(args) => models::run(args),
        Command::Verify(args) => verify::run(args),
    })
}
