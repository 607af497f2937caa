//! `editmgt edit`, `inpaint` and `outpaint`.

mod job;
mod previews;

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use editmgt::{
    EditError, EditRecord, EditRequest, Mask, MaskReading, Photo, PhotoNote, Resize, SaveOptions,
    Task,
};
use editmgt_store::FileRoles;

pub(crate) use job::{Job, numbered};
pub(crate) use previews::PreviewArgs;

use crate::Outcome;
use crate::limits::{LimitArgs, in_megapixels};
use crate::model::ComputeArgs;
use crate::options::{InpaintArgs, MarginArgs, RequestArgs, by_flag};
use crate::progress::Progress;
use crate::pull_first::PullFirst;
#[cfg(feature = "remote")]
use crate::remote::{RemoteRun, ServerArgs};
use crate::stop::StopSignal;

/// Most files of one call.
const MAX_VARIATIONS: i64 = 9999;

#[derive(Args)]
pub(crate) struct EditArgs {
    /// The photo: PNG, JPEG, WebP, BMP, TIFF or GIF
    photo: PathBuf,
    /// The instruction
    #[arg(required_unless_present = "like", allow_hyphen_values = true)]
    instruction: Option<String>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    options: RequestArgs,
    /// Mask image of the photo's aspect ratio, white where the photo may change
    #[arg(long, value_name = "IMAGE")]
    mask: Option<PathBuf>,
    #[command(flatten)]
    reading: MaskReadingArgs,
}

#[derive(Args)]
pub(crate) struct InpaintCommand {
    /// The photo: PNG, JPEG, WebP, BMP, TIFF or GIF
    photo: PathBuf,
    /// A description of what the white part of the mask shows
    #[arg(required_unless_present = "like", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Mask image of the photo's aspect ratio, white where the photo is generated
    #[arg(long, value_name = "IMAGE")]
    mask: PathBuf,
    #[command(flatten)]
    reading: MaskReadingArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    options: InpaintArgs,
}

#[derive(Args)]
pub(crate) struct OutpaintCommand {
    /// The photo: PNG, JPEG, WebP, BMP, TIFF or GIF
    photo: PathBuf,
    /// A description of the photo with its margins
    #[arg(required_unless_present = "like", allow_hyphen_values = true)]
    prompt: Option<String>,
    #[command(flatten)]
    margins: MarginArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    options: InpaintArgs,
}

#[derive(Args)]
struct MaskReadingArgs {
    /// Channel of the mask: luma (white may change), alpha (transparent may change) or auto (alpha
    /// for a photo with transparency, luma for a drawing) [default: auto]
    #[arg(long, value_name = "HOW", value_parser = ["auto", "alpha", "luma"], requires = "mask")]
    mask_reads: Option<String>,
}

impl MaskReadingArgs {
    fn reading(&self) -> MaskReading {
        match self.mask_reads.as_deref() {
            Some("alpha") => MaskReading::Alpha,
            Some("luma") => MaskReading::Luma,
            _ => MaskReading::Auto,
        }
    }
}

/// Options of all commands that begin with a photo.
#[derive(Args)]
struct RunArgs {
    /// Output file; .png, .jpg, .webp, .bmp or .tiff determines the format
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Allow OUT to be the photo itself, which is replaced when the result is complete
    #[arg(long, conflicts_with = "variations")]
    in_place: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    #[cfg(feature = "remote")]
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    pull: PullFirst,
    /// Make this many variations, from --variation on, as OUT with -0, -1, … before its extension
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_VARIATIONS))]
    variations: Option<u32>,
    /// Repeat the edit recorded in this PNG, on this photo and with this model; other options
    /// override the recorded ones (see `editmgt show`)
    #[arg(long, value_name = "PNG")]
    like: Option<PathBuf>,
    /// Don't write the record of the edit into a PNG
    #[arg(long)]
    no_record: bool,
    /// Write an image of the photo with the score map and the held tokens drawn over it
    #[arg(long, value_name = "PNG")]
    map: Option<PathBuf>,
    /// Write a JSON report: all options, sizes, shares, seconds
    #[arg(long, value_name = "JSON")]
    report: Option<PathBuf>,
    #[command(flatten)]
    previews: PreviewArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// No progress bar or progress lines
    #[arg(short, long)]
    quiet: bool,
}

