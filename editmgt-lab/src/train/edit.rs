//! `editmgt-lab train edit`.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use editmgt::Flow;
use editmgt_store::FileRoles;
use editmgt_train::edit::EditFile;

use super::options::{ExportArgs, TrainRunArgs};
use super::view::View;
use crate::Outcome;

pub(super) fn run(args: &TrainRunArgs) -> Outcome {
    let run = read(&args.config)?;
    let mut roles = args.check_files(|roles| run.declare_inputs(roles))?;
    run.data().declare_outputs(&mut roles)?;
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
    let file = read(&args.config)?;
    let mut roles = FileRoles::default();
    roles.input("config", &args.config);
    file.declare_inputs(&mut roles);
    roles.input_tree("run's checkpoints", args.out.join("checkpoints"));
    roles.output_tree("model", args.out.join("model"))?;
    file.data().declare_outputs(&mut roles)?;
    let EditFile::New(run) = file else {
        let path = args.config.display();
        return Err(
            format!("{path}: expected the config of a small model's run, got init_from").into()
        );
    };
    let device = editmgt::open_device("cpu")?;
    let (model, step) = run.export(&args.out, &device)?;
    println!("{}: the model after {step} steps", model.display());
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<EditFile, Box<dyn Error>> {
    let error = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = editmgt_store::read_text(path)?;
    Ok(EditFile::from_toml(&text).map_err(|e| error(&e))?)
}
