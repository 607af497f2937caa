//! `editmgt-lab bench`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_diagnostics::bench::{BenchReport, BenchRequest, BenchStage, StageTiming, bench};
use editmgt_diagnostics::init::Preset;
use editmgt_store::FileRoles;
use indicatif::HumanBytes;
use serde::Serialize;

use crate::runs::MeasureArgs;
use crate::{Outcome, files};

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// full (the official sizes) or tiny
    #[arg(long, default_value = "full")]
    preset: String,
    /// Both sides of the image, a multiple of 32 [default: 1024; tiny: 128]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Only these stages: vq-encode, vq-decode, clip, gemma2, transformer, capture (the transformer
    /// with attention capture), step (the parts of a step outside the networks), load (the
    /// transformer from a file in the system's cache, alternating with a plain read) [default: all
    /// but load]
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',')]
    stages: Option<Vec<String>>,
    #[command(flatten)]
    runs: MeasureArgs,
    /// Where `load` writes its temporary files, up to 4 GB at a time; a disk, not memory [default:
    /// the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Write the numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The file's contents.
#[derive(Serialize)]
struct Numbers {
    #[serde(flatten)]
    report: BenchReport,
    /// Threads of the CPU backends.
    threads: usize,
}

pub(crate) fn run(args: BenchArgs) -> Outcome {
    let preset: Preset = args.preset.parse()?;
    let stages = match &args.stages {
        // By default no gigabytes are written.
        None => BenchStage::ALL.into_iter().filter(|&stage| stage != BenchStage::Load).collect(),
        Some(names) => names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
    };
    files::check_outputs(FileRoles::default(), [("numbers", args.json.as_deref())])?;
    let (device, dtype) = args.runs.open()?;
    let request = BenchRequest {
        preset,
        size: args.size.unwrap_or_else(|| BenchRequest::default_size(preset)),
        stages,
        warmup: args.runs.warmup,
        repeat: args.runs.repeat,
        dtype,
        device,
        scratch: args.scratch.unwrap_or_else(std::env::temp_dir),
    };
    let mut header = Some(HEADER);
    let report = bench(&request, |timing| {
        // The numbers also go to the file, so a closed pipe is not an error.
        let mut out = io::stdout().lock();
        let _unread = header.take().map(|header| writeln!(out, "{header}"));
        let _unread = write_row(&mut out, timing);
    })?;
    if let Some(path) = &args.json {
        let numbers = Numbers { report, threads: rayon::current_num_threads() };
        files::write(path, serde_json::to_string_pretty(&numbers)? + "\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

const HEADER: &str = "stage           median s      min      max    CPU s      GFLOP  GFLOP/s  \
                      peak memory  input";

fn write_row(out: &mut impl Write, timing: &StageTiming) -> io::Result<()> {
    let number = |value: Option<f64>, digits| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let gflop = timing.flops.map(|flops| flops as f64 / 1e9);
    let peak = match timing.peak_memory_bytes {
        Some(bytes) => HumanBytes(bytes).to_string(),
        None => "-".to_owned(),
    };
    writeln!(
        out,
        "{:14} {:>9.3} {:>8.3} {:>8.3} {:>8} {:>10} {:>8} {peak:>12}  {}",
        timing.stage,
        timing.median_seconds,
        timing.min_seconds,
        timing.max_seconds,
        number(timing.cpu_seconds, 2),
        number(gflop, 2),
        number(timing.gflops_per_second, 1),
        timing.input,
    )
}
