//! A run over a data set, from a config to a model.

use std::path::Path;

use burn::tensor::{DType, Device};
use editmgt_checkpoint::{WeightsName, WriteOptions, save_module};
use editmgt_core::Flow;
use editmgt_vq::{CodecConfig, PatchVqConfig};

use super::EditRun;
use crate::data::{DataError, DataReport};
use crate::run::{Draws, TrainError, TrainEvent, initialise};
use editmgt_world::{Split, World, WorldConfig, shapes};

/// A codec of a few thousand parameters, four pixels to a token.
fn write_codec(dir: &Path) {
    let config = PatchVqConfig {
        encoder_channels: vec![8],
        code_channels: 4,
        num_codes: 16,
        decoder_channels: vec![4, 4],
        blocks_per_level: 1,
    };
    let module = initialise(config.init(&Device::flex()).unwrap(), &Draws::new(1));
    let options = WriteOptions::new(WeightsName::Diffusion, DType::F32);
    save_module(dir, &module, &config.keys(), &options).unwrap();
    let config = serde_json::to_string(&CodecConfig::Patch(config)).unwrap();
    std::fs::write(dir.join("config.json"), config).unwrap();
}

/// Pairs drawn by the world, written as an ordinary data set.
fn write_pairs(dir: &Path, pairs: u64) {
    let world = World::new(shapes::WorldConfig { canvas: 80, ..Default::default() }).unwrap();
    for column in ["before", "after", "mask", "instruction"] {
        std::fs::create_dir_all(dir.join(column)).unwrap();
    }
    for index in 0..pairs {
        let pair = world.pair(Split::Train, index).pair;
        let path = |column: &str, end: &str| dir.join(format!("{column}/{index:03}.{end}"));
        pair.before.save(path("before", "png")).unwrap();
        pair.after.save(path("after", "png")).unwrap();
        pair.changed.unwrap().save(path("mask", "png")).unwrap();
        // Few words, so that the validation part has no unknown ones.
        let instruction = ["make it so", "do it", "so do it"][index as usize % 3];
        std::fs::write(path("instruction", "txt"), instruction).unwrap();
    }
}

fn config(root: &Path, more: &str) -> String {
    let path = |name: &str| root.join(name).display().to_string();
    format!(
        r#"
        seed = 1
        codec = '{}'
        {more}
        [model]
        double_blocks = 1
        single_blocks = 1
        heads = 2
        axes = [2, 2, 4]
        merge_tokens = true
        text_rows = 16
        text_layers = 1
        [training]
        batch = 2
        evaluated = 2
        [learner]
        accumulate = 1
        learning_rate = {{ peak = 1e-3, warm_up = 1, decay = "constant", floor = 0.0 }}
        adamw = {{ beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-8, weight_decay = 0.0, no_decay = [] }}
        [run]
        steps = 3
        log_every = 1
        evaluate_every = 3
        checkpoint_every = 3
        keep = 1
        [data]
        source = "folder"
        path = '{}'
        cache = '{}'
        validation = {{ share = 0.3 }}
        pictures = {{ height = 32, width = 48, crop = "random", crops = 2 }}
        "#,
        path("codec"),
        path("pairs"),
        path("cache")
    )
}

#[test]
fn a_run_over_a_folder_makes_a_model_and_encodes_once() {
    let dir = tempfile::tempdir().unwrap();
    write_codec(&dir.path().join("codec"));
    write_pairs(&dir.path().join("pairs"), 12);
    std::fs::write(dir.path().join("pairs/after/005.png"), "no picture").unwrap();
    let run = EditRun::from_toml(&config(dir.path(), "")).unwrap();
    assert_eq!(EditRun::from_toml(&toml::to_string(&run).unwrap()).unwrap(), run);

    let train = |name: &str, resume: bool, steps: u64| {
        let mut reports: Vec<DataReport> = Vec::new();
        let mut losses = Vec::new();
        let out = dir.path().join(name);
        let model = run.train(&out, resume, &Device::flex(), &mut |event| match event {
            TrainEvent::Data { report } => {
                reports.push((*report).clone());
                Flow::Continue
            }
            TrainEvent::Step { completed, metrics, .. } => {
                losses.push(metrics.get("loss").unwrap());
                if *completed == steps { Flow::Stop } else { Flow::Continue }
            }
            _ => Flow::Continue,
        });
        model.map(|model| (model, reports.remove(0), losses))
    };
    let (model, first, expected) = train("one", false, 9).unwrap();
    assert!(model.unwrap().join("tokenizer/vocab.json").is_file());
    assert!(dir.path().join("one/data.json").is_file());
    assert_eq!((first.rows, first.skipped.total()), (12, 1), "{first}");
    assert!(first.encoded > 0 && first.cached == 0, "{first}");
    assert!(expected.len() == 3 && expected.iter().all(|loss| loss.is_finite()));

    let (none, second, mut losses) = train("two", false, 1).unwrap();
    assert!(none.is_none());
    assert_eq!((second.encoded, second.cached), (0, first.encoded));
    assert_eq!(second.fingerprint, first.fingerprint);
    losses.extend(train("two", true, 9).unwrap().2);
    assert_eq!(losses, expected);

    // A run is not resumed with other data.
    std::fs::remove_file(dir.path().join("pairs/after/006.png")).unwrap();
    let error = train("one", true, 9).unwrap_err();
    assert!(matches!(error, TrainError::Dataset(DataError::Changed { .. })), "{error}");
}

#[test]
fn rejects_keys_without_effect() {
    let root = Path::new("nowhere");
    for (more, named) in [
        ("examples = 5", "examples: expected none beside other data"),
        ("world = {}", "world: expected none beside other data"),
        ("speed = 5", "unknown field `speed`"),
    ] {
        let error = EditRun::from_toml(&config(root, more)).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let text = config(root, "");
    let of_world = text.split("[data]").next().unwrap();
    let error = EditRun::from_toml(of_world).unwrap_err().to_string();
    assert!(error.contains("examples: expected 1 or more, got none"), "{error}");
    let world = EditRun::from_toml(&of_world.replace("[model]", "examples = 5\n[model]")).unwrap();
    assert_eq!(world.world, Some(WorldConfig::default()));
    let text = text.replace("source = \"folder\"", "source = \"folder\"\nflop = 0.5");
    let error = EditRun::from_toml(&text).unwrap_err().to_string();
    assert!(error.contains("unknown field `flop`"), "{error}");
}
