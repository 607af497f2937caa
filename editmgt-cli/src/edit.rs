//! `editmgt edit`.

use std::error::Error as StdError;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::{
    EditError, EditRequest, EditResult, Error, Mask, Photo, PhotoError, PhotoLimits, SaveOptions,
    check_writable,
};

use crate::Outcome;
use crate::files;
use crate::model::ComputeArgs;
use crate::options::RequestArgs;
use crate::progress::{PreviewFolder, Progress};
use crate::stop::StopSignal;

/// More files than that are better made by several calls.
const MAX_VARIATIONS: i64 = 9999;

/// Pixels in a megapixel.
const MEGA: u64 = 1_000_000;

#[derive(Args)]
pub(crate) struct EditArgs {
    /// The photo: PNG, JPEG, WebP, BMP, TIFF or GIF
    photo: PathBuf,
    /// What to change, in words
    instruction: String,
    /// Where to write the result; .png, .jpg, .webp, .bmp or .tiff names the format
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    options: RequestArgs,
    /// Make so many edits of this seed, from --variation on, as OUT with -0, -1, … before its
    /// extension; each is what --variation alone gives
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_VARIATIONS))]
    variations: Option<u32>,
    /// Image of the photo's proportions, white where the photo may change
    #[arg(long, value_name = "IMAGE")]
    mask: Option<PathBuf>,
    /// Write what was done: every option in force, sizes, shares, seconds
    #[arg(long, value_name = "JSON")]
    report: Option<PathBuf>,
    /// Write what the edit looks like after each step into this folder, in the model's size
    #[arg(long, value_name = "DIR")]
    preview: Option<PathBuf>,
    /// Write it after every so many steps only, and after the last
    #[arg(long, value_name = "STEPS", requires = "preview", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    preview_every: u32,
    /// Refuse photos and masks of more megapixels
    #[arg(long, value_name = "MP", default_value_t = PhotoLimits::default().max_pixels / MEGA)]
    max_megapixels: u64,
    /// No progress bar, and no lines in its place where standard error is no terminal
    #[arg(short, long)]
    quiet: bool,
}

/// One file to make.
struct Job {
    request: EditRequest,
    output: PathBuf,
    report: Option<PathBuf>,
    /// What the names of its previews begin with.
    prefix: String,
}

impl EditArgs {
    /// A job for each variation.
    fn jobs(&self) -> Result<Vec<Job>, EditError> {
        let request = self.options.request(EditRequest::new(&self.instruction))?;
        request.check()?;
        let first = request.variation;
        let Some(n) = self.variations else {
            let (output, report) = (self.output.clone(), self.report.clone());
            return Ok(vec![Job { request, output, report, prefix: String::new() }]);
        };
        let job = |i| Job {
            request: EditRequest { variation: first.saturating_add(i), ..request.clone() },
            output: numbered(&self.output, first.saturating_add(i)),
            report: self.report.as_deref().map(|to| numbered(to, first.saturating_add(i))),
            prefix: format!("{}-", first.saturating_add(i)),
        };
        Ok((0..n).map(job).collect())
    }
}

pub(crate) fn run(args: EditArgs) -> Outcome {
    let start = Instant::now();
    // Everything that can be refused is refused before the model is loaded.
    let jobs = args.jobs()?;
    let limits = limits(args.max_megapixels);
    let photo = Photo::open_within(&args.photo, &limits).map_err(in_megapixels)?;
    let mask = match &args.mask {
        Some(path) => {
            let mask = Mask::open_within(path, &limits).map_err(in_megapixels)?;
            mask.check_aspect(photo.size())?;
            Some(mask)
        }
        None => None,
    };
    let save = SaveOptions::default();
    for job in &jobs {
        check_writable(&job.output, photo.size(), &save)?;
        if let Some(report) = &job.report {
            if *report == job.output {
                let path = report.display();
                return Err(format!("{path}: expected a file of its own for the report").into());
            }
            files::check_writable(report)?;
        }
    }
    if let Some(folder) = args.preview.as_ref().filter(|folder| !folder.is_dir()) {
        let folder = folder.display();
        return Err(format!("{folder}: the folder for previews does not exist; create it").into());
    }
    let builder = args.compute.builder()?;

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    progress.say("loading model");
    let photo = builder.build()?.open(photo);
    for job in &jobs {
        progress.previews = args.preview.clone().map(|folder| PreviewFolder {
            folder,
            every: args.preview_every as usize,
            prefix: job.prefix.clone(),
        });
        let result = photo.edit(mask.as_ref(), &job.request, &mut progress);
        progress.finish();
        if let Some(failure) = progress.failure() {
            return Err(failure.into());
        }
        let result = match result {
            Err(EditError::Stage(stopped @ Error::Stopped { .. })) => {
                return Ok(StopSignal::stopped(&stopped.to_string()));
            }
            result => result?,
        };
        job.write(&result, start)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Job {
    fn write(&self, result: &EditResult, start: Instant) -> Result<(), Box<dyn StdError>> {
        result.image.save(&self.output, &SaveOptions::default())?;
        if let Some(report) = &self.report {
            files::write(report, &serde_json::to_vec_pretty(&result.report)?)?;
        }
        // The edit is there, whether or not anyone reads this.
        let _unread = writeln!(
            std::io::stdout(),
            "{}: seed {}, {:.1} s, {:.1}% of tokens held",
            self.output.display(),
            self.request.seed,
            start.elapsed().as_secs_f64(),
            100.0 * result.report.tokens_held,
        );
        Ok(())
    }
}

/// `name.png` to `name-3.png`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The number of pixels alone decides: it is what memory depends on.
fn limits(megapixels: u64) -> PhotoLimits {
    let max_pixels = megapixels.saturating_mul(MEGA);
    PhotoLimits { max_pixels, max_side: u64::MAX, ..PhotoLimits::default() }
}

/// Names the program's option where the library names its own.
fn in_megapixels(error: PhotoError) -> Box<dyn StdError> {
    match error {
        PhotoError::TooLarge { origin, size, limit, .. } => format!(
            "{origin}: {size} pixels are more than {} megapixels; make it smaller or raise \
             --max-megapixels",
            limit / MEGA
        )
        .into(),
        error => error.into(),
    }
}
