//! `editmgt inspect`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::Dtype;
use editmgt::inspect::{ModelSummary, inspect};
use indicatif::{HumanBytes, HumanCount};

use crate::Outcome;

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// The model's folder
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: InspectArgs) -> Outcome {
    let summary = inspect(&args.dir)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print_table(&summary);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_table(summary: &ModelSummary) {
    println!(
        "{:14} {:>8} {:>15} {:>12} {:>14} {:>14}  dtypes on disk",
        "component", "tensors", "parameters", "on disk", "memory as f32", "as f16, bf16"
    );
    for (name, part) in summary.rows() {
        let dtypes: Vec<String> =
            part.dtypes.iter().map(|(dtype, count)| format!("{dtype} {}", count.tensors)).collect();
        println!(
            "{name:14} {:>8} {:>15} {:>12} {:>14} {:>14}  {}",
            part.tensors,
            HumanCount(part.parameters).to_string(),
            HumanBytes(part.bytes_on_disk).to_string(),
            HumanBytes(part.memory(Dtype::F32.into())).to_string(),
            HumanBytes(part.memory(Dtype::Bf16.into())).to_string(),
            dtypes.join(", "),
        );
    }
    println!("Memory is for the weights alone; activations come on top.");
}
