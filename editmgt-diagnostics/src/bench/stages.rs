//! Builds each component, runs its stages, and drops it.

use std::time::Instant;

use burn::tensor::DType;
use editmgt::{EditError, HoldPolicy, InferencePrecision, default_blocks};
use editmgt_core::{
    AttentionRequest, ChaChaNoise, GridSize, ItemRows, MicroConditions, TextRows, TokenGrid,
    VqCodec,
};
use editmgt_sampler::{
    Consolidator, EditLoop, Localisation, LoopInput, LoopStages, SchedulerConfig, Strict,
    Temperature,
};
use editmgt_text::{CLIP_LENGTH, ClipTextConfig, GEMMA_LENGTH, Gemma2Config, TokenIds};
use editmgt_transformer::{MgtConfig, TextArchitecture};
use editmgt_vq::VqConfig;

use super::inputs::{self, GUIDED, Pass, Recorded, for_inference, made};
use super::timing::{Described, Done};
use super::{BenchRequest, BenchStage, config_error, flops, load};
use crate::init::Configs;

pub(super) fn run(
    request: &BenchRequest,
    configs: &Configs,
    done: Done<'_>,
) -> Result<(), EditError> {
    codec(request, &configs.text("vqvae"), done)?;
    clip(request, &configs.text("text_encoder"), done)?;
    gemma2(request, &configs.text("llm_encoder"), done)?;
    let config = MgtConfig::from_json(&configs.text("editmgt")).map_err(config_error("editmgt"))?;
    transformer(request, &config, done)?;
    if request.stages.contains(&BenchStage::Step) {
        step(request, &config, &configs.text("scheduler"), done)?;
    }
    if request.stages.contains(&BenchStage::Load) {
        load::load(request, &config, done)?;
    }
    Ok(())
}

/// The requested ones of these stages.
fn requested<const N: usize>(request: &BenchRequest, stages: [BenchStage; N]) -> Vec<BenchStage> {
    stages.into_iter().filter(|stage| request.stages.contains(stage)).collect()
}

fn codec(request: &BenchRequest, config: &str, done: Done<'_>) -> Result<(), EditError> {
    let stages = requested(request, [BenchStage::VqEncode, BenchStage::VqDecode]);
    if stages.is_empty() {
        return Ok(());
    }
    let (size, device) = (request.size, &request.device);
    let started = Instant::now();
    let config = VqConfig::from_json(config).map_err(config_error("vqvae"))?;
    let model = config.init(device).map_err(config_error("vqvae"))?;
    let model = made(model, DType::from(request.dtype.vq));
    let setup_seconds = started.elapsed().as_secs_f64();

    let side = size / config.spec().downsample_factor;
    let grid = GridSize::new(side, side);
    for stage in stages {
        let encodes = stage == BenchStage::VqEncode;
        let count = if encodes { flops::vq_encode } else { flops::vq_decode };
        let input =
            if encodes { format!("{size}x{size} pixels") } else { format!("{grid} tokens") };
        let stage = Described { stage, input, flops: Some(count(&config, size)), setup_seconds };
        done(if encodes {
            let picture = inputs::picture(size, device);
            stage.measure(request, || model.encode(picture.clone()))?
        } else {
            let tokens = inputs::codes(1, grid, config.num_vq_embeddings)?;
            // As in an editor of this precision.
            let (device, dtype) = (&request.device, request.dtype);
            let transformer = DType::from(dtype.transformer);
            let operands = InferencePrecision::new(device, transformer, dtype.compute).operands;
            stage.measure(request, || operands.install(|| model.decode(&tokens)))?
        });
    }
    Ok(())
}

/// One prompt that fills the sequence: ascending ids, the last one the end token.
fn prompt(length: usize, end: usize) -> Result<TokenIds, EditError> {
    let mut ids: Vec<u32> = (1..=length as u32).collect();
    ids[length - 1] = end as u32;
    Ok(TokenIds::new(length, ids)?)
}

fn clip(request: &BenchRequest, config: &str, done: Done<'_>) -> Result<(), EditError> {
    let stage = BenchStage::Clip;
    if !request.stages.contains(&stage) {
        return Ok(());
    }
    let started = Instant::now();
    let config = ClipTextConfig::from_json(config).map_err(config_error("text_encoder"))?;
    let model = config.init(&request.device).map_err(config_error("text_encoder"))?;
    let model = for_inference(model, &request.device, (request.dtype.text, request.dtype.compute));
    let setup_seconds = started.elapsed().as_secs_f64();

    let ids = prompt(CLIP_LENGTH, config.vocab_size - 1)?;
    let input = format!("{CLIP_LENGTH} tokens");
    let flops = Some(flops::clip(&config, CLIP_LENGTH));
    let stage = Described { stage, input, flops, setup_seconds };
    done(stage.measure(request, || model.forward(&ids))?);
    Ok(())
}

