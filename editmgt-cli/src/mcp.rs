//! `editmgt mcp`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use editmgt_server::{ServerLimits, ServerOptions, serve_stdio};

use crate::Outcome;
use crate::model::ComputeArgs;
use crate::serve::{LogForm, log};
use crate::stop::StopSignal;

#[derive(Args)]
pub(crate) struct McpArgs {
    #[command(flatten)]
    compute: ComputeArgs,
    /// Folder in which images may be read and new ones written; may be repeated. Without one,
    /// images travel in the messages
    #[arg(long, value_name = "DIR")]
    root: Vec<PathBuf>,
    /// Limit of photos and masks in megapixels
    #[arg(long, value_name = "MP", default_value_t = ServerLimits::default().photo_megapixels)]
    max_megapixels: u64,
    /// Longest run of an edit in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_080))]
    max_minutes: u64,
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
}

pub(crate) fn run(args: McpArgs) -> Outcome {
    log(args.log)?;
    let stop = StopSignal::on_ctrl_c()?;
    let mut options = ServerOptions::default();
    options.limits.photo_megapixels = args.max_megapixels;
    options.limits.edit_time = Duration::from_secs(60 * args.max_minutes);
    let folder = args.compute.model_path().map(|model| {
        let name = model.file_name().unwrap_or("model".as_ref());
        name.to_string_lossy().into_owned()
    });
    options.model_name = folder.clone().unwrap_or(options.model_name);
    options.model_argument = folder;
    let editor = args.compute.builder()?.build()?;
    // Standard output belongs to the protocol.
    serve_stdio(editor, options, &args.root, || stop.is_set())?;
    Ok(ExitCode::SUCCESS)
}
