//! A run of a model simple enough to predict.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{Flow, KeyMap};
use serde::Serialize;

use super::*;

#[derive(Debug, Clone, Serialize)]
struct TinyConfig {
    seed: u64,
    run: LoopOptions,
    learner: LearnerOptions,
}

fn config() -> TinyConfig {
    TinyConfig {
        seed: 5,
        run: LoopOptions {
            steps: 7,
            log_every: 1,
            evaluate_every: 4,
            checkpoint_every: 3,
            keep: 2,
        },
        learner: LearnerOptions {
            accumulate: 2,
            clip_norm: Some(0.5),
            ema: Some(0.9),
            learning_rate: LrSchedule { peak: 0.05, warm_up: 2, decay: Decay::Cosine, floor: 0.0 },
            adamw: AdamWOptions {
                beta_1: 0.9,
                beta_2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.1,
                no_decay: vec!["bias$".into()],
            },
        },
    }
}

#[derive(Module, Debug)]
struct Tiny {
    first: Linear,
    second: Linear,
}

/// Learns the sum of its inputs.
struct Sums {
    learner: Learner<Tiny>,
    config: TinyConfig,
    /// The step whose loss is NaN.
    fails_at: Option<u64>,
    losses: Vec<f32>,
}

impl Sums {
    fn new(config: &TinyConfig) -> Self {
        let device = Device::flex().autodiff();
        let tiny = Tiny {
            first: LinearConfig::new(4, 8).init(&device),
            second: LinearConfig::new(8, 1).init(&device),
        };
        let tiny = initialise(tiny, &Draws::new(config.seed));
        let learner = Learner::new(tiny, config.learner.clone()).unwrap();
        Self { learner, config: config.clone(), fails_at: None, losses: Vec::new() }
    }
}

impl Trainee for Sums {
    fn step(&mut self, step: u64) -> Result<Metrics, TrainError> {
        let mut draws = Draws::new(self.config.seed).stream("inputs", step);
        let poison = if self.fails_at == Some(step) { f32::NAN } else { 1.0 };
        let update = self.learner.update(step, self.config.run.steps, |model, _| {
            let values: Vec<f32> = (0..32).map(|_| draws.normal()).collect();
            let device = model.first.weight.device();
            let x = Tensor::<2>::from_data(TensorData::new(values, [8, 4]), &device);
            let y = model.second.forward(model.first.forward(x.clone()).tanh());
            Ok((y - x.sum_dim(1)).square().mean() * poison)
        })?;
        self.losses.push(update.loss);
        Ok(Metrics::default()
            .with("loss", update.loss)
            .with("gradient_norm", update.gradient_norm)
            .with("learning_rate", update.learning_rate))
    }

    fn evaluate(&self, _step: u64) -> Result<Metrics, TrainError> {
        let bias = self.learner.trained().second.bias.unwrap().val().into_scalar::<f32>();
        Ok(Metrics::default().with("bias", bias))
    }

    fn save(&self, to: &CheckpointWriter) -> Result<(), TrainError> {
        self.learner.save(to, &KeyMap::default())
    }

    fn load(&mut self, from: &Checkpoint) -> Result<(), TrainError> {
        self.learner.load(from, &KeyMap::default())
    }
}

/// A run that is stopped after `stop` steps; its losses.
fn train(dir: &Path, config: &TinyConfig, resume: bool, stop: u64) -> Result<Vec<f32>, TrainError> {
    let folder = RunFolder::open(dir, config, resume)?;
    let mut sums = Sums::new(config);
    run(&mut sums, &folder, &config.run, &mut |event| match event {
        TrainEvent::Step { completed, .. } if *completed == stop => Flow::Stop,
        _ => Flow::Continue,
    })?;
    Ok(sums.losses)
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap()
}

#[test]
fn resumed_run_equals_unbroken_run() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| dir.path().join(name));
    let expected = train(&whole, &config(), false, 0).unwrap();
    assert_eq!(expected.len(), 7);
    let mut losses = train(&broken, &config(), false, 1).unwrap();
    for stop in [5, 0] {
        losses.extend(train(&broken, &config(), true, stop).unwrap());
    }
    assert_eq!(losses, expected);
    // Norms, learning rates and the evaluation of the averaged weights, too.
    assert_eq!(log(&broken), log(&whole));
    assert!(train(&whole, &config(), true, 0).unwrap().is_empty(), "nothing is left to do");
}

