//! `editmgt edit`.

use std::error::Error as StdError;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use editmgt::{
    EditError, EditRecord, EditRequest, EditResult, Mask, MaskReading, Photo, PhotoNote, PixelSize,
    SaveOptions, check_writable,
};
use editmgt_store::FileRoles;
use indicatif::HumanBytes;

use crate::Outcome;
use crate::files;
use crate::limits::{LimitArgs, in_megapixels};
use crate::model::ComputeArgs;
use crate::options::{RequestArgs, by_flag};
use crate::progress::{PreviewFolder, Progress};
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
    /// Output file; .png, .jpg, .webp, .bmp or .tiff determines the format
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Allow OUT to be the photo itself, which is replaced when the edit is complete
    #[arg(long, conflicts_with = "variations")]
    in_place: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    options: RequestArgs,
    /// Make this many variations, from --variation on, as OUT with -0, -1, … before its extension
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_VARIATIONS))]
    variations: Option<u32>,
    /// Mask image of the photo's aspect ratio, white where the photo may change
    #[arg(long, value_name = "IMAGE")]
    mask: Option<PathBuf>,
    /// Channel of the mask: luma (white may change), alpha (transparent may change) or auto (alpha
    /// for a photo with transparency, luma for a drawing) [default: auto]
    #[arg(long, value_name = "HOW", value_parser = ["auto", "alpha", "luma"], requires = "mask")]
    mask_reads: Option<String>,
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
    /// Write a preview after each step into this folder, in the model's size
    #[arg(long, value_name = "DIR")]
    preview: Option<PathBuf>,
    /// Interval of previews in steps; the last step always has one
    #[arg(long, value_name = "STEPS", requires = "preview", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    preview_every: u32,
    /// Shrink factor of previews, which decodes fewer tokens
    #[arg(long, value_name = "TIMES", requires = "preview", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    preview_shrink: u32,
    #[command(flatten)]
    limits: LimitArgs,
    /// No progress bar or progress lines
    #[arg(short, long)]
    quiet: bool,
}

/// One output file.
struct Job {
    request: EditRequest,
    output: PathBuf,
    report: Option<PathBuf>,
    map: Option<PathBuf>,
    record: bool,
    /// Prefix of its previews' names.
    prefix: String,
}

impl EditArgs {
    fn request(&self, like: Option<&EditRecord>) -> Result<EditRequest, EditError> {
        let mut like = like.map_or_else(EditRequest::default, |like| like.settings.clone().into());
        if let Some(instruction) = &self.instruction {
            like.instruction.clone_from(instruction);
        }
        let mut request = self.options.request(like)?;
        request.score_map |= self.map.is_some();
        request.check().map_err(by_flag)?;
        Ok(request)
    }

    /// A job for each variation.
    fn jobs(&self, like: Option<&EditRecord>) -> Result<Vec<Job>, EditError> {
        let request = self.request(like)?;
        let record = !self.no_record;
        let Some(n) = self.variations else {
            let (output, report, map) =
                (self.output.clone(), self.report.clone(), self.map.clone());
            return Ok(vec![Job { request, output, report, map, record, prefix: String::new() }]);
        };
        let job = |i| {
            let number = request.variation.saturating_add(i);
            Job {
                request: request.clone().variation(number),
                output: numbered(&self.output, number),
                report: self.report.as_deref().map(|to| numbered(to, number)),
                map: self.map.as_deref().map(|to| numbered(to, number)),
                record,
                prefix: format!("{number}-"),
            }
        };
        Ok((0..n).map(job).collect())
    }
}

impl EditArgs {
    /// Checks that no output is an input or another output.
    fn check_files(&self, jobs: &[Job]) -> Result<(), Box<dyn StdError>> {
        let mut roles = FileRoles::default();
        if !self.in_place {
            roles.input_with_hint(
                "photo",
                &self.photo,
                "result",
                "--in-place if the photo is to be replaced",
            );
        }
        if let Some(mask) = &self.mask {
            roles.input("mask", mask);
        }
        if let Some(like) = &self.like {
            roles.input("edit to repeat", like);
        }
        self.compute.declare(&mut roles);
        for job in jobs {
            roles.output("result", &job.output)?;
            if let Some(report) = &job.report {
                roles.output("report", report)?;
            }
            if let Some(map) = &job.map {
                roles.output("map", map)?;
            }
        }
        if self.in_place {
            // Only the result may replace the photo.
            let mut others = FileRoles::default();
            others.input("photo", &self.photo);
            for job in jobs {
                for (what, path) in [("report", &job.report), ("map", &job.map)] {
                    path.as_ref().map_or(Ok(()), |path| others.output(what, path))?;
                }
            }
        }
        let Some(folder) = &self.preview else { return Ok(()) };
        if !folder.is_dir() {
            let folder = folder.display();
            return Err(
                format!("{folder}: the folder for previews does not exist; create it").into()
            );
        }
        roles.outputs_in("preview", folder, is_preview)?;
        if self.in_place {
            let mut photo = FileRoles::default();
            photo.input("photo", &self.photo);
            photo.outputs_in("preview", folder, is_preview)?;
        }
        Ok(())
    }
}

