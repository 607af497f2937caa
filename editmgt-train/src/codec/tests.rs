//! Runs of codecs small enough for a test.

use std::path::Path;

use burn::tensor::Device;
use editmgt_core::Flow;
use editmgt_vq::{CodecConfig, PatchVqConfig, VqConfig};
use image::{GrayImage, Luma, Rgb, RgbImage};

use super::*;
use crate::run::{
    AdamWOptions, Decay, Draws, LearnerOptions, LoopOptions, LrSchedule, Products, RunFolder,
    TrainError, TrainEvent,
};
use editmgt_world::EditPair;

fn patch_codec() -> CodecConfig {
    CodecConfig::Patch(PatchVqConfig {
        encoder_channels: vec![16],
        code_channels: 4,
        num_codes: 12,
        decoder_channels: vec![8, 8],
        blocks_per_level: 1,
    })
}

fn official_codec() -> CodecConfig {
    CodecConfig::Official(VqConfig {
        layers_per_block: 1,
        norm_num_groups: 2,
        latent_channels: 4,
        vq_embed_dim: Some(4),
        num_vq_embeddings: 12,
        force_upcast: false,
        ..VqConfig::official().with_block_out_channels([4, 4, 4])
    })
}

fn config(codec: CodecConfig) -> CodecTrainingConfig {
    CodecTrainingConfig {
        weights: editmgt::Dtype::F16,
        products: Products::F32,
        seed: 3,
        evaluation_pairs: 3,
        run: LoopOptions {
            steps: 8,
            log_every: 1,
            evaluate_every: 4,
            checkpoint_every: 100,
            keep: 1,
        },
        crops: CropOptions { batch: 3, size: 8, aligned: false, images: 6, marked_weight: 3.0 },
        loss: LossOptions { l1: 1.0, l2: 2.0, edges: 0.5, commitment: 0.1 },
        codebook: CodebookOptions {
            start_at: 3,
            freeze_encoder: false,
            kmeans_vectors: 40,
            kmeans_iterations: 3,
            decay: 0.9,
            revive_every: 2,
            revive_below: 0.05,
        },
        learner: LearnerOptions {
            accumulate: 2,
            clip_norm: Some(1.0),
            ema: None,
            learning_rate: LrSchedule { peak: 0.01, warm_up: 0, decay: Decay::Cosine, floor: 0.0 },
            adamw: AdamWOptions {
                beta_1: 0.9,
                beta_2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.0,
                no_decay: Vec::new(),
            },
        },
        codec,
    }
}

/// Squares on plain grounds; the square changes its colour.
fn pair(index: u64) -> Result<EditPair, TrainError> {
    let mut draws = Draws::new(9).stream("squares", index);
    let mut colour = || Rgb([60 * draws.below(5) as u8; 3]);
    let [ground, old, new] = [colour(), colour(), colour()];
    let (left, top) = (draws.below(9) as u32, draws.below(9) as u32);
    let paint = |colour| {
        RgbImage::from_fn(16, 16, |x, y| {
            let inside = (left..left + 7).contains(&x) && (top..top + 7).contains(&y);
            if inside { colour } else { ground }
        })
    };
    let (before, after) = (paint(old), paint(new));
    let changed = GrayImage::from_fn(16, 16, |x, y| {
        Luma([if before.get_pixel(x, y) == after.get_pixel(x, y) { 0 } else { 255 }])
    });
    let instruction = "recolour the square".into();
    let changed = Some(changed);
    Ok(EditPair { before, instruction, after, changed, category: None, phrase: None })
}

/// A run that is stopped after `stop` steps: its losses and its report.
fn train(
    dir: &Path,
    config: &CodecTrainingConfig,
    resume: bool,
    stop: u64,
) -> Result<(Vec<f64>, CodecReport), TrainError> {
    let folder = RunFolder::open(dir, config, resume)?;
    let held_out = |index| pair(index + 1000);
    let data = CodecData { train: &pair, held_out: &held_out };
    let mut losses = Vec::new();
    let (_, report) = train_codec(config, data, &folder, &Device::flex(), &mut |event| {
        let TrainEvent::Step { completed, metrics, .. } = event else { return Flow::Continue };
        losses.push(metrics.get("loss").unwrap());
        if *completed == stop { Flow::Stop } else { Flow::Continue }
    })?;
    Ok((losses, report))
}

