//! `editmgt image-to-image`.

use std::error::Error as StdError;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::{
    EditError, GenerateRequest, Job, Photo, PixelSize, SaveOptions, StoppedEdit, check_writable,
};
use editmgt_store::FileRoles;

use crate::Outcome;
use crate::edit::numbered;
use crate::files;
use crate::limits::{LimitArgs, in_megapixels};
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
    /// Output file; .png, .jpg, .webp, .bmp or .tiff determines the format
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Share of the steps that is run, above 0 up to 1: the more, the less is left of the photo
    #[arg(long, default_value_t = 0.5)]
    strength: f64,
    /// Generate this many images, from --variation on, as OUT with -0, -1, … before its extension
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<usize>,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    options: GenerateArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Write a JSON report: all options, sizes, seconds
    #[arg(long, value_name = "JSON")]
    report: Option<PathBuf>,
    /// No progress bar or progress lines
    #[arg(short, long)]
    quiet: bool,
}

impl ImageToImageCommand {
    fn request(&self) -> Result<GenerateRequest, EditError> {
        let mut base = GenerateRequest::new(&self.prompt);
        if let Some(count) = self.count {
            base.count = count;
        }
        let request = self.options.request(base)?;
        request.check().map_err(by_flag)?;
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            return Err(EditError::option("--strength", "above 0, up to 1", self.strength));
        }
        Ok(request)
    }

    /// The file of each image.
    fn outputs(&self, request: &GenerateRequest) -> Vec<PathBuf> {
        if self.count.is_none() {
            return vec![self.output.clone()];
        }
        let first = request.variation as usize;
        let number = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
        (first..first + request.count).map(|i| numbered(&self.output, number(i))).collect()
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
        let side = |side: Option<usize>| side.unwrap_or(1);
        let size = PixelSize::new(side(request.height), side(request.width));
        for output in outputs {
            check_writable(output, size, &SaveOptions::default())?;
            roles.output("result", output)?;
        }
        if let Some(report) = &self.report {
            editmgt_store::check_writable(report)?;
            roles.output("report", report)?;
        }
        Ok(())
    }
}

pub(crate) fn run(args: ImageToImageCommand) -> Outcome {
    let start = Instant::now();
    // Everything that can be checked is checked before the model is loaded.
    let request = args.request()?;
    let outputs = args.outputs(&request);
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
        Err(EditError::Stopped(stopped)) => return Ok(stopped_early(&stopped)),
        result => result.map_err(by_flag)?,
    };
    for cut in result.report.prompts_cut() {
        progress.note(&cut.to_string());
    }
    for (image, output) in result.images.iter().zip(&outputs) {
        image.image.save_with(output, &SaveOptions::default())?;
    }
    if let Some(report) = &args.report {
        files::write(report, serde_json::to_vec_pretty(&result.report)?)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    for (image, output) in result.images.iter().zip(&outputs) {
        // The images are written; a closed pipe is not an error.
        let _unread = writeln!(
            std::io::stdout(),
            "{}: seed {}, variation {}, {seconds:.1} s",
            output.display(),
            image.seed,
            image.variation,
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn stopped_early(stopped: &StoppedEdit) -> ExitCode {
    StopSignal::stopped(&stopped.to_string())
}
