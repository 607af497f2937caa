//! `editmgt quantize`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::config::UnknownKeys;
use editmgt::{ModelFolder, QuantizablePart, QuantizeRequest, WeightBits, quantize_model};
use editmgt_store::FileRoles;
use indicatif::HumanBytes;
use serde_json::json;

use crate::{Outcome, model};

#[derive(Args)]
pub(crate) struct QuantizeArgs {
    /// The model's folder, or the name of a model in the hub's cache (see `editmgt models`)
    #[arg(value_name = "DIR|NAME")]
    model: PathBuf,
    /// The folder to write, which must be new or empty
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Bits of a weight, 8 or 4; a scale for each 32 of them adds half a bit
    #[arg(long)]
    bits: WeightBits,
    /// The components to quantise: transformer (or editmgt), text_encoder, llm_encoder [default:
    /// all that the model has]
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    parts: Vec<QuantizablePart>,
    /// Which weights to read where there are several: fp16 for *.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Ignore keys of the model's configs that this program does not know
    #[arg(long)]
    accept_unknown_keys: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: QuantizeArgs) -> Outcome {
    model::note_folder(&args.model);
    let mut roles = FileRoles::default();
    ModelFolder::declare_inputs(&args.model, "model", &mut roles);
    roles.output_tree("OUT", &args.out)?;
    let unknown = UnknownKeys::accept(args.accept_unknown_keys);
    let folder = ModelFolder::open_accepting(&args.model, unknown)?;
    let request = QuantizeRequest::new(args.bits)
        .variant(args.variant)
        .accept_unknown_keys(args.accept_unknown_keys);
    let request = if args.parts.is_empty() { request } else { request.parts(args.parts) };
    let shown = std::io::stderr().is_terminal();
    let written = quantize_model(&folder, &args.out, &request, |part| {
        if shown {
            eprintln!("{part} ...");
        }
    })?;
    let (before, after) = written.iter().fold((0, 0), |(before, after), part| {
        (before + part.bytes_before, after + part.bytes_after)
    });
    let mut out = std::io::stdout().lock();
    if args.json {
        let all = json!({"folder": args.out, "parts": written, "bytes_before": before, "bytes_after": after});
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:14} {:8} {:>12} {:>12}", "component", "weights", "before", "after")?;
    let mut line = |name: &str, weights: &str, before: u64, after: u64| {
        let (before, after) = (HumanBytes(before).to_string(), HumanBytes(after).to_string());
        writeln!(out, "{name:14} {weights:8} {before:>12} {after:>12}")
    };
    for part in &written {
        let weights = part.bits.map_or_else(|| "copied".to_owned(), |bits| bits.to_string());
        line(part.name, &weights, part.bytes_before, part.bytes_after)?;
    }
    line("total", "", before, after)?;
    Ok(ExitCode::SUCCESS)
}
