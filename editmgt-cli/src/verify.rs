//! `editmgt verify`.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use editmgt_diagnostics::verify::{Comparison, Measure, Verification, VerifyError, verify_variant};

use crate::Outcome;

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Golden folders (golden.safetensors and manifest.json) of a component or a pipeline
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Which weights of a pipeline to read where there are several: fp16 for *.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: VerifyArgs) -> Outcome {
    let device = editmgt::open_device(&args.device)?;
    let mut out = std::io::stdout().lock();
    let mut verifications = Vec::new();
    for dir in &args.dirs {
        let verification = verify_variant(dir, &device, args.variant.as_deref());
        let verification = verification.map_err(|error| in_folder(dir, error))?;
        if !args.json {
            write_table(&mut out, &verification)?;
        }
        verifications.push(verification);
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&verifications)?)?;
    }
    let failed = verifications.iter().filter(|verification| !verification.pass()).count();
    if !args.json && args.dirs.len() > 1 {
        writeln!(out, "{} of {} folders pass", args.dirs.len() - failed, args.dirs.len())?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A stage's error does not name the folder.
fn in_folder(dir: &Path, error: VerifyError) -> Box<dyn Error> {
    let dir = dir.display().to_string();
    if error.to_string().contains(&dir) {
        return error.into();
    }
    format!("{dir}: {error}").into()
}

fn write_table(out: &mut impl Write, verification: &Verification) -> io::Result<()> {
    let pass = if verification.pass() { "pass" } else { "FAIL" };
    writeln!(out, "{} ({:?}): {pass}", verification.folder.display(), verification.stage)?;
    let width = verification.comparisons.iter().map(|c| c.name.len()).max().unwrap_or(0);
    writeln!(
        out,
        "  {:width$}  {:>10}  {:>10}  {:>9}",
        "compared", "max abs", "max rel", "tolerance"
    )?;
    for Comparison { name, measure, pass } in &verification.comparisons {
        let verdict = if *pass { "" } else { "  FAIL" };
        match measure {
            Measure::Values { max_abs, max_rel, tolerance, exceeding, .. } => {
                let beyond = match exceeding {
                    0.0 => String::new(),
                    share => format!("  {:.4}% beyond", 100.0 * share),
                };
                writeln!(
                    out,
                    "  {name:width$}  {max_abs:10.2e}  {max_rel:10.2e}  {tolerance:9.0e}{beyond}{verdict}"
                )?;
            }
            Measure::Tokens { differ, total } => {
                writeln!(out, "  {name:width$}  {differ} of {total} differ{verdict}")?;
            }
        }
    }
    Ok(())
}
