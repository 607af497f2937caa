//! A whole pipeline, replaying the official generator's draws: EditMGT's, or one of aMUSEd's three
//! (text to image, inpainting, image to image).

use std::path::Path;

use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};
use editmgt::{
    LoadOptions, LoadedText, Mask, MaskReading, ModelError, ModelFolder, Photo, PixelSize,
    ResizePlan, photo::ResizeFilter,
};
use editmgt_backends::{Dtype, DtypePolicy};
use editmgt_core::{
    AttentionConsolidator, Error, GridSize, MgtTransformer, MicroConditions, NoiseRequest,
    NoiseSource, RegionHold, Schedule, StepNoise, TextConditioning, TextEncoder, TextRows,
    TokenDraw, TokenGrid, VqCodec,
};
use editmgt_sampler::{
    Consolidator, EditLoop, HoldOff, HoldThreshold, Localisation, LoopInput, LoopStages, LoopStep,
    MaskingSchedule, Parity, SchedulerConfig, StrengthStart, Temperature, add_noise,
};
use editmgt_text::TokenIds;
use serde::Deserialize;

use super::{Comparison, GoldenFolder, VerifyError};

/// Hidden states and pooled vectors of the text encoders.
const TEXT: f64 = 1e-4;
/// Tolerance of the logits of one forward pass; guidance multiplies it.
const LOGITS: f64 = 5e-4;
/// Averaged, rescaled and smoothed attention.
const MAPS: f64 = 1e-5;
/// Rescaling divides by the map's range, which multiplies rounding.
const RESCALED_MAPS: f64 = 1e-4;
/// One rounding of a linspace of numbers up to about 10.
const TEMPERATURES: f64 = 1e-6;
/// A prepared picture of 8 bits, 0..1: levels are equal, their division by 255 may round.
const PREPARED: f64 = 1e-6;
/// Decoded pixels.
const IMAGE: f64 = 1e-3;

#[derive(Deserialize)]
struct PipelineFile {
    #[serde(default)]
    pipeline: PipelineClass,
    args: PipelineArgs,
}

/// The official class; EditMGT's is not named in its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum PipelineClass {
    #[default]
    EditMgt,
    #[serde(rename = "AmusedPipeline")]
    TextToImage,
    #[serde(rename = "AmusedInpaintPipeline")]
    Inpaint,
    #[serde(rename = "AmusedImg2ImgPipeline")]
    ImageToImage,
}

/// The arguments of the official pipeline's call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineArgs {
    prompt: String,
    negative_prompt: Option<String>,
    height: usize,
    width: usize,
    num_inference_steps: usize,
    guidance_scale: f32,
    reference_strength: f32,
    local_guidance: f32,
    attention_enable_blocks: Option<Vec<usize>>,
    local_query_text: Option<String>,
    temperature: (f32, f32),
    has_reference: bool,
    has_mask: bool,
    /// aMUSEd's.
    strength: Option<f64>,
    micro_conditioning_aesthetic_score: Option<f32>,
    micro_conditioning_crop_coord: Option<(f32, f32)>,
}

/// Replays the draws of the official generator.
struct RecordedNoise<'a>(&'a GoldenFolder);

impl NoiseSource for RecordedNoise<'_> {
    fn step_noise(&self, request: &NoiseRequest) -> Result<StepNoise, Error> {
        let name = |what| format!("step{}.{what}", request.step);
        let draw = self.0.tokens(&name("sampled_ids")).map_err(Error::stage)?;
        // The last step re-masks nothing and draws no confidence noise.
        let confidence = if self.0.has(&name("gumbel_uniform")) {
            self.0.floats(&name("gumbel_uniform")).map_err(Error::stage)?.values
        } else {
            vec![0.0; request.batch * request.size.len()]
        };
        Ok(StepNoise { draw: TokenDraw::Tokens(draw), confidence })
    }
}

