//! `editmgt-lab precision`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::{EditRequest, Photo};
use editmgt_diagnostics::conformance;

use crate::Outcome;
use crate::model::ModelArg;
use crate::options::RequestArgs;

/// A scene of the small model's world.
pub(crate) const SCENE: &[u8] = include_bytes!("scene.png");

/// Edits of it.
const INSTRUCTIONS: [&str; 5] = [
    "make the red car blue",
    "remove the green apple",
    "replace the red car with a green apple",
    "change the background to a beach",
    "make the picture a poster",
];

#[derive(Args)]
pub(crate) struct PrecisionArgs {
    /// The photo to edit [default: a scene of the small model's world]
    photo: Option<PathBuf>,
    /// The instruction; may be repeated, each with its own seed, counted from --seed [default: five
    /// edits of that scene]
    #[arg(short, long = "instruction", value_name = "WORDS")]
    instructions: Vec<String>,
    #[command(flatten)]
    model: ModelArg,
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
    #[command(flatten)]
    request: RequestArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: PrecisionArgs) -> Outcome {
    let device = editmgt::open_device(&args.device)?;
    let photo = match &args.photo {
        Some(path) => Photo::open(path)?,
        None => Photo::from_bytes(SCENE)?,
    };
    let instructions = if args.instructions.is_empty() {
        INSTRUCTIONS.map(str::to_owned).to_vec()
    } else {
        args.instructions
    };
    let mut edits = Vec::new();
    for (seed, instruction) in (0..).zip(instructions) {
        let mut edit = args.request.request(EditRequest::new(instruction))?;
        edit.seed = edit.seed.wrapping_add(seed);
        edits.push(edit);
    }
    let report = conformance::precision(&args.model.builder().device(device), &photo, &edits)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?
    } else {
        writeln!(out, "{report}")?
    }
    Ok(ExitCode::SUCCESS)
}