pub(crate) fn run(args: EditArgs) -> Outcome {
    let start = Instant::now();
    // Everything that can be checked is checked before the model is loaded.
    let like = args.like.as_deref().map(EditRecord::open).transpose()?;
    let jobs = args.jobs(like.as_ref())?;
    args.check_files(&jobs)?;
    let limits = args.limits.limits();
    let photo = Photo::open_within(&args.photo, &limits).map_err(in_megapixels)?;
    let mask = match &args.mask {
        Some(path) => {
            let reading = match args.mask_reads.as_deref() {
                Some("alpha") => MaskReading::Alpha,
                Some("luma") => MaskReading::Luma,
                _ => MaskReading::Auto,
            };
            let mask = Mask::open_reading(path, reading, &limits).map_err(in_megapixels)?;
            mask.check_aspect(photo.size())?;
            Some(Arc::new(mask))
        }
        None => None,
    };
    for job in &jobs {
        job.check(photo.size())?;
    }
    let builder = args.compute.builder()?;

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    for note in photo.notes() {
        progress.note(&format!("{} {note}", args.photo.display()));
    }
    if let (Some(mask), Some(path)) = (&mask, &args.mask) {
        for note in mask.notes() {
            progress.note(&format!("{} {note}", path.display()));
        }
    }
    progress.show_stage("loading model");
    let editor = builder.build()?;
    let differences = like.map(|like| like.differences(editor.model().source.as_ref()));
    for difference in differences.into_iter().flatten() {
        progress.note(&format!("the repeated edit may differ: {difference}"));
    }
    let photo = editor.open_photo(photo);
    for job in &jobs {
        progress.previews = args.preview.clone().map(|folder| PreviewFolder {
            folder,
            every: args.preview_every as usize,
            shrink: args.preview_shrink as usize,
            prefix: job.prefix.clone(),
        });
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
                progress.note(&format!("{} {note}", args.photo.display()));
            }
        }
        let losses = result.image.losses(&job.output, &SaveOptions::default());
        for note in &losses {
            progress.note(&format!("{} {note}", args.photo.display()));
        }
        result.report.notes.extend(losses);
        // The default negative prompt is longer than CLIP's context, as in the official code: no
        // warning.
        let given = |prompt: &str| prompt == "instruction" || job.request.negative_prompt.is_some();
        for left_out in result.report.text_left_out.iter().filter(|part| given(part.prompt)) {
            progress.note(&left_out.to_string());
        }
        job.write(photo.photo(), &result, start)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Job {
    /// Checks that every file can be written.
    fn check(&self, size: PixelSize) -> Result<(), Box<dyn StdError>> {
        let save = SaveOptions::default();
        check_writable(&self.output, size, &save)?;
        if let Some(report) = &self.report {
            editmgt_store::check_writable(report)?;
        }
        if let Some(map) = &self.map {
            check_writable(map, size, &save)?;
        }
        Ok(())
    }

    fn write(
        &self,
        photo: &Photo,
        result: &EditResult,
        start: Instant,
    ) -> Result<(), Box<dyn StdError>> {
        let text = self.record.then(|| EditRecord::from(&result.report).png_text());
        let save = text.into_iter().fold(SaveOptions::default(), SaveOptions::with_text);
        result.image.save_with(&self.output, &save)?;
        if let Some(map) = &self.map {
            result.overlay(photo)?.save(map)?;
        }
        if let Some(report) = &self.report {
            files::write(report, serde_json::to_vec_pretty(&result.report)?)?;
        }
        let peak = result
            .report
            .peak_memory_bytes
            .map_or_else(String::new, |bytes| format!(", peak memory {}", HumanBytes(bytes)));
        // The edit is written; a closed pipe is not an error.
        let _unread = writeln!(
            std::io::stdout(),
            "{}: seed {}, {:.1} s, {:.1}% of tokens held{peak}",
            self.output.display(),
            self.request.seed,
            start.elapsed().as_secs_f64(),
            100.0 * result.report.tokens_held,
        );
        Ok(())
    }
}

/// Whether a file of a preview folder is a preview: `step-0004.png`, `2-step-0004.png`; ignores
/// case, as some file systems do.
fn is_preview(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let Some((prefix, step)) = name.strip_suffix(".png").and_then(|name| name.rsplit_once("step-"))
    else {
        return false;
    };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    number(step) && (prefix.is_empty() || prefix.strip_suffix('-').is_some_and(number))
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
