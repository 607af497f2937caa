//! `editmgt-lab plans`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::{DtypePolicy, StepPlan};
use editmgt_diagnostics::bench::{PlanTime, PlansRequest, plan_times};
use editmgt_diagnostics::init::Preset;
use editmgt_store::FileRoles;
use indicatif::HumanBytes;

use crate::runs::{ComputeArgs, table_and_plot};
use crate::{Outcome, files};

#[derive(Args)]
pub(crate) struct PlansArgs {
    /// Output prefix: OUT.csv and OUT.svg
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// full (the official sizes) or tiny
    #[arg(long, default_value = "full")]
    preset: String,
    /// Sides of the images, multiples of 32
    #[arg(long, value_name = "PIXELS,…", value_delimiter = ',', default_value = "512,1024")]
    sizes: Vec<usize>,
    /// Percentages of the canvas that are edited
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', default_value = "5,15,40")]
    shares: Vec<f32>,
    /// The plans that are compared with exact: cached, cached:R or cached:R:W
    #[arg(
        long,
        value_name = "PLAN,…",
        value_delimiter = ',',
        default_value = "cached:8,cached:8:1,cached:never:1"
    )]
    plans: Vec<String>,
    /// Steps of an edit
    #[arg(long, value_name = "N", default_value_t = 36)]
    steps: usize,
    /// Exact steps that are measured, for all that the edit has: each computes the same shapes
    #[arg(long, value_name = "N", default_value_t = 3)]
    exact_steps: usize,
    /// Reuse guidance's difference in partial steps
    #[arg(long)]
    guidance_reuse: bool,
    /// f32, f16 or bf16, one after the other [default: by the device]
    #[arg(long, value_name = "DTYPE,…", value_delimiter = ',')]
    dtypes: Vec<String>,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub(crate) fn run(args: PlansArgs) -> Outcome {
    let preset: Preset = args.preset.parse()?;
    let plans = args.plans.iter().map(|plan| plan.parse()).collect::<Result<Vec<StepPlan>, _>>()?;
    let (csv, svg) = table_and_plot(&args.output, FileRoles::default())?;
    let dtypes: Vec<_> = if args.dtypes.is_empty() {
        vec![None]
    } else {
        args.dtypes.iter().map(|dtype| Some(&**dtype)).collect()
    };
    let device = args.compute.open()?;
    let requests = dtypes.into_iter().map(|dtype| {
        let request = PlansRequest {
            preset,
            sizes: args.sizes.clone(),
            shares: args.shares.iter().map(|percent| percent / 100.0).collect(),
            plans: plans.clone(),
            steps: args.steps,
            exact_steps: args.exact_steps,
            guidance_reuse: args.guidance_reuse,
            device: device.clone(),
            dtype: DtypePolicy::choose(&device, dtype.map(str::parse).transpose()?)?,
        };
        Ok(request)
    });
    let requests = requests.collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    let mut times = Vec::new();
    let mut header = Some(HEADER);
    for request in requests {
        times.extend(plan_times(&request, |time| {
            // The numbers go to the file, so a closed pipe is not an error.
            let mut out = io::stdout().lock();
            let _unread = header.take().map(|header| writeln!(out, "{header}"));
            let _unread = writeln!(out, "{}", row(time));
        })?);
    }
    files::write(&csv, table(&times, args.steps).as_bytes())?;
    files::write(&svg, editmgt_eval::plot_plans(&times)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

const HEADER: &str = "dtype  size  plan              edited   full s  partial s     edit s  of exact    \
                      CPU s  peak memory";

fn row(time: &PlanTime) -> String {
    let seconds = |steps: &[f64]| match steps {
        [] => "-".to_owned(),
        steps => format!("{:.2}", mean(steps)),
    };
    format!(
        "{:5} {:5}  {:16} {:6.0}% {:>8} {:>10} {:10.1} {:9.3} {:>8} {:>12}",
        time.dtype.name(),
        time.size,
        time.plan.to_string(),
        100.0 * time.share,
        seconds(&time.full),
        seconds(&time.partial),
        time.seconds,
        time.of_exact,
        time.cpu_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0}")),
        time.peak_memory_bytes.map_or_else(|| "-".to_owned(), |b| HumanBytes(b).to_string()),
    )
}

fn mean(steps: &[f64]) -> f64 {
    steps.iter().sum::<f64>() / steps.len() as f64
}

/// All times as CSV; unavailable values are empty.
fn table(times: &[PlanTime], steps: usize) -> String {
    let mut csv = "dtype,size,plan,edited_share,steps,measured_full_steps,measured_partial_steps,\
                   full_step_seconds,partial_step_seconds,seconds,of_exact,cpu_seconds,\
                   peak_memory_bytes\n"
        .to_owned();
    let seconds = |steps: &[f64]| match steps {
        [] => String::new(),
        steps => format!("{:.4}", mean(steps)),
    };
    for time in times {
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            "{},{},{},{},{steps},{},{},{},{},{:.3},{:.4},{},{}",
            time.dtype.name(),
            time.size,
            time.plan,
            time.share,
            time.full.len(),
            time.partial.len(),
            seconds(&time.full),
            seconds(&time.partial),
            time.seconds,
            time.of_exact,
            time.cpu_seconds.map_or_else(String::new, |seconds| format!("{seconds:.2}")),
            time.peak_memory_bytes.map_or_else(String::new, |bytes| bytes.to_string()),
        );
    }
    csv
}