/// A command that begins with a photo.
struct PhotoCommand<'a> {
    /// Its name, which that of a record must be.
    command: &'static str,
    photo: &'a Path,
    /// The mask's file and its channel.
    mask: Option<(&'a Path, MaskReading)>,
    run: &'a RunArgs,
}

impl PhotoCommand<'_> {
    /// A job for each variation.
    fn jobs(&self, request: &EditRequest) -> Vec<Job> {
        let run = self.run;
        let record = !run.no_record;
        let Some(n) = run.variations else {
            return vec![Job {
                request: request.clone(),
                output: run.output.clone(),
                report: run.report.clone(),
                map: run.map.clone(),
                record,
                prefix: String::new(),
            }];
        };
        let job = |i| {
            let number = request.variation.saturating_add(i);
            Job {
                request: request.clone().variation(number),
                output: numbered(&run.output, number),
                report: run.report.as_deref().map(|to| numbered(to, number)),
                map: run.map.as_deref().map(|to| numbered(to, number)),
                record,
                prefix: format!("{number}-"),
            }
        };
        (0..n).map(job).collect()
    }

    /// Checks that no output is an input or another output.
    fn check_files(&self, jobs: &[Job]) -> Result<(), Box<dyn StdError>> {
        let mut roles = FileRoles::default();
        if !self.run.in_place {
            roles.input_with_hint(
                "photo",
                self.photo,
                "result",
                "--in-place if the photo is to be replaced",
            );
        }
        if let Some((mask, _)) = self.mask {
            roles.input("mask", mask);
        }
        if let Some(like) = &self.run.like {
            roles.input("edit to repeat", like);
        }
        self.run.compute.declare(&mut roles);
        for job in jobs {
            roles.output("result", &job.output)?;
            if let Some(report) = &job.report {
                roles.output("report", report)?;
            }
            if let Some(map) = &job.map {
                roles.output("map", map)?;
            }
        }
        if self.run.in_place {
            // Only the result may replace the photo.
            let mut others = FileRoles::default();
            others.input("photo", self.photo);
            for job in jobs {
                for (what, path) in [("report", &job.report), ("map", &job.map)] {
                    path.as_ref().map_or(Ok(()), |path| others.output(what, path))?;
                }
            }
        }
        self.run.previews.declare(&mut roles)?;
        if self.run.in_place {
            let mut photo = FileRoles::default();
            photo.input("photo", self.photo);
            self.run.previews.declare(&mut photo)?;
        }
        Ok(())
    }
}

/// The command for a task.
fn command_of(task: Task) -> &'static str {
    match task {
        Task::Edit => "edit",
        Task::Inpaint => "inpaint",
        Task::Outpaint(_) => "outpaint",
    }
}

pub(crate) fn run(args: EditArgs) -> Outcome {
    let mask = args.mask.as_deref().map(|mask| (mask, args.reading.reading()));
    let command = PhotoCommand { command: "edit", photo: &args.photo, mask, run: &args.run };
    command.execute(&args.instruction, |base| {
        let mut request = args.options.request(base)?;
        request.score_map |= args.run.map.is_some();
        Ok(request)
    })
}

pub(crate) fn inpaint(args: InpaintCommand) -> Outcome {
    let mask = Some((&*args.mask, args.reading.reading()));
    let command = PhotoCommand { command: "inpaint", photo: &args.photo, mask, run: &args.run };
    command.execute(&args.prompt, |base| args.options.request(base, Task::Inpaint))
}

pub(crate) fn outpaint(args: OutpaintCommand) -> Outcome {
    let command =
        PhotoCommand { command: "outpaint", photo: &args.photo, mask: None, run: &args.run };
    command.execute(&args.prompt, |base| {
        let margins = args.margins.margins(base.task);
        args.options.request(base, Task::Outpaint(margins))
    })
}

