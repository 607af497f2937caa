//! `editmgt-lab train codec`.

use std::process::ExitCode;

use editmgt::Flow;
use editmgt_train::codec::CodecRun;

use super::options::TrainRunArgs;
use super::view::View;
use crate::Outcome;

pub(super) fn run(args: &TrainRunArgs) -> Outcome {
    let path = args.config.display();
    let text = editmgt_store::read_text(&args.config)?;
    let run = CodecRun::from_toml(&text).map_err(|e| format!("{path}: {e}"))?;
    args.check_files(|_| {})?;
    let device = editmgt::open_device(&args.device)?;
    let mut view = View::new(run.training.run.log_every);
    let trained = run.train(&args.out, args.access(), &device, &mut |event| {
        view.show(event);
        Flow::Continue
    });
    view.finish();
    let (dir, report) = trained?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    println!("{}", dir.display());
    Ok(ExitCode::SUCCESS)
}
