//! `editmgt-lab cost`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use editmgt_diagnostics::bench::{EditCost, EditLoad, edit_cost};
use editmgt_store::FileRoles;
use indicatif::HumanBytes;

use crate::model::ModelArg;
use crate::runs::{MeasureArgs, table_and_plot};
use crate::{Outcome, files};

#[derive(Args)]
pub(crate) struct CostArgs {
    /// Output prefix: OUT.csv and OUT.svg
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    model: ModelArg,
    /// Sides of the images; here and below, the first value is the baseline
    #[arg(
        long,
        value_name = "PIXELS,…",
        value_delimiter = ',',
        default_value = "160,96,224,320,448"
    )]
    sizes: Vec<usize>,
    /// Numbers of steps
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "8,1,2,4,16,32")]
    steps: Vec<usize>,
    /// Images per batch
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8")]
    batches: Vec<usize>,
    /// Number of blocks with attention capture, the last ones of the model
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2,0,1,3,4,5")]
    layers: Vec<usize>,
    #[command(flatten)]
    runs: MeasureArgs,
    /// Measure this load in this process, whatever the lists, and print it as JSON
    #[arg(long, hide = true, value_parser = load)]
    measure_here: Option<EditLoad>,
}

impl CostArgs {
    /// The first of each list, and every load that differs from it in one value.
    fn loads(&self) -> Result<Vec<EditLoad>, String> {
        let first = |list: &[usize], option: &str| {
            list.first().copied().ok_or_else(|| format!("--{option}: expected a number, got none"))
        };
        let base = EditLoad {
            size: first(&self.sizes, "sizes")?,
            steps: first(&self.steps, "steps")?,
            batch: first(&self.batches, "batches")?,
            layers: first(&self.layers, "layers")?,
        };
        let mut loads = vec![base];
        loads.extend(self.sizes.iter().map(|&size| EditLoad { size, ..base }));
        loads.extend(self.steps.iter().map(|&steps| EditLoad { steps, ..base }));
        loads.extend(self.batches.iter().map(|&batch| EditLoad { batch, ..base }));
        loads.extend(self.layers.iter().map(|&layers| EditLoad { layers, ..base }));
        let mut once = Vec::new();
        for load in loads {
            if !once.contains(&load) {
                once.push(load);
            }
        }
        Ok(once)
    }
}

/// Four numbers, as written by [`measure_in_child`].
fn load(numbers: &str) -> Result<EditLoad, String> {
    let numbers = numbers.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
    match numbers.as_deref() {
        Ok(&[size, steps, batch, layers]) => Ok(EditLoad { size, steps, batch, layers }),
        _ => Err("expected size, steps, batch and layers".to_owned()),
    }
}

pub(crate) fn run(args: CostArgs) -> Outcome {
    if let Some(load) = args.measure_here {
        return measure_here(&args, load);
    }
    let loads = args.loads()?;
    let mut roles = FileRoles::default();
    args.model.declare(&mut roles);
    let (csv, svg) = table_and_plot(&args.output, roles)?;
    let mut costs = Vec::new();
    for load in loads {
        let cost = measure_in_child(&load)?;
        if costs.is_empty() {
            let _unread = writeln!(io::stdout(), "{HEADER}");
        }
        // The numbers go to the file, so a closed pipe is not an error.
        let _unread = writeln!(io::stdout(), "{}", row(&cost));
        costs.push(cost);
    }
    write(&csv, &table(&costs))?;
    write(&svg, &editmgt_eval::plot_costs("edit", &costs)?)?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    files::write(path, text.as_bytes())
}

/// Measures in this process.
fn measure_here(args: &CostArgs, load: EditLoad) -> Outcome {
    let (device, dtype) = args.runs.open()?;
    let editor = args.model.builder().device(device).dtype(dtype).build()?;
    let cost = edit_cost(&editor, load, args.runs.warmup, args.runs.repeat)?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&cost)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Measures in a separate process, started like this one: memory retained by an earlier edit would
/// distort the result.
fn measure_in_child(load: &EditLoad) -> Result<EditCost, Box<dyn std::error::Error>> {
    let EditLoad { size, steps, batch, layers } = load;
    let mut process = Command::new(std::env::current_exe()?);
    process.args(std::env::args_os().skip(1)).arg("--measure-here");
    process.arg(format!("{size},{steps},{batch},{layers}"));
    let output = process.output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let reason = stderr.trim().trim_start_matches("editmgt-lab: ");
        let what = format!("{size} pixels, {steps} steps, {batch} at once, {layers} layers");
        return Err(if reason.is_empty() {
            format!("{what}: the process ended by itself ({})", output.status).into()
        } else {
            format!("{what}: {reason}").into()
        });
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

const HEADER: &str =
    "size  steps  batch  layers   median s      min      max    CPU s  peak memory";

fn row(cost: &EditCost) -> String {
    let EditLoad { size, steps, batch, layers } = cost.load;
    let (median, min, max) = (cost.median_seconds, cost.min_seconds, cost.max_seconds);
    let cpu = cost.cpu_seconds.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
    let peak = cost.peak_memory_bytes.map_or_else(|| "-".to_owned(), |b| HumanBytes(b).to_string());
    format!(
        "{size:4} {steps:6} {batch:6} {layers:7} {median:10.3} {min:8.3} {max:8.3} {cpu:>8} {peak:>12}"
    )
}

/// All costs as CSV; unavailable values are empty.
fn table(costs: &[EditCost]) -> String {
    let mut csv = "size,steps,batch,layers,median_seconds,min_seconds,max_seconds,cpu_seconds,\
                   peak_memory_bytes\n"
        .to_owned();
    for cost in costs {
        let EditLoad { size, steps, batch, layers } = cost.load;
        let (median, min, max) = (cost.median_seconds, cost.min_seconds, cost.max_seconds);
        let cpu = cost.cpu_seconds.map_or_else(String::new, |cpu| format!("{cpu:.3}"));
        let peak = cost.peak_memory_bytes.map_or_else(String::new, |bytes| bytes.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            "{size},{steps},{batch},{layers},{median:.4},{min:.4},{max:.4},{cpu},{peak}"
        );
    }
    csv
}
