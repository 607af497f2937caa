//! `editmgt-lab conformance`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use editmgt_diagnostics::conformance::{self, ConformanceReport, EditAgreement};
use serde::Serialize;

use crate::Outcome;
use crate::failure::quietly;

#[derive(Args)]
pub(crate) struct ConformanceArgs {
    /// Compute device: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Also fail on known failures that no longer fail
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// All results of a device.
#[derive(Serialize)]
struct Conformance<'a> {
    device: &'a str,
    operations: ConformanceReport,
    /// Edits by the embedded model, compared with those on the CPU.
    edits: Vec<ComparedEdit>,
}

#[cfg_attr(not(feature = "embedded"), allow(dead_code))]
#[derive(Serialize)]
struct ComparedEdit {
    name: &'static str,
    pass: bool,
    #[serde(flatten)]
    agreement: EditAgreement,
}

pub(crate) fn run(args: ConformanceArgs) -> Outcome {
    let device = editmgt::open_device(&args.device)?;
    let mut out = std::io::stdout().lock();
    // Half precision that a device lacks is in the report.
    let operations = quietly(|| conformance::run(&device));
    if !args.json {
        writeln!(out, "{operations}")?;
    }
    #[cfg(feature = "embedded")]
    let edits = edits::run(&args.device)?;
    #[cfg(not(feature = "embedded"))]
    let edits = Vec::new();
    let report = Conformance { device: &args.device, operations, edits };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else if !report.edits.is_empty() {
        write_edits(&mut out, &report.edits)?;
    }
    let outdated = args.strict && report.operations.outdated().next().is_some();
    let edits = report.edits.iter().all(|edit| edit.pass);
    let pass = report.operations.pass() && !outdated && edits;
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn write_edits(out: &mut impl Write, edits: &[ComparedEdit]) -> io::Result<()> {
    let width = edits.iter().map(|edit| edit.name.len()).max().unwrap_or(0);
    writeln!(out, "\n{:width$}  steps equal  ties  photo differs  pixels differ by", "edit")?;
    for ComparedEdit { name, pass, agreement } in edits {
        let equal = format!("{} of {}", agreement.steps_equal(), agreement.steps.len());
        let photo = format!("{} of {}", agreement.photo_differs, agreement.tokens);
        let (ties, pixels) = (agreement.ties(), agreement.pixels_differ_by);
        let verdict = if *pass { "" } else { "  FAIL" };
        writeln!(out, "{name:width$}  {equal:11}  {ties:4}  {photo:13}  {pixels:16}{verdict}")?;
    }
    Ok(())
}

#[cfg(feature = "embedded")]
mod edits {
    use editmgt::{Dtype, DtypePolicy, EditError, EditRequest, Editor, HoldPolicy, Photo};
    use editmgt_diagnostics::conformance;

    use super::ComparedEdit;
    use crate::precision::SCENE;

    /// One with the model's defaults, and one with the options that these leave out.
    fn requests() -> [(&'static str, EditRequest); 2] {
        let instruction = "make the red car blue";
        let guided = EditRequest::new(instruction)
            .steps(6)
            .guidance_scale(3.0)
            .temperature((2.0, 0.0))
            .hold(HoldPolicy::Threshold(0.3))
            .seed(7);
        [("as the model edits", EditRequest::new(instruction)), ("guided, in six steps", guided)]
    }

    /// The edits on `device`, in f32, compared with those on the build's default device.
    pub(super) fn run(device: &str) -> Result<Vec<ComparedEdit>, EditError> {
        let dtype = DtypePolicy::uniform(Dtype::F32);
        let load = |device| Editor::embedded().device(device).dtype(dtype).build();
        let (reference, other) =
            (load(editmgt::open_default_device()?)?, load(editmgt::open_device(device)?)?);
        let photo = Photo::from_bytes(SCENE)?;
        let compare = |(name, request)| {
            let agreement = conformance::compare_edits(&reference, &other, &photo, &request)?;
            Ok(ComparedEdit { name, pass: agreement.pass(), agreement })
        };
        requests().into_iter().map(compare).collect()
    }
}
