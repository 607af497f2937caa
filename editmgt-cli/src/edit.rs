//! `editmgt edit`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use editmgt::{
    DtypePolicy, EditRequest, Editor, Holding, Mask, Photo, PhotoLimits, SaveOptions,
    check_writable,
};

use crate::Outcome;
use crate::files;
use crate::progress::Progress;

#[derive(Args)]
pub(crate) struct EditArgs {
    /// The photo: PNG, JPEG, WebP, BMP, TIFF or GIF
    photo: PathBuf,
    /// What to change, in words
    instruction: String,
    /// Where to write the result; the extension names the format
    #[arg(short, long)]
    output: PathBuf,
    /// The model's folder
    #[arg(short, long)]
    model: PathBuf,
    /// Number of steps
    #[arg(long, default_value_t = EditRequest::default().steps)]
    steps: usize,
    /// Classifier-free guidance; 1 turns it off
    #[arg(long, default_value_t = EditRequest::default().guidance_scale)]
    guidance: f32,
    /// How strongly the photo is attended to; 1 is neutral
    #[arg(long, default_value_t = EditRequest::default().reference_strength)]
    strength: f32,
    /// Keep tokens that score below this, 0 to 1 [default: keep none by score]
    #[arg(long)]
    hold: Option<f32>,
    /// Treat held tokens exactly like the official code (they can be masked again)
    #[arg(long)]
    parity: bool,
    /// Word or phrase of the instruction that names the place of the edit
    #[arg(long)]
    keyword: Option<String>,
    /// What to steer away from [default: the official negative prompt]
    #[arg(long)]
    negative: Option<String>,
    /// Same seed, same edit
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Side of the square whose area the model works on, in pixels [default: the model's own]
    #[arg(long)]
    size: Option<usize>,
    /// Image that is white where the photo may change
    #[arg(long, value_name = "PNG")]
    mask: Option<PathBuf>,
    /// Keep the codec's pixels even where tokens are held
    #[arg(long)]
    no_composite: bool,
    /// Write what was done, as JSON
    #[arg(long, value_name = "JSON")]
    report: Option<PathBuf>,
    /// Refuse photos of more megapixels
    #[arg(long, value_name = "MP")]
    max_megapixels: Option<u64>,
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
    let mut limits = PhotoLimits::default();
    if let Some(megapixels) = args.max_megapixels {
        limits.max_pixels = megapixels.saturating_mul(1_000_000);
    }
    let photo = Photo::open_within(&args.photo, &limits)?;
    let mask = args.mask.as_ref().map(|path| Mask::open_within(path, &limits)).transpose()?;
    let save = SaveOptions::default();
    check_writable(&args.output, photo.size(), &save)?;
    if let Some(report) = &args.report {
        files::check_writable(report)?;
    }
    let device = editmgt::open_device(&args.device)?;
    let dtype = args.dtype.as_deref().map(str::parse).transpose()?;
    let dtype = DtypePolicy::choose(&device, dtype)?;

    let mut progress = Progress::new(args.quiet, request.steps);
    progress.say("loading model");
    let editor = Editor::builder(&args.model).device(device).dtype(dtype).build()?;
    let result = editor.edit(&photo, mask.as_ref(), &request, &mut progress);
    progress.finish();
    let result = result?;

    result.image.save(&args.output, &save)?;
    if let Some(report) = &args.report {
        files::write(report, &serde_json::to_vec_pretty(&result.report)?)?;
    }
    println!(
        "{}: seed {}, {:.1} s, {:.1}% of tokens held",
        args.output.display(),
        request.seed,
        start.elapsed().as_secs_f64(),
        100.0 * result.report.tokens_held,
    );
    Ok(ExitCode::SUCCESS)
}