#[test]
fn resumed_run_equals_unbroken_run() {
    for codec in [patch_codec(), official_codec()] {
        let dir = tempfile::tempdir().unwrap();
        let [whole, broken] = ["whole", "broken"].map(|name| dir.path().join(name));
        let config = config(codec);
        let (expected, expected_report) = train(&whole, &config, false, 0).unwrap();
        // Stopped before the codebook starts, right before its start, and after.
        let (mut losses, _) = train(&broken, &config, false, 1).unwrap();
        for stop in [3, 6] {
            losses.extend(train(&broken, &config, true, stop).unwrap().0);
        }
        let (last, report) = train(&broken, &config, true, 0).unwrap();
        losses.extend(last);
        assert_eq!(losses, expected);
        assert_eq!(report, expected_report);
        let log = |dir: &Path| std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
        assert_eq!(log(&broken), log(&whole));
    }
}

#[test]
fn training_improves_and_the_result_loads_as_a_codec() {
    let dir = tempfile::tempdir().unwrap();
    let mut long = config(patch_codec());
    long.run.steps = 120;
    long.run.evaluate_every = 1000;
    long.codebook.start_at = 40;
    long.crops.images = 500;
    long.crops.batch = 8;
    let (losses, report) = train(dir.path(), &long, false, 0).unwrap();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[110..]) < 0.5 * mean(&losses[..10]), "{losses:?}");
    // Plain grey for every image has about 10 dB here.
    assert!(report.psnr > 13.0 && report.live_codes > 4, "{report:?}");
    assert_eq!((report.determinism, report.changed_outside), (1.0, 0.0));

    let text = std::fs::read_to_string(dir.path().join("codec/config.json")).unwrap();
    let CodecConfig::Patch(codec) = CodecConfig::from_json(&text).unwrap() else {
        panic!("another codec: {text}")
    };
    let device = Device::flex();
    let files = editmgt_checkpoint::WeightFiles::open(dir.path().join("codec")).unwrap();
    let module = codec.init(&device).unwrap();
    let f32 = burn::tensor::DType::F32;
    let codec = editmgt_checkpoint::load_module(module, &files, &codec.keys(), f32).unwrap();
    let held_out = |index| pair(index + 1000);
    assert_eq!(measure(&codec, &held_out, 3, &device).unwrap(), report);
}

#[test]
fn a_config_is_read_strictly_and_written_back() {
    let expected = config(patch_codec());
    let text = toml::to_string(&expected).unwrap();
    let read = |text: &str| -> Result<CodecTrainingConfig, String> {
        let config: CodecTrainingConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.validate().map_err(|e| e.to_string())?;
        Ok(config)
    };
    assert_eq!(read(&text).unwrap(), expected);
    for (from, to, named) in [
        ("seed = 3", "seed = 3\nspeed = 4", "speed"),
        ("seed = 3", "", "seed"),
        ("steps = 8", "steps = 0", "steps"),
        ("size = 8", "size = 10", "a multiple of 4, got 10"),
        ("batch = 3", "batch = 0", "crops.batch"),
        ("batch = 3", "batch = -3", "-3"),
        ("kmeans_vectors = 40", "kmeans_vectors = 11", "at least one for each of 12 codes"),
        ("decay = 0.9", "decay = 1.5", "codebook.decay"),
        ("l1 = 1.0", "l1 = nan", "loss.l1"),
        ("num_codes = 12", "num_codes = 0", "num_codes"),
        ("PatchVqModel", "AutoencoderKL", "VQModel or PatchVqModel"),
        ("blocks_per_level = 1", "blocks = 1", "blocks"),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        let message = read(&text.replace(from, to)).unwrap_err();
        assert!(message.contains(named), "{to}: {message}");
    }
}

#[test]
fn bad_data_stops_the_run_and_names_the_example() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(patch_codec());
    type Source = fn(u64) -> Result<EditPair, TrainError>;
    let sources: [(&str, Source); 3] = [
        ("a crop needs 8x8", |i| {
            let image = RgbImage::new(4, 16);
            pair(i).map(|pair| EditPair { before: image.clone(), after: image, ..pair })
        }),
        ("mask", |i| pair(i).map(|p| EditPair { changed: Some(GrayImage::new(3, 3)), ..p })),
        ("corrupt", |index| Err(TrainError::Data { index, message: "corrupt".into() })),
    ];
    for (named, source) in sources {
        let root = dir.path().join(named);
        let folder = RunFolder::open(&root, &config, false).unwrap();
        let data = CodecData { train: &source, held_out: &pair };
        let result = train_codec(&config, data, &folder, &Device::flex(), &mut |_| Flow::Continue);
        let message = result.unwrap_err().to_string();
        assert!(message.contains(named) && message.contains("example"), "{message}");
    }
}
