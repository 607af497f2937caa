//! `editmgt inspect`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::config::UnknownKeys;
use editmgt::{Dtype, EditDefaults, WeightBits};
use editmgt_diagnostics::inspect::{ModelSummary, inspect_accepting};
use indicatif::{HumanBytes, HumanCount};

use crate::pull_first::PullFirst;
use crate::{Outcome, model};

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// The model's folder, or the name of a model in the hub's cache (see `editmgt models`)
    #[arg(value_name = "DIR|NAME")]
    dir: PathBuf,
    /// Which weights to describe where there are several: fp16 for *.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Describe a pipeline of a class that this program does not know, too
    #[arg(long)]
    accept_unknown_keys: bool,
    #[command(flatten)]
    pull: PullFirst,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: InspectArgs) -> Outcome {
    model::note_folder(&args.dir);
    if let Some(stopped) = args.pull.run_named(Some(&args.dir), args.variant.as_deref(), false)? {
        return Ok(stopped);
    }
    let unknown = UnknownKeys::accept(args.accept_unknown_keys);
    let summary = inspect_accepting(&args.dir, args.variant.as_deref(), unknown)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
    } else {
        write_table(&mut out, &summary)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_table(out: &mut impl Write, summary: &ModelSummary) -> io::Result<()> {
    writeln!(
        out,
        "{:14} {:>8} {:>15} {:>12} {:>14} {:>14} {:>11} {:>11}  dtypes on disk",
        "component",
        "tensors",
        "parameters",
        "on disk",
        "memory as f32",
        "as f16, bf16",
        "in 8 bits",
        "in 4 bits"
    )?;
    for (name, part) in summary.rows() {
        let dtypes: Vec<String> =
            part.dtypes.iter().map(|(dtype, count)| format!("{dtype} {}", count.tensors)).collect();
        writeln!(
            out,
            "{name:14} {:>8} {:>15} {:>12} {:>14} {:>14} {:>11} {:>11}  {}",
            part.tensors,
            HumanCount(part.parameters).to_string(),
            HumanBytes(part.bytes_on_disk).to_string(),
            HumanBytes(summary.memory(name, Dtype::F32)).to_string(),
            HumanBytes(summary.memory(name, Dtype::Bf16)).to_string(),
            HumanBytes(summary.memory_quantized(name, WeightBits::Eight)).to_string(),
            HumanBytes(summary.memory_quantized(name, WeightBits::Four)).to_string(),
            dtypes.join(", "),
        )?;
    }
    writeln!(
        out,
        "Memory is for the weights alone; activations come on top. The codec always runs in f32. On the CPU, \
         matrices\nof the others that are stored as f16 or bf16 take half of what `as f32` says: they stay so, as do \
         those in 8 or 4 bits\n(--quantize, or `editmgt quantize`)."
    )?;
    writeln!(out, "Identity (SHA-256): {}", summary.sha256)?;
    let jobs: Vec<&str> = summary.trained_for.iter().map(|job| job.name()).collect();
    writeln!(out, "Of the {} family, for: {}", summary.family, jobs.join(", "))?;
    if summary.defaults == EditDefaults::default() {
        writeln!(out, "Edits with the official defaults.")
    } else {
        let defaults = serde_json::to_string(&summary.defaults)?;
        writeln!(out, "Edits by default with {defaults}; otherwise as the official script.")
    }
}