#[test]
fn steps_after_the_last_checkpoint_are_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| dir.path().join(name));
    train(&whole, &config(), false, 0).unwrap();
    train(&killed, &config(), false, 6).unwrap();
    // As if the run had been killed just before it saved step 6.
    let newest = killed.join("checkpoints/step-000000000006");
    std::fs::rename(newest, killed.join("checkpoints/.partial")).unwrap();
    assert_eq!(train(&killed, &config(), true, 0).unwrap().len(), 4);
    assert_eq!(log(&killed), log(&whole));
    assert!(!killed.join("checkpoints/.partial").exists());
}

#[test]
fn nan_loss_keeps_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(dir.path(), &config(), false).unwrap();
    let mut sums = Sums { fails_at: Some(4), ..Sums::new(&config()) };
    let error = run(&mut sums, &folder, &config().run, &mut |_| Flow::Continue).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("step 4: the loss is NaN"), "{message}");
    let latest = folder.latest().unwrap().unwrap();
    assert_eq!(latest.step(), 3);
    assert!(message.ends_with(&latest.dir().display().to_string()), "{message}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(dir.path(), &config(), false).unwrap();
    let good = folder.save(1, 2, |to| to.file("a", b"1")).unwrap();
    let full = |to: &CheckpointWriter| {
        to.file("a", b"2")?;
        Err(TrainError::io(&to.path("b"))(std::io::ErrorKind::StorageFull.into()))
    };
    assert!(matches!(folder.save(2, 2, full), Err(TrainError::Io { .. })));
    assert_eq!(folder.latest().unwrap().unwrap().dir(), good);
    assert_eq!(std::fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 1);
    for step in 2..6 {
        folder.save(step, 2, |to| to.file("a", b"3")).unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path().join("checkpoints")).unwrap().count(), 2);
}

#[test]
fn folders_that_are_not_for_this_run_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("run");
    let open = |config: &TinyConfig, resume| RunFolder::open(&root, config, resume);
    assert!(matches!(open(&config(), true), Err(TrainError::NoRun { .. })));
    let first = open(&config(), false).unwrap();
    for resume in [false, true] {
        assert!(matches!(open(&config(), resume), Err(TrainError::InUse { .. })));
    }
    drop(first);
    let error = open(&config(), false).unwrap_err();
    assert!(matches!(error, TrainError::NotEmpty { .. }), "{error}");
    let mut other = config();
    other.learner.adamw.beta_1 = 0.5;
    other.seed = 6;
    let message = open(&other, true).unwrap_err().to_string();
    assert!(message.contains("(learner.adamw.beta_1, seed)"), "{message}");
    open(&config(), true).unwrap();
}

