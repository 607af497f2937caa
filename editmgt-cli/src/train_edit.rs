//! `editmgt train edit`.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use editmgt::Flow;
use editmgt_train::edit::EditRun;

use crate::Outcome;
use crate::train::{ExportArgs, RunArgs, View};

pub(crate) fn run(args: &RunArgs) -> Outcome {
    let run = read(&args.config)?;
    let device = editmgt::open_device(&args.device)?;
    let mut view = View::new(run.run.log_every);
    let trained = run.train(&args.out, args.resume, &device, &mut |event| {
        view.show(event);
        Flow::Continue
    });
    view.finish();
    if let Some(model) = trained? {
        println!("{}", model.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(args: &ExportArgs) -> Outcome {
    let device = editmgt::open_device("cpu")?;
    let (model, step) = read(&args.config)?.export(&args.out, &device)?;
    println!("{}: the model after {step} steps", model.display());
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<EditRun, Box<dyn Error>> {
    let error = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| error(&e))?;
    Ok(EditRun::from_toml(&text).map_err(|e| error(&e))?)
}