/// The parts of the pipeline by their concrete types, for access to internals.
struct Components {
    codec: Box<dyn VqCodec>,
    text: LoadedText,
    transformer: Box<dyn MgtTransformer>,
    scheduler: SchedulerConfig,
}

impl Components {
    fn load(
        folder: &ModelFolder,
        device: &Device,
        variant: Option<&str>,
    ) -> Result<Self, ModelError> {
        let dtype = DtypePolicy::uniform(Dtype::F32);
        let mut options = LoadOptions::new(device.clone(), dtype);
        options.variant = variant.map(str::to_owned);
        let transformer = folder.load_any_transformer(&options)?;
        Ok(Self {
            codec: folder.load_codec(&options)?,
            text: folder.load_text_encoder(&options)?,
            transformer,
            scheduler: folder.read_scheduler()?,
        })
    }
}

pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
    variant: Option<&str>,
) -> Result<Vec<Comparison>, VerifyError> {
    let PipelineFile { pipeline, args } = read_file(folder.dir())?;
    let model_folder = ModelFolder::open(folder.dir())?;
    let mut model = Components::load(&model_folder, device, variant)?;
    if pipeline == PipelineClass::Inpaint {
        // Its constructor overrides the config.
        model.scheduler.masking_schedule = MaskingSchedule::Linear;
    }

    let mut out = Vec::new();
    let negative_prompt = args.negative_prompt.as_deref().unwrap_or("");
    let conditional = text(folder, &model, &args.prompt, "cond", &mut out)?;
    let negative = text(folder, &model, negative_prompt, "uncond", &mut out)?;
    let reference = if args.has_reference {
        Some(reference(folder, &model, pipeline, &args, device, &mut out)?)
    } else {
        None
    };
    let input = loop_input(folder, &model, &args, reference, [conditional, negative])?;
    let input = match pipeline {
        PipelineClass::EditMgt => input,
        _ => amused_input(folder, &model, (pipeline, &args), input, &mut out)?,
    };

    let (first, last) = args.temperature;
    let temperature = Temperature::Range(first, last);
    let scheduler = Parity::new(model.scheduler.masking_schedule, temperature);
    let hold: Box<dyn RegionHold> = if args.local_guidance > 0.0 {
        Box::new(HoldThreshold::new(args.local_guidance)?)
    } else {
        Box::new(HoldOff)
    };
    let consolidator = Consolidator::parity();
    let noise = RecordedNoise(folder);
    let stages = LoopStages::new(&*model.transformer, &scheduler, &consolidator, &*hold, &noise);
    let mut edit = EditLoop::new(stages, input)?;
    compare_plan(folder, edit.schedule(), &mut out)?;
    while !edit.is_done() {
        let before = edit.tokens().clone();
        let step = edit.step()?;
        compare_step(folder, &args, &before, &step, edit.tokens(), &mut out)?;
    }
    compare_image(folder, model.codec.decode(edit.tokens())?, &mut out)?;
    Ok(out)
}

fn read_file(dir: &Path) -> Result<PipelineFile, VerifyError> {
    let path = dir.join("pipeline.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(cause) => return Err(VerifyError::Io { path, cause }),
    };
    serde_json::from_slice(&bytes).map_err(|e| VerifyError::golden(path, e.to_string()))
}

