//! `editmgt train edit`.

use std::process::ExitCode;

use editmgt::Flow;
use editmgt_train::edit::EditFile;

use crate::Outcome;
use crate::train::{RunArgs, View};

pub(crate) fn run(args: &RunArgs) -> Outcome {
    let path = args.config.display();
    let text = std::fs::read_to_string(&args.config).map_err(|e| format!("{path}: {e}"))?;
    let run = EditFile::from_toml(&text).map_err(|e| format!("{path}: {e}"))?;
    let device = editmgt::open_device(&args.device)?;
    let mut view = View::new(run.loop_options().log_every);
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
