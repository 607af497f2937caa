//! `editmgt-lab train edit`.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use editmgt::Flow;
use editmgt_train::edit::EditFile;

use super::options::{ExportArgs, RunArgs};
use super::view::View;
use crate::Outcome;

pub(super) fn run(args: &RunArgs) -> Outcome {
    let run = read(&args.config)?;
    let device = editmgt::open_device(&args.device)?;
    let mut view = View::new(run.loop_options().log_every);
    let trained = run.train(&args.out, args.access(), &device, &mut |event| {
        view.show(event);
        Flow::Continue
    });
    view.finish();
    if let Some(model) = trained? {
        println!("{}", model.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn export(args: &ExportArgs) -> Outcome {
    let device = editmgt::open_device("cpu")?;
    let EditFile::New(run) = read(&args.config)? else {
        let path = args.config.display();
        return Err(
            format!("{path}: expected the config of a small model's run, got init_from").into()
        );
    };
    let (model, step) = run.export(&args.out, &device)?;
    println!("{}: the model after {step} steps", model.display());
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<EditFile, Box<dyn Error>> {
    let error = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| error(&e))?;
    Ok(EditFile::from_toml(&text).map_err(|e| error(&e))?)
}