/// Token ids, hidden states and pooled vector of one prompt.
fn text(
    folder: &GoldenFolder,
    model: &Components,
    prompt: &str,
    half: &str,
    out: &mut Vec<Comparison>,
) -> Result<TextConditioning, VerifyError> {
    let mut ids = |name: &str, ids: &TokenIds| -> Result<(), VerifyError> {
        let name = format!("{half}.{name}");
        let expected = folder.ints(&name)?.values;
        let ids: Vec<i64> = ids.ids().iter().map(|&id| id.into()).collect();
        out.push(Comparison::decisions(name, &ids, &expected));
        Ok(())
    };
    let features = match &model.text {
        LoadedText::Clip(clip) => {
            ids("clip_ids", &clip.tokenizer().encode(&[prompt])?)?;
            clip.encode(&[prompt])?
        }
        LoadedText::ClipGemma2(both) => {
            ids("clip_ids", &both.clip().tokenizer().encode(&[prompt])?)?;
            ids("gemma_ids", &both.tokenizer().encode(&[prompt])?)?;
            both.encode(&[prompt])?
        }
        _ => return Err(not_official(folder)),
    };
    let hidden = folder.floats(&format!("{half}.encoder_hidden_states"))?;
    out.push(Comparison::tensor(features.hidden.clone(), &hidden, TEXT)?);
    let pooled = folder.floats(&format!("{half}.text_embeds"))?;
    out.push(Comparison::tensor(features.pooled.clone(), &pooled, TEXT)?);
    Ok(features)
}

/// The recordings are the official pipeline's, which has no small encoder.
fn not_official(folder: &GoldenFolder) -> VerifyError {
    let message = "a pipeline with a small text encoder has no official counterpart";
    VerifyError::golden(folder.dir().to_owned(), message.into())
}

/// The photo's tokens.
fn reference(
    folder: &GoldenFolder,
    model: &Components,
    pipeline: PipelineClass,
    args: &PipelineArgs,
    device: &Device,
    out: &mut Vec<Comparison>,
) -> Result<TokenGrid, VerifyError> {
    let photo = Photo::open(folder.dir().join("reference.png")).map_err(VerifyError::component)?;
    let model_size = PixelSize::new(args.height, args.width);
    let plan = ResizePlan::exact(photo.size(), model_size, model.codec.spec().downsample_factor)?;
    let plan = match pipeline {
        PipelineClass::EditMgt => plan,
        // The filter of diffusers' own pipelines.
        _ => plan.with_filters(ResizeFilter::Lanczos, ResizeFilter::Lanczos),
    };
    let image = plan.apply(&photo, device)?;
    if folder.has("image") {
        out.push(Comparison::tensor(image.clone(), &folder.floats("image")?, PREPARED)?);
    }
    let tokens = model.codec.encode(image)?;
    // With a mask the official pipeline overwrites `reference_tokens` later on.
    let name = if args.has_mask { "reference_tokens_raw" } else { "reference_tokens" };
    out.push(Comparison::tokens(name, &tokens, &folder.tokens(name)?));
    Ok(tokens)
}

fn loop_input(
    folder: &GoldenFolder,
    model: &Components,
    args: &PipelineArgs,
    reference: Option<TokenGrid>,
    [text, negative]: [TextConditioning; 2],
) -> Result<LoopInput, VerifyError> {
    let mask_token = model.transformer.spec().mask_token;
    let factor = model.codec.spec().downsample_factor;
    let size = GridSize::new(args.height / factor, args.width / factor);
    let (canvas, reference) = match (&reference, args.has_mask) {
        (Some(tokens), true) => {
            // The official code supports neither opacity nor other mask levels.
            let mask = Photo::open(folder.dir().join("mask.png"))
                .and_then(|photo| {
                    Mask::from_luma(MaskReading::Luma.levels(&photo)).on_grid_official(size)
                })
                .map_err(VerifyError::component)?;
            let canvas = mask.masked(tokens, mask_token)?;
            // The official canvas and reference are one tensor: the reference stream also has mask
            // tokens in the region.
            (canvas.clone(), Some(canvas))
        }
        _ => (TokenGrid::filled(1, size, mask_token), reference),
    };
    let rows = match &args.local_query_text {
        // The official code indexes the LLM's rows with positions of CLIP's sequence.
        Some(phrase) => vec![TextRows::Rows(match &model.text {
            LoadedText::Clip(clip) => clip.official_keyword_rows(&args.prompt, phrase)?,
            LoadedText::ClipGemma2(both) => both.official_keyword_rows(&args.prompt, phrase)?,
            _ => return Err(not_official(folder)),
        })],
        None => Vec::new(),
    };
    let mut micro = MicroConditions::uncropped(args.height, args.width);
    if let Some(score) = args.micro_conditioning_aesthetic_score {
        micro.aesthetic_score = score;
    }
    if let Some((top, left)) = args.micro_conditioning_crop_coord {
        (micro.crop_top, micro.crop_left) = (top, left);
    }
    let blocks = args.attention_enable_blocks.clone().unwrap_or_default();
    let input = LoopInput::new(text, canvas, micro, args.num_inference_steps)
        .with_guidance(args.guidance_scale, Some(negative))
        .with_localisation(Localisation::new(blocks).with_rows(rows));
    Ok(match reference {
        Some(reference) => input.with_reference(reference, args.reference_strength),
        None => input,
    })
}

