//! `editmgt edit`.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::{
    DtypePolicy, EditRequest, Editor, Holding, LoraUse, Mask, Photo, PhotoError, PhotoLimits,
    SaveOptions, check_writable,
};

use crate::Outcome;
use crate::files;
use crate::progress::Progress;

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
    /// The model's folder
    #[arg(short, long, value_name = "DIR")]
    model: PathBuf,
    /// Number of steps
    #[arg(long, default_value_t = EditRequest::default().steps)]
    steps: usize,
    /// Classifier-free guidance, 0 to 100; 1 and below turns it off
    #[arg(long, default_value_t = EditRequest::default().guidance_scale)]
    #[arg(allow_negative_numbers = true)]
    guidance: f32,
    /// How strongly the photo is attended to, 0 to 100; 1 is neutral
    #[arg(long, default_value_t = EditRequest::default().reference_strength)]
    #[arg(allow_negative_numbers = true)]
    strength: f32,
    /// Keep the photo where the instruction's attention scores below this, 0 to 1 [default: keep
    /// nothing by score]
    #[arg(long, allow_negative_numbers = true)]
    hold: Option<f32>,
    /// Treat what is kept exactly like the official code (it can change after all)
    #[arg(long)]
    parity: bool,
    /// Words of the instruction whose attention alone counts for --hold [default: all of it]
    #[arg(long, value_name = "WORDS", requires = "hold")]
    keyword: Option<String>,
    /// What to steer away from; read with guidance above 1 [default: the official negative prompt]
    #[arg(long, value_name = "WORDS")]
    negative: Option<String>,
    /// Same seed, same edit
    #[arg(long, default_value_t = 0)]
    seed: u64,
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
    /// No progress bar
    #[arg(short, long)]
    quiet: bool,
}

impl EditArgs {
    fn request(&self) -> EditRequest {
        let default = EditRequest::default();
        EditRequest {
            instruction: self.instruction.clone(),
            negative_prompt: self.negative.clone().unwrap_or(default.negative_prompt.clone()),
            steps: self.steps,
            guidance_scale: self.guidance,
            reference_strength: self.strength,
            hold: self.hold,
            holding: if self.parity { Holding::Parity } else { Holding::Strict },
            keyword: self.keyword.clone(),
            seed: self.seed,
            size: self.size,
            composite: !self.no_composite,
            ..default
        }
    }
}

pub(crate) fn run(args: EditArgs) -> Outcome {
    let start = Instant::now();
    // Everything that can be refused is refused before the model is loaded.
    let request = args.request();
    request.check()?;
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
    check_writable(&args.output, photo.size(), &save)?;
    if let Some(report) = &args.report {
        if *report == args.output {
            let path = report.display();
            return Err(format!("{path}: expected a file of its own for the report").into());
        }
        files::check_writable(report)?;
    }
    let device = editmgt::open_device(&args.device)?;
    let dtype = args.dtype.as_deref().map(str::parse).transpose()?;
    let dtype = DtypePolicy::choose(&device, dtype)?;

    let mut progress = Progress::new(args.quiet, request.steps);
    progress.say("loading model");
    let builder = Editor::builder(&args.model).device(device).dtype(dtype);
    let editor = args.lora.into_iter().fold(builder, |builder, lora| builder.lora(lora)).build()?;
    let result = editor.edit(&photo, mask.as_ref(), &request, &mut progress);
    progress.finish();
    let result = result?;

    result.image.save(&args.output, &save)?;
    if let Some(report) = &args.report {
        files::write(report, &serde_json::to_vec_pretty(&result.report)?)?;
    }
    // The edit is there, whether or not anyone reads this.
    let _unread = writeln!(
        std::io::stdout(),
        "{}: seed {}, {:.1} s, {:.1}% of tokens held",
        args.output.display(),
        request.seed,
        start.elapsed().as_secs_f64(),
        100.0 * result.report.tokens_held,
    );
    Ok(ExitCode::SUCCESS)
}

/// The number of pixels alone decides: it is what memory depends on.
fn limits(megapixels: u64) -> PhotoLimits {
    let max_pixels = megapixels.saturating_mul(MEGA);
    PhotoLimits { max_pixels, max_side: u64::MAX, ..PhotoLimits::default() }
}

/// Names the program's option where the library names its own.
fn in_megapixels(error: PhotoError) -> Box<dyn Error> {
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
