//! `editmgt generate`.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::{EditError, GenerateRecord, GenerateRequest, Job};
use editmgt_store::FileRoles;
use indicatif::HumanBytes;

use crate::Outcome;
use crate::edit::PreviewArgs;
use crate::files;
use crate::made::{MadeArgs, Written, print_made};
use crate::model::ComputeArgs;
use crate::options::{GenerateArgs, by_flag};
use crate::progress::Progress;
use crate::pull_first::PullFirst;
use crate::stop::StopSignal;

#[derive(Args)]
pub(crate) struct GenerateCommand {
    /// What the images show
    #[arg(required_unless_present = "like", allow_hyphen_values = true)]
    prompt: Option<String>,
    #[command(flatten)]
    made: MadeArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    pull: PullFirst,
    #[command(flatten)]
    options: GenerateArgs,
    /// Repeat the image recorded in this PNG, with this model; other options override the recorded
    /// ones (see `editmgt show`)
    #[arg(long, value_name = "PNG")]
    like: Option<PathBuf>,
    /// Don't write the record of an image into a PNG
    #[arg(long)]
    no_record: bool,
    #[command(flatten)]
    previews: PreviewArgs,
    /// No progress bar or progress lines
    #[arg(short, long)]
    quiet: bool,
}

impl GenerateCommand {
    fn request(&self, like: Option<&GenerateRecord>) -> Result<GenerateRequest, EditError> {
        let mut base =
            like.map_or_else(GenerateRequest::default, |like| like.settings.clone().into());
        if let Some(prompt) = &self.prompt {
            base.prompt.clone_from(prompt);
        }
        if let Some(count) = self.made.count {
            base.count = count;
        }
        let request = self.options.request(base)?;
        request.check().map_err(by_flag)?;
        Ok(request)
    }

    /// Checks that no output is an input or another output, and that it can be written.
    fn check_files(
        &self,
        request: &GenerateRequest,
        outputs: &[PathBuf],
    ) -> Result<(), Box<dyn StdError>> {
        let mut roles = FileRoles::default();
        if let Some(like) = &self.like {
            roles.input("image to repeat", like);
        }
        self.compute.declare(&mut roles);
        self.made.check_files(request, outputs, &mut roles)?;
        self.previews.declare(&mut roles)
    }
}

pub(crate) fn run(args: GenerateCommand) -> Outcome {
    let start = Instant::now();
    // Everything that can be checked is checked before the model is loaded.
    let like = args.like.as_deref().map(GenerateRecord::open).transpose()?;
    let request = args.request(like.as_ref())?;
    let outputs = args.made.outputs(&request);
    args.check_files(&request, &outputs)?;
    if let Some(stopped) = args.pull.run(&args.compute, args.quiet)? {
        return Ok(stopped);
    }
    let mut builder = args.compute.builder()?;
    if !request.anyway {
        builder = builder.for_job(Job::Generate);
    }

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    progress.sampling = "generating";
    progress.show_stage("loading model");
    let editor = builder.build()?;
    let differences = like.map(|like| like.differences(editor.model().source.as_ref()));
    for difference in differences.into_iter().flatten() {
        progress.note(&format!("the repeated image may differ: {difference}"));
    }
    progress.previews = args.previews.folder("");
    progress.images = request.count;
    let mut written = Written::new(&outputs, !args.no_record);
    let mut write = |image: &_, record: &_| written.write(image, record);
    let result = editor.generate_each(&request, &mut progress, &mut write);
    progress.finish();
    if let Some(failure) = progress.failure() {
        return Err(failure.into());
    }
    let result = match result {
        Err(EditError::Stopped(stopped)) => {
            return Ok(written.stopped(&stopped));
        }
        result => result.map_err(by_flag)?,
    };
    for cut in result.report.prompts_cut() {
        progress.note(&cut.to_string());
    }
    if let Some(report) = &args.made.report {
        files::write(report, serde_json::to_vec_pretty(&result.report)?)?;
    }
    let peak = result
        .report
        .peak_memory_bytes
        .map_or_else(String::new, |bytes| format!(", peak memory {}", HumanBytes(bytes)));
    let seconds = start.elapsed().as_secs_f64();
    print_made(&result.images, &outputs, &format_args!("{seconds:.1} s{peak}"));
    Ok(ExitCode::SUCCESS)
}