/// What aMUSEd's pipelines do otherwise than EditMGT's: there is no reference stream, a strength
/// leaves out steps, and image to image starts from the photo's tokens with noise.
fn amused_input(
    folder: &GoldenFolder,
    model: &Components,
    (pipeline, args): (PipelineClass, &PipelineArgs),
    mut input: LoopInput,
    out: &mut Vec<Comparison>,
) -> Result<LoopInput, VerifyError> {
    let reference = input.reference.take();
    let start = match args.strength {
        Some(strength) => Some(StrengthStart::new(
            strength,
            args.num_inference_steps,
            model.scheduler.masking_schedule,
        )?),
        None => None,
    };
    let input = match (start, reference) {
        (Some(start), Some(tokens)) if pipeline == PipelineClass::ImageToImage => {
            let uniforms = folder.floats("add_noise.uniform")?.values;
            let mask_token = model.transformer.spec().mask_token;
            input.canvas = add_noise(&tokens, start.mask_ratio, &uniforms, mask_token)?;
            input.with_first_step(start.first_step).with_starting_mask_ratio(1.0)
        }
        (Some(start), _) => input.with_first_step(start.first_step),
        (None, _) => input,
    };
    let first_step: usize = folder.meta("/first_step")?;
    out.push(Comparison::decisions("first_step", &[input.first_step], &[first_step]));
    if folder.has("start_tokens") {
        let expected = folder.tokens("start_tokens")?;
        out.push(Comparison::tokens("start_tokens", &input.canvas, &expected));
    }
    if folder.has("mask") {
        let mask_token = model.transformer.spec().mask_token;
        let masked = |&id: &u32| i64::from(id == mask_token);
        let masked: Vec<i64> = input.canvas.ids().iter().map(masked).collect();
        out.push(Comparison::decisions("mask", &masked, &folder.ints("mask")?.values));
    }
    let micro = folder.floats("micro_conds")?;
    let half = input.micro.values();
    out.push(Comparison::values(micro.name, &[half, half].concat(), &micro.values, 0.0));
    Ok(input)
}

/// Compares the plan of the steps, where it is recorded.
fn compare_plan(
    folder: &GoldenFolder,
    schedule: &Schedule,
    out: &mut Vec<Comparison>,
) -> Result<(), VerifyError> {
    if folder.has("timesteps") {
        let got: Vec<i64> = schedule.timesteps.iter().map(|&t| t as i64).collect();
        let expected = folder.ints("timesteps")?.values;
        out.push(Comparison::decisions("timesteps", &got, &expected));
    }
    if folder.has("temperatures") {
        let expected = folder.floats("temperatures")?.values;
        let got = &schedule.temperatures;
        out.push(Comparison::values("temperatures", got, &expected, TEMPERATURES));
    }
    Ok(())
}