#[test]
fn a_checkpoint_of_another_version_or_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), &config(), false, 3).unwrap();
    let state = dir.path().join("checkpoints/step-000000000003/state.json");
    for (text, named) in [
        (r#"{"format": 9, "step": 3}"#, "expected format 1, got 9"),
        (r#"{"format": 1}"#, "step"),
        ("", "EOF"),
    ] {
        std::fs::write(&state, text).unwrap();
        let message = train(dir.path(), &config(), true, 0).unwrap_err().to_string();
        assert!(message.contains(named), "{message}");
    }
    std::fs::write(&state, r#"{"format": 1, "step": 3}"#).unwrap();
    let weights = dir.path().join("checkpoints/step-000000000003/weights");
    std::fs::remove_dir_all(weights).unwrap();
    assert!(train(dir.path(), &config(), true, 0).is_err());
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let learn = |accumulate: usize| {
        let mut config = config();
        config.learner.accumulate = accumulate;
        let mut sums = Sums::new(&config);
        let rows = 8 / accumulate;
        let update = sums.learner.update(0, 1, |model, batch| {
            let values: Vec<f32> = (0..32).map(|i| (i as f32 * 0.7).sin()).collect();
            let device = model.first.weight.device();
            let x = Tensor::<2>::from_data(TensorData::new(values, [8, 4]), &device);
            let x = x.slice([batch * rows..(batch + 1) * rows, 0..4]);
            Ok(model.second.forward(model.first.forward(x)).square().mean())
        });
        update.unwrap()
    };
    let (one, four) = (learn(1), learn(4));
    // The same sums in another order: a few roundings of 24 bits.
    assert!((one.loss - four.loss).abs() < 1e-6 * one.loss, "{one:?} {four:?}");
    assert!((one.gradient_norm - four.gradient_norm).abs() < 1e-6 * one.gradient_norm);
}

/// The update of a step on fixed inputs, and the weights that it leaves.
fn one_step(mut learner: Learner<Tiny>, batches: usize) -> (Update, [Vec<f32>; 2]) {
    let rows = 8 / batches;
    let update = learner.update_at_once(3, 7, |model, batch| {
        let values: Vec<f32> = (0..32).map(|i| (i as f32 * 0.7).sin()).collect();
        let device = model.first.weight.device();
        let x = Tensor::<2>::from_data(TensorData::new(values, [8, 4]), &device);
        let x = x.slice([batch * rows..(batch + 1) * rows, 0..4]);
        let x = x.cast(model.first.weight.dtype());
        let y = model.second.forward(model.first.forward(x));
        Ok(y.cast(burn::tensor::DType::F32).square().mean())
    });
    let model = learner.model();
    let values = |tensor: Tensor<2>| tensor.try_into_vec_as::<f32>().unwrap();
    let weights = [values(model.first.weight.val()), values(model.second.weight.val())];
    (update.unwrap(), weights)
}

fn learner(accumulate: usize) -> Learner<Tiny> {
    let mut config = config();
    config.learner.accumulate = accumulate;
    Sums::new(&config).learner
}

#[test]
fn step_on_two_devices_equals_step_on_one() {
    let other = || vec![Device::flex()];
    let (one, one_weights) = one_step(learner(1), 1);
    let (two, two_weights) = one_step(learner(2), 2);
    let (spread, spread_weights) = one_step(learner(2).with_devices(other()).unwrap(), 2);
    // The same sums in the same order.
    assert_eq!((spread, &spread_weights), (two, &two_weights));
    // And those of the whole batch in another one.
    assert!((one.gradient_norm - spread.gradient_norm).abs() < 1e-6 * one.gradient_norm);
    for (one, spread) in one_weights.iter().flatten().zip(spread_weights.iter().flatten()) {
        assert!((one - spread).abs() < 1e-6, "{one} {spread}");
    }
    let Err(error) = learner(3).with_devices(other()) else { panic!("3 batches on 2 devices") };
    assert!(error.to_string().contains("accumulate: expected a multiple of the 2"), "{error}");
}

#[test]
fn batches_at_the_same_time_equal_batches_in_turn() {
    let (turn, turn_weights) = one_step(learner(4), 4);
    for workers in [2, 4] {
        let (at_once, weights) = one_step(learner(4).with_workers(workers).unwrap(), 4);
        // The same sums in another order.
        assert!((at_once.loss / turn.loss - 1.0).abs() < 1e-6, "{workers}: {at_once:?} {turn:?}");
        assert!((at_once.gradient_norm / turn.gradient_norm - 1.0).abs() < 1e-6);
        for (at_once, turn) in weights.iter().flatten().zip(turn_weights.iter().flatten()) {
            assert!((at_once - turn).abs() < 1e-6, "{at_once} {turn}");
        }
    }
    for (learner, workers, named) in [
        (learner(3), 2, "accumulate: expected a multiple of the 2 workers"),
        (learner(2), 0, "workers"),
        (learner(4).with_devices(vec![Device::flex()]).unwrap(), 2, "workers"),
    ] {
        let Err(error) = learner.with_workers(workers) else { panic!("{named}") };
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_failed_batch_of_a_worker_fails_the_step() {
    let mut learner = learner(2).with_workers(2).unwrap();
    let before = learner.model().first.weight.val().try_into_vec_as::<f32>().unwrap();
    let failed = learner.update_at_once(0, 7, |model, batch| match batch {
        1 => Err(TrainError::option("batch", "the first", batch)),
        _ => Ok(model.second.weight.val().sum()),
    });
    assert!(failed.unwrap_err().to_string().contains("batch: expected the first"));
    assert_eq!(learner.model().first.weight.val().try_into_vec_as::<f32>().unwrap(), before);
}

#[test]
fn half_precision_keeps_f32_weights_and_the_direction() {
    let (exact, before) = one_step(learner(1), 1);
    // Roundings of 2^-8 and 2^-11, a handful of them in a row.
    for (precision, tolerance) in [(Precision::Bf16, 0.03), (Precision::F16, 0.004)] {
        let (update, weights) = one_step(learner(1).with_precision(precision).unwrap(), 1);
        assert!((update.loss / exact.loss - 1.0).abs() < tolerance, "{precision:?} {update:?}");
        let ratio = update.gradient_norm / exact.gradient_norm;
        assert!((ratio - 1.0).abs() < tolerance, "{precision:?} {update:?} {exact:?}");
        // AdamW's first step is the learning rate in the direction of the gradient.
        let rate = update.learning_rate as f32;
        for (a, b) in weights.iter().flatten().zip(before.iter().flatten()) {
            assert!((a - b).abs() < 0.1 * rate, "{precision:?}: {a} {b}");
        }
        assert!(weights.iter().flatten().any(|w| *w != half(*w)), "weights in f32");
    }
}

/// The bf16 below.
fn half(value: f32) -> f32 {
    f32::from_bits(value.to_bits() & 0xffff_0000)
}

#[test]
fn an_overflow_in_f16_skips_the_step_and_is_remembered() {
    let mut learner = learner(1).with_precision(Precision::F16).unwrap();
    let before = learner.model().first.weight.val().try_into_vec_as::<f32>().unwrap();
    let mut step = |factor: f64| {
        let update = learner.update(0, 7, |model, _| {
            let x = Tensor::<2>::ones([8, 4], &model.first.weight.device())
                .cast(burn::tensor::DType::F16);
            Ok(model.second.forward(model.first.forward(x)).sum() * factor)
        });
        (
            update.unwrap().skipped,
            learner.model().first.weight.val().try_into_vec_as::<f32>().unwrap(),
        )
    };
    // A gradient of 1 at the output is scaled to 65536, which overflows f16.
    let (skipped, after) = step(1.0);
    assert!(skipped);
    assert_eq!(after, before);
    let (skipped, after) = step(0.001);
    assert!(!skipped);
    assert_ne!(after, before);

    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(dir.path(), &config(), false).unwrap();
    folder.save(1, 1, |to| learner.save(to, &KeyMap::default())).unwrap();
    let checkpoint = folder.latest().unwrap().unwrap();
    let text = std::fs::read_to_string(checkpoint.path("loss_scale.json")).unwrap();
    assert_eq!(text, r#"{"scale":32768.0,"steps":1}"#);
    learner.load(&checkpoint, &KeyMap::default()).unwrap();
}

#[test]
fn frozen_parameters_stay_and_the_others_move() {
    let mut config = config();
    config.learner.adamw.weight_decay = 0.5;
    let tiny = Sums::new(&config).learner.model().clone();
    let before = tiny.clone();
    let frozen = freeze(tiny.clone(), &["^first".into(), "bias$".into()]).unwrap();
    let mut learner = Learner::new(frozen, config.learner.clone()).unwrap();
    for step in 0..3 {
        let update = learner.update(step, 7, |model, batch| {
            let x = Tensor::<2>::ones([2, 4], &model.first.weight.device()) * (batch + 1) as f64;
            let y = model.second.forward(model.first.forward(x).tanh());
            let loss = y.square().mean();
            let gradients = loss.backward();
            assert!(model.first.weight.val().grad(&gradients).is_none());
            assert!(model.second.weight.val().grad(&gradients).is_some());
            let x = Tensor::<2>::ones([2, 4], &model.first.weight.device()) * (batch + 1) as f64;
            Ok(model.second.forward(model.first.forward(x).tanh()).square().mean())
        });
        update.unwrap();
    }
    let flat = |model: &Tiny| {
        let first = model.first.weight.val().try_into_vec_as::<f32>().unwrap();
        let bias = model.second.bias.as_ref().unwrap().val().try_into_vec_as::<f32>().unwrap();
        [first, bias].concat()
    };
    let second = |model: &Tiny| model.second.weight.val().try_into_vec_as::<f32>().unwrap();
    // The average of a constant weight is the weight, bit for bit.
    for model in [learner.model(), &learner.trained()] {
        assert_eq!(flat(model), flat(&before));
        assert!(second(model).iter().zip(second(&before)).all(|(after, before)| *after != before));
    }
    // The optimizer keeps a mean and a mean square of the one that moves.
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::open(dir.path(), &config, false).unwrap();
    folder.save(3, 1, |to| learner.save(to, &KeyMap::default())).unwrap();
    let bytes = std::fs::read(folder.latest().unwrap().unwrap().path("optimizer.bpk")).unwrap();
    let names = String::from_utf8_lossy(&bytes);
    assert!(names.contains("second.weight") && !names.contains("first.weight"));

    for (patterns, named) in [(vec!["third"], "third"), (vec!["("], "("), (vec!["."], "everything")]
    {
        let patterns: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
        let message = freeze(before.clone(), &patterns).unwrap_err().to_string();
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn checkpointing_of_gradients_gives_the_same_step() {
    let config = config();
    let device = Device::flex().autodiff().gradient_checkpointing();
    let tiny = Tiny {
        first: LinearConfig::new(4, 8).init(&device),
        second: LinearConfig::new(8, 1).init(&device),
    };
    let tiny = initialise(tiny, &Draws::new(config.seed));
    let mut options = config.learner;
    options.accumulate = 2;
    let checkpointed = Learner::new(tiny, options).unwrap();
    let checkpointed = checkpointed.with_devices(vec![Device::flex()]).unwrap();
    assert_eq!(one_step(checkpointed, 2), one_step(learner(2), 2));
}

#[test]
fn decay_spares_what_the_patterns_name() {
    // The loss has no gradient (its factor is 0), so only decay changes a weight.
    let mut config = config();
    config.learner.adamw.no_decay = vec!["bias$".into(), "^second".into()];
    let mut sums = Sums::new(&config);
    let before = sums.learner.model().clone();
    let update = sums.learner.update(1, 7, |model, _| {
        let x = Tensor::<2>::ones([1, 4], &model.first.weight.device());
        Ok(model.second.forward(model.first.forward(x)).sum() * 0.0)
    });
    let shrink = 1.0 - update.unwrap().learning_rate as f32 * 0.1;
    let after = sums.learner.model();
    let values = |tensor: Tensor<2>| tensor.try_into_vec_as::<f32>().unwrap();
    for (before, after) in
        values(before.first.weight.val()).iter().zip(values(after.first.weight.val()))
    {
        assert!((before * shrink - after).abs() < 1e-7, "{before} {after}");
    }
    assert_eq!(values(before.second.weight.val()), values(after.second.weight.val()));
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    type Change = fn(&mut LearnerOptions);
    let cases: [(&str, Change); 8] = [
        ("accumulate", |o| o.accumulate = 0),
        ("clip_norm", |o| o.clip_norm = Some(0.0)),
        ("ema", |o| o.ema = Some(1.0)),
        ("peak", |o| o.learning_rate.peak = f64::NAN),
        ("floor", |o| o.learning_rate.floor = 1.0),
        ("beta_1", |o| o.adamw.beta_1 = 1.0),
        ("weight_decay", |o| o.adamw.weight_decay = -1.0),
        ("no_decay", |o| o.adamw.no_decay = vec!["(".into()]),
    ];
    for (named, change) in cases {
        let mut options = config().learner;
        change(&mut options);
        let tiny = Sums::new(&config()).learner.trained();
        let Err(error) = Learner::new(tiny, options) else { panic!("{named} was accepted") };
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}