impl PhotoCommand<'_> {
    /// Prints what was found in the files.
    fn tell_notes(&self, progress: &Progress, photo: &Photo, mask: Option<&Mask>) {
        for note in photo.notes() {
            progress.note(&format!("{} {note}", self.photo.display()));
        }
        if let (Some(mask), Some((path, _))) = (mask, self.mask) {
            for note in mask.notes() {
                progress.note(&format!("{} {note}", path.display()));
            }
        }
    }

    /// Runs the command: `options` sets what was given on the request, which is empty or the
    /// recorded one.
    fn execute(
        &self,
        words: &Option<String>,
        options: impl FnOnce(EditRequest) -> Result<EditRequest, EditError>,
    ) -> Outcome {
        let args = self.run;
        let start = Instant::now();
        // Everything that can be checked is checked before the model is loaded.
        #[cfg(feature = "remote")]
        let server = args.server.server()?;
        let like = args.like.as_deref().map(EditRecord::open).transpose()?;
        if let (Some(path), Some(like)) = (&args.like, &like) {
            let recorded = command_of(like.settings.task);
            if recorded != self.command {
                let path = path.display();
                return Err(
                    format!("{path} is the record of `{recorded}`, which repeats it").into()
                );
            }
        }
        let mut base =
            like.as_ref().map_or_else(EditRequest::default, |like| like.settings.clone().into());
        if let Some(words) = words {
            base.instruction.clone_from(words);
        }
        let request = options(base)?;
        request.check().map_err(by_flag)?;
        let jobs = self.jobs(&request);
        self.check_files(&jobs)?;
        let limits = args.limits.limits();
        let photo = Photo::open_within(self.photo, &limits).map_err(in_megapixels)?;
        let mask = match self.mask {
            Some((path, reading)) => {
                let mask = Mask::open_reading(path, reading, &limits).map_err(in_megapixels)?;
                mask.check_aspect(photo.size())?;
                Some(Arc::new(mask))
            }
            None => None,
        };
        let result_size = match request.task {
            Task::Outpaint(margins) => margins.canvas(photo.size())?,
            _ => photo.size(),
        };
        for job in &jobs {
            job.check(result_size)?;
        }
        #[cfg(feature = "remote")]
        if let Some(server) = &server {
            let remote = RemoteRun {
                server,
                path: self.photo,
                photo: &photo,
                mask: mask.as_deref(),
                limits: &limits,
                jobs: &jobs,
            };
            remote.check(args.previews.preview.is_some())?;
            let mut progress = Progress::new(args.quiet, StopSignal::on_ctrl_c()?);
            self.tell_notes(&progress, &photo, mask.as_deref());
            return remote.run(&mut progress, start);
        }
        if let Some(stopped) = args.pull.run(&args.compute, args.quiet)? {
            return Ok(stopped);
        }
        let mut builder = args.compute.builder()?;
        if !request.anyway {
            builder = builder.for_job(request.task.job());
        }
        if request.resize == Resize::Native {
            builder = builder.native_photo(result_size);
        }

        let stop = StopSignal::on_ctrl_c()?;
        let mut progress = Progress::new(args.quiet, stop);
        self.tell_notes(&progress, &photo, mask.as_deref());
        progress.show_stage("loading model");
        let editor = builder.build()?;
        let differences = like.map(|like| like.differences(editor.model().source.as_ref()));
        for difference in differences.into_iter().flatten() {
            progress.note(&format!("the repeated edit may differ: {difference}"));
        }
        let photo = editor.open_photo(photo);
        for job in &jobs {
            progress.previews = args.previews.folder(&job.prefix);
            let mut request = job.request.clone();
            request.mask.clone_from(&mask);
            let result = photo.edit_observed(&request, &mut progress);
            progress.finish();
            if let Some(failure) = progress.failure() {
                return Err(failure.into());
            }
            let mut result = match result {
                Err(EditError::Stopped(stopped)) => {
                    return Ok(StopSignal::stopped(&stopped.to_string()));
                }
                result => result?,
            };
            for note in &result.report.notes {
                if matches!(note, PhotoNote::EditTransparent { .. }) {
                    progress.note(&format!("{} {note}", self.photo.display()));
                }
            }
            let losses = result.image.losses(&job.output, &SaveOptions::default());
            for note in &losses {
                progress.note(&format!("{} {note}", self.photo.display()));
            }
            result.report.notes.extend(losses);
            for cut in result.report.prompts_cut() {
                progress.note(&cut.to_string());
            }
            if let Some(note) = &result.report.steps.note {
                progress.note(note);
            }
            job.write(photo.photo(), &result, start)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