/// Compares all recorded values of a step.
fn compare_step(
    folder: &GoldenFolder,
    args: &PipelineArgs,
    before: &TokenGrid,
    step: &LoopStep,
    after: &TokenGrid,
    out: &mut Vec<Comparison>,
) -> Result<(), VerifyError> {
    let index = step.completed - 1;
    let name = |what: &str| format!("step{index}.{what}");
    for (what, tokens) in
        [("sample", before), ("pred_original_sample", &step.predicted), ("prev_sample", after)]
    {
        out.push(Comparison::tokens(name(what), tokens, &folder.tokens(&name(what))?));
    }
    if folder.has(&name("logits")) {
        // [B, N, V] to the official [B, V, H, W].
        let [batch, _, classes] = step.logits.dims();
        let shape = [batch, classes, after.size().height, after.size().width];
        let logits = step.logits.clone().swap_dims(1, 2).reshape(shape);
        // uncond + g (cond - uncond) weighs the two passes' errors by (g - 1) + g.
        let weight = f64::from((2.0 * args.guidance_scale - 1.0).max(1.0));
        let expected = folder.floats(&name("logits"))?;
        out.push(Comparison::tensor(logits, &expected, LOGITS * weight)?);
    }
    if let Some(maps) = &step.maps {
        let raw = Consolidator::parity().with_smoothing(None);
        for (what, consolidator, tolerance) in [
            ("local_agg", raw.with_rescale(false), MAPS),
            ("local_rescaled", raw, RESCALED_MAPS),
            ("local_smoothed", Consolidator::parity(), RESCALED_MAPS),
        ] {
            if folder.has(&name(what)) {
                let map = consolidator.consolidate(maps, maps.size())?;
                let expected = folder.floats(&name(what))?.values;
                out.push(Comparison::values(name(what), map.values(), &expected, tolerance));
            }
        }
    }
    Ok(())
}

/// The decoded image, whole or as stored: a crop and a mean-pooled copy.
fn compare_image(
    folder: &GoldenFolder,
    image: Tensor<4>,
    out: &mut Vec<Comparison>,
) -> Result<(), VerifyError> {
    if folder.has("final_image") {
        out.push(Comparison::tensor(image.clone(), &folder.floats("final_image")?, IMAGE)?);
    }
    if folder.has("final_image_crop") {
        let [top, left] = crop_origin(folder)?;
        let expected = folder.floats("final_image_crop")?;
        let [_, channels, height, width] = expected.shape[..] else {
            return Err(folder.malformed("final_image_crop: expected [1, C, H, W]"));
        };
        let ranges = [0..1, 0..channels, top..top + height, left..left + width];
        let fits = ranges.iter().zip(image.dims()).all(|(range, size)| range.end <= size);
        if !fits {
            return Err(folder.malformed("final_image_crop: lies outside the image"));
        }
        out.push(Comparison::tensor(image.clone().slice(ranges), &expected, IMAGE)?);
    }
    if folder.has("final_image_pool8") {
        let pooled = avg_pool2d(
            image,
            AvgPoolOptions {
                kernel_size: [8, 8],
                stride: [8, 8],
                padding: [(0, 0); 2],
                count_include_pad: true,
                ceil_mode: false,
            },
        );
        out.push(Comparison::tensor(pooled, &folder.floats("final_image_pool8")?, IMAGE)?);
    }
    Ok(())
}

/// Top and left of the stored crop, from "rows T:B cols L:R" in its manifest entry.
fn crop_origin(folder: &GoldenFolder) -> Result<[usize; 2], VerifyError> {
    let meaning = folder.meaning("final_image_crop");
    let start = |word: &str| -> Option<usize> {
        let range = meaning.split_whitespace().skip_while(|w| *w != word).nth(1)?;
        range.split(':').next()?.parse().ok()
    };
    match (start("rows"), start("cols")) {
        (Some(top), Some(left)) => Ok([top, left]),
        _ => Err(folder.malformed("final_image_crop: its meaning lacks \"rows T:B cols L:R\"")),
    }
}