fn gemma2(request: &BenchRequest, config: &str, done: Done<'_>) -> Result<(), EditError> {
    let stage = BenchStage::Gemma2;
    if !request.stages.contains(&stage) {
        return Ok(());
    }
    let started = Instant::now();
    let config = Gemma2Config::from_json(config).map_err(config_error("llm_encoder"))?;
    let model = config.init(&request.device).map_err(config_error("llm_encoder"))?;
    let model = for_inference(model, &request.device, (request.dtype.text, request.dtype.compute));
    let setup_seconds = started.elapsed().as_secs_f64();

    let ids = prompt(GEMMA_LENGTH, config.vocab_size - 1)?;
    let input = format!("{GEMMA_LENGTH} tokens");
    let flops = Some(flops::gemma2(&config, GEMMA_LENGTH));
    let stage = Described { stage, input, flops, setup_seconds };
    done(stage.measure(request, || model.forward(&ids))?);
    Ok(())
}

fn transformer(
    request: &BenchRequest,
    config: &MgtConfig,
    done: Done<'_>,
) -> Result<(), EditError> {
    let stages = requested(request, [BenchStage::Transformer, BenchStage::Capture]);
    if stages.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    let model = config.init(&request.device).map_err(config_error("editmgt"))?;
    let model =
        for_inference(model, &request.device, (request.dtype.transformer, request.dtype.compute));
    let setup_seconds = started.elapsed().as_secs_f64();

    let (spec, grid, text) = (config.spec(), grid(request), text_rows(config));
    let cells = grid.div_ceil(spec.grid_factor);
    let rows = flops::Rows { text, tokens: grid.len(), cells: cells.len() };
    let pass = Pass::new(&spec, grid, text, &request.device)?;
    for stage in stages {
        let mut input = format!("{GUIDED} x {text} + {} + {} rows", cells.len(), cells.len());
        let mut flops = flops::transformer(config, GUIDED, rows);
        let mut capture = AttentionRequest::none();
        if stage == BenchStage::Capture {
            capture.blocks = default_blocks(&spec);
            capture.items = vec![ItemRows { item: GUIDED - 1, rows: TextRows::All }];
            flops += flops::capture(config, capture.blocks.len(), rows);
            input = format!("{input}, {} blocks captured", capture.blocks.len());
        }
        let stage = Described { stage, input, flops: Some(flops), setup_seconds };
        done(stage.measure(request, || pass.run(&model, &capture))?);
    }
    Ok(())
}

/// The codec's tokens of the image: 16 pixels each in every preset.
fn grid(request: &BenchRequest) -> GridSize {
    let side = request.size / 16;
    GridSize::new(side, side)
}

pub(super) fn text_rows(config: &MgtConfig) -> usize {
    match config.text_encoder_architecture {
        TextArchitecture::ClipGemma2 => GEMMA_LENGTH,
        _ => CLIP_LENGTH,
    }
}

/// The first step, with a fully masked canvas: the one with the most draws.
fn step(
    request: &BenchRequest,
    config: &MgtConfig,
    scheduler: &str,
    done: Done<'_>,
) -> Result<(), EditError> {
    let started = Instant::now();
    let (spec, grid, device) = (config.spec(), grid(request), &request.device);
    let blocks = default_blocks(&spec);
    let transformer = Recorded::new(spec.clone(), grid, blocks.clone(), device)?;
    let setup_seconds = started.elapsed().as_secs_f64();

    let scheduler = SchedulerConfig::from_json(scheduler).map_err(config_error("scheduler"))?;
    let scheduler = Strict::new(scheduler.masking_schedule, Temperature::Range(2.0, 0.0));
    let hold = HoldPolicy::Auto.stage(1)?;
    let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(0));
    let stages = LoopStages::new(&transformer, &scheduler, &consolidator, &*hold, &noise);
    // Feature values are irrelevant: no encoder or block reads them here.
    let features = inputs::text(1, 1, &spec, device);
    let canvas = TokenGrid::filled(1, grid, spec.mask_token);
    let micro = MicroConditions::uncropped(request.size, request.size);
    let loop_input = LoopInput::new(features.clone(), canvas, micro, 36)
        .with_guidance(6.0, Some(features))
        .with_reference(inputs::codes(1, grid, spec.codebook_size)?, 1.1)
        .with_localisation(Localisation::new(blocks));
    let input = format!("{grid} tokens, {} codes, hold auto", spec.codebook_size);
    let stage = Described { stage: BenchStage::Step, input, flops: None, setup_seconds };
    done(stage.measure(request, || EditLoop::new(stages, loop_input.clone())?.step())?);
    Ok(())
}
