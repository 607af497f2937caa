//! `editmgt image-to-image`.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::{EditError, GenerateRequest, Job, Photo, SaveOptions};
use editmgt_store::FileRoles;

use crate::Outcome;
use crate::files;
use crate::limits::{LimitArgs, in_megapixels};
use crate::made::{MadeArgs, print_made};
use crate::model::ComputeArgs;
use crate::options::{GenerateArgs, by_flag};
use crate::progress::Progress;
use crate::stop::StopSignal;

#[derive(Args)]
pub(crate) struct ImageToImageCommand {
    /// The photo to start from
    photo: PathBuf,
    /// What the images show
    #[arg(allow_hyphen_values = true)]
    prompt: String,
    #[command(flatten)]
    made: MadeArgs,
    /// Share of the steps that is run, above 0 up to 1: the more, the less is left of the photo
    #[arg(long, default_value_t = 0.5)]
    strength: f64,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    options: GenerateArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// No progress bar or progress lines
    #[arg(short, long)]
    quiet: bool,
}

impl ImageToImageCommand {
    fn request(&self) -> Result<GenerateRequest, EditError> {
        let mut base = GenerateRequest::new(&self.prompt);
        if let Some(count) = self.made.count {
            base.count = count;
        }
        let request = self.options.request(base)?;
        request.check().map_err(by_flag)?;
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            return Err(EditError::option("--strength", "above 0, up to 1", self.strength));
        }
        Ok(request)
    }

    /// Checks that no output is an input or another output, and that it can be written.
    fn check_files(
        &self,
        request: &GenerateRequest,
        outputs: &[PathBuf],
    ) -> Result<(), Box<dyn StdError>> {
        let mut roles = FileRoles::default();
        roles.input("photo", &self.photo);
        self.compute.declare(&mut roles);
        self.made.check_files(request, outputs, &mut roles)
    }
}

pub(crate) fn run(args: ImageToImageCommand) -> Outcome {
    let start = Instant::now();
    // Everything that can be checked is checked before the model is loaded.
    let request = args.request()?;
    let outputs = args.made.outputs(&request);
    args.check_files(&request, &outputs)?;
    let photo = Photo::open_within(&args.photo, &args.limits.limits()).map_err(in_megapixels)?;
    let mut builder = args.compute.builder()?;
    if !request.anyway {
        builder = builder.for_job(Job::Generate);
    }

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    progress.sampling = "generating";
    for note in photo.notes() {
        progress.note(&format!("{} {note}", args.photo.display()));
    }
    progress.show_stage("loading model");
    let editor = builder.build()?;
    let result = editor.image_to_image_observed(&photo, args.strength, &request, &mut progress);
    progress.finish();
    if let Some(failure) = progress.failure() {
        return Err(failure.into());
    }
    let result = match result {
        Err(EditError::Stopped(stopped)) => {
            return Ok(StopSignal::stopped(&stopped.to_string()));
        }
        result => result.map_err(by_flag)?,
    };
    for cut in result.report.prompts_cut() {
        progress.note(&cut.to_string());
    }
    for (image, output) in result.images.iter().zip(&outputs) {
        image.image.save_with(output, &SaveOptions::default())?;
    }
    if let Some(report) = &args.made.report {
        files::write(report, serde_json::to_vec_pretty(&result.report)?)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    print_made(&result.images, &outputs, &format_args!("{seconds:.1} s"));
    Ok(ExitCode::SUCCESS)
}
