//! `editmgt edit`.

use std::error::Error as StdError;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::{
    DtypePolicy, EditError, EditRequest, EditResult, Error, Holding, KeywordPolicy, LoraUse,
    MapCombine, Mask, Photo, PhotoError, PhotoLimits, SaveOptions, check_writable,
};

use crate::Outcome;
use crate::files;
use crate::model::ModelArg;
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
    model: ModelArg,
    /// Number of steps [default: the model's; officially 36]
    #[arg(long)]
    steps: Option<usize>,
    /// Classifier-free guidance, 0 to 100; 1 and below turns it off [default: the model's;
    /// officially 6]
    #[arg(long, allow_negative_numbers = true)]
    guidance: Option<f32>,
    /// The share of the steps, 0 to 1, before which there is no guidance [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    guidance_from: Option<f32>,
    /// The share of the steps, 0 to 1, after which there is no guidance [default: 1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    guidance_until: Option<f32>,
    /// How strongly the photo is attended to, 0 to 100; 1 is neutral [default: the model's;
    /// officially 1.1]
    #[arg(long, allow_negative_numbers = true)]
    strength: Option<f32>,
    /// Weight of the noise at the first and at the last step, 0 to 100 each [default: the model's;
    /// officially 2 0]
    #[arg(long, num_args = 2, value_names = ["FIRST", "LAST"], allow_negative_numbers = true)]
    temperature: Option<Vec<f32>>,
    /// What keeps the photo's own: off, auto, mask, a score from 0 to 1, budget:SHARE (at most
    /// that share may change), or mask+ and one of these [default: the model's; officially off; with
    /// --mask: mask]
    #[arg(long, value_name = "POLICY", allow_negative_numbers = true)]
    hold: Option<String>,
    /// Let so many tokens around it change, too [default: 0; 1 for auto where attention is coarser
    /// than tokens]
    #[arg(long, value_name = "TOKENS")]
    hold_margin: Option<usize>,
    /// Treat what is kept exactly like the official code (it can change after all)
    #[arg(long)]
    parity: bool,
    /// Words of the instruction whose attention counts for --hold; may be given several times
    /// [default: the model's; officially all of it]
    #[arg(long, value_name = "WORDS")]
    keyword: Vec<String>,
    /// Take the content words of the instruction as --keyword
    #[arg(long, conflicts_with = "keyword")]
    auto_keyword: bool,
    /// Let all of the instruction count for --hold, whatever the model's default
    #[arg(long, conflicts_with_all = ["keyword", "auto_keyword"])]
    no_keyword: bool,
    /// How the maps of several keywords become one: max or mean [default: max]
    #[arg(long, value_name = "HOW", value_parser = ["max", "mean"], requires = "keyword")]
    keyword_maps: Option<String>,
    /// Blocks whose attention counts for --hold, double blocks first [default: the model's;
    /// officially 28 to 36]
    #[arg(long, value_name = "BLOCK,…", value_delimiter = ',')]
    blocks: Option<Vec<usize>>,
    /// What to steer away from; read with guidance above 1 [default: the model's; officially a list
    /// of flaws]
    #[arg(long, value_name = "WORDS")]
    negative: Option<String>,
    /// Same seed, same edit
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Which of the edits of this seed: each has noise of its own
    #[arg(long, value_name = "I", default_value_t = 0)]
    variation: u32,
    /// Make so many edits of this seed, from --variation on, as OUT with -0, -1, … before its
    /// extension; each is what --variation alone gives
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_VARIATIONS))]
    variations: Option<u32>,
    /// Side of the square whose area the model works on [default: the model's own]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// A LoRA adapter, PEFT's layout; several can be given. Scale 1 is all of it; streams are
    /// image, reference or both [default: what it was trained for]
    #[arg(long, value_name = "DIR[:SCALE[:STREAMS]]")]
    lora: Vec<LoraUse>,
    /// Image of the photo's proportions, white where the photo may change
    #[arg(long, value_name = "IMAGE")]
    mask: Option<PathBuf>,
    /// Where the photo is kept, keep it as the codec sees it, not pixel for pixel
    #[arg(long)]
    no_composite: bool,
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
    /// Where to compute: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32, f16 or bf16, for transformer and text; the codec runs in f32 [default: what suits
    /// the device]
    #[arg(long)]
    dtype: Option<String>,
    /// No progress bar, and no lines in its place where standard error is no terminal
    #[arg(short, long)]
    quiet: bool,
}

impl EditArgs {
    fn request(&self) -> Result<EditRequest, EditError> {
        let guidance_interval = (self.guidance_from.is_some() || self.guidance_until.is_some())
            .then(|| (self.guidance_from.unwrap_or(0.0), self.guidance_until.unwrap_or(1.0)));
        Ok(EditRequest {
            instruction: self.instruction.clone(),
            negative_prompt: self.negative.clone(),
            steps: self.steps,
            guidance_scale: self.guidance,
            guidance_interval,
            reference_strength: self.strength,
            temperature: self.temperature.as_deref().map(|both| (both[0], both[1])),
            hold: self.hold.as_deref().map(str::parse).transpose()?,
            hold_margin: self.hold_margin,
            holding: if self.parity { Holding::Parity } else { Holding::Strict },
            keyword: self.keyword(),
            keyword_maps: self.keyword_maps.as_deref().map(|how| match how {
                "mean" => MapCombine::Mean,
                _ => MapCombine::Max,
            }),
            blocks: self.blocks.clone(),
            seed: self.seed,
            variation: self.variation,
            size: self.size,
            composite: !self.no_composite,
        })
    }

    fn keyword(&self) -> Option<KeywordPolicy> {
        match (self.auto_keyword, self.no_keyword, self.keyword.is_empty()) {
            (true, ..) => Some(KeywordPolicy::Auto),
            (_, true, _) => Some(KeywordPolicy::All),
            (_, _, false) => Some(KeywordPolicy::Phrases(self.keyword.clone())),
            _ => None,
        }
    }
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
        let request = self.request()?;
        request.check()?;
        let Some(n) = self.variations else {
            let (output, report) = (self.output.clone(), self.report.clone());
            return Ok(vec![Job { request, output, report, prefix: String::new() }]);
        };
        let job = |i| Job {
            request: EditRequest { variation: self.variation.saturating_add(i), ..request.clone() },
            output: numbered(&self.output, self.variation.saturating_add(i)),
            report: self.report.as_deref().map(|to| numbered(to, self.variation.saturating_add(i))),
            prefix: format!("{}-", self.variation.saturating_add(i)),
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
    let device = editmgt::open_device(&args.device)?;
    let dtype = args.dtype.as_deref().map(str::parse).transpose()?;
    let dtype = DtypePolicy::choose(&device, dtype)?;

    let stop = StopSignal::on_ctrl_c()?;
    let mut progress = Progress::new(args.quiet, stop);
    progress.say("loading model");
    let builder = args.model.builder().device(device).dtype(dtype);
    let editor = args.lora.into_iter().fold(builder, |builder, lora| builder.lora(lora)).build()?;
    let photo = editor.open(photo);
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
