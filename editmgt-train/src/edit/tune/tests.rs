use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use editmgt::{
    AttentionRequest, Dtype, DtypePolicy, LoadOptions, LoraUse, Model, ReferenceInput, StepInput,
    TextConditioning, TokenGrid,
};
use editmgt_checkpoint::{WeightsName, WriteOptions, save_module};
use editmgt_transformer::LoraStreams;
use editmgt_vq::{CodecConfig, PatchVqConfig};

use super::*;
use crate::edit::EditFile;
use crate::edit::tests::{LOOP, Rule, everything, learner, model_on, words};
use crate::run::{Precision, Trainee, initialise};

/// A trainer of a new adapter on the rule's edits.
fn adapter_trainer(lora: &LoraOptions, compute: &ComputeOptions, steps: u64) -> EditTrainer {
    let options = everything();
    let device = compute.training(&Device::flex());
    let model = model_on(&device, &options.loss, true);
    let transformer = lora.attach(model.transformer().clone(), &keys(), &Draws::new(3)).unwrap();
    let parts = EditParts { transformer, text: model.text().cloned() };
    let model = EditModel::new(parts, &options.loss, 16, &device).with_drawn_heads(&Draws::new(3));
    let mut learner = learner();
    learner.learning_rate.peak = 2e-2;
    let plan = TrainingPlan::new(learner, steps, 3);
    let plan = TrainingPlan { freeze: vec![r"^text\.".into()], ..compute.plan(plan).unwrap() };
    let data =
        EditData { train: Box::new(Rule), validation: Box::new(Rule), curriculum: Vec::new() };
    EditTrainer::new(model, TextSide::Trained(words()), data, options, plan).unwrap()
}

fn keys() -> KeyMap {
    MgtConfig::official().keys()
}

/// All parameters by path.
fn parameters<M: Module>(module: &M) -> Vec<(String, Vec<f32>)> {
    struct Read(Vec<String>, Vec<(String, Vec<f32>)>);
    impl ModuleVisitor for Read {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push((self.0.join("."), param.val().try_into_vec_as::<f32>().unwrap()));
        }
    }
    let mut read = Read(Vec::new(), Vec::new());
    module.visit(&mut read);
    read.1
}

#[test]
fn only_the_adapter_is_trained() {
    for streams in [LoraStreams::Both, LoraStreams::Image, LoraStreams::Reference] {
        let lora = LoraOptions { rank: 4, alpha: 8.0, streams, ..LoraOptions::default() };
        let mut trainer = adapter_trainer(&lora, &ComputeOptions::default(), 30);
        let (start, before) = (parameters(&trainer.trained()), trainer.evaluate(0).unwrap());
        for step in 0..30 {
            trainer.step(step).unwrap();
        }
        let (end, after) = (parameters(&trainer.trained()), trainer.evaluate(0).unwrap());
        let nll = |metrics: &crate::run::Metrics| metrics.get("nll@1").unwrap();
        assert!(nll(&after) < nll(&before) - 0.01, "{streams:?}: {before:?} {after:?}");
        for ((path, start), (_, end)) in start.iter().zip(&end) {
            let is_head =
                ["changed_head", "reference_head"].iter().any(|head| path.starts_with(head));
            let learns = path.contains(".lora.") || is_head;
            // The last block does not use the reference stream's own rows.
            let idle = path.contains("single_transformer_blocks.1.attn.to_q");
            if !learns || !idle {
                assert_eq!(start != end, learns, "{streams:?}: {path}");
            }
        }
    }
}

/// The losses of an adapter's run that is stopped after `stop` steps.
fn losses(compute: &ComputeOptions, dir: &Path, resume: bool, stop: u64) -> Vec<f64> {
    let folder = RunFolder::open(dir, &everything(), resume).unwrap();
    let mut trainer = adapter_trainer(&LoraOptions::default(), compute, LOOP.steps);
    let mut losses = Vec::new();
    run(&mut trainer, &folder, &LOOP, &mut |event| match event {
        TrainEvent::Step { completed, metrics, .. } => {
            losses.push(metrics.get("loss").unwrap());
            if *completed == stop { Flow::Stop } else { Flow::Continue }
        }
        _ => Flow::Continue,
    })
    .unwrap();
    losses
}

#[test]
fn resumed_adapter_run_equals_unbroken_run_on_every_plan() {
    let plain = ComputeOptions::default();
    let mut all = Vec::new();
    for compute in [
        plain.clone(),
        ComputeOptions { gradient_checkpointing: true, ..plain.clone() },
        ComputeOptions { devices: vec!["flex".into()], ..plain.clone() },
        ComputeOptions { precision: Precision::F16, ..plain.clone() },
        ComputeOptions { precision: Precision::Bf16, ..plain.clone() },
    ] {
        let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let expected = losses(&compute, whole.path(), false, LOOP.steps);
        let mut got = losses(&compute, broken.path(), false, 3);
        got.extend(losses(&compute, broken.path(), true, LOOP.steps));
        assert_eq!(got, expected, "{compute:?}");
        all.push(expected);
    }
    // Recomputation and a second device change no bit; half precision is close.
    assert_eq!(all[1], all[0]);
    assert_eq!(all[2], all[0]);
    for half in &all[3..] {
        assert!(half.iter().zip(&all[0]).all(|(a, b)| (a / b - 1.0).abs() < 0.05), "{half:?}");
    }
}

/// A folder with a codec for the world's images.
fn codec_folder(dir: &Path) {
    let config = PatchVqConfig {
        encoder_channels: vec![8],
        code_channels: 4,
        num_codes: 16,
        decoder_channels: vec![4, 4],
        blocks_per_level: 1,
    };
    let module = initialise(config.init(&Device::flex()).unwrap(), &Draws::new(1));
    let options = WriteOptions::new(WeightsName::Diffusion, burn::tensor::DType::F32);
    save_module(dir, &module, &config.keys(), &options).unwrap();
    let config = serde_json::to_string(&CodecConfig::Patch(config)).unwrap();
    std::fs::write(dir.join("config.json"), config).unwrap();
}

const COMMON: &str = r#"
    [world]
    canvas = 80
    [training]
    batch = 2
    evaluated = 2
    timestep = "mask_ratio"
    [learner]
    accumulate = 2
    learning_rate = { peak = 1e-2, warm_up = 0, decay = "constant", floor = 0.0 }
    [learner.adamw]
    beta_1 = 0.9
    beta_2 = 0.999
    epsilon = 1e-8
    weight_decay = 0.01
    no_decay = []
    [run]
    steps = 2
    log_every = 1
    evaluate_every = 2
    checkpoint_every = 2
    keep = 1
"#;

fn train(text: &str, root: &Path) -> Result<PathBuf, TrainError> {
    let file = EditFile::from_toml(text)?;
    let trained = file.train(root, false, &Device::flex(), &mut |_| Flow::Continue)?;
    Ok(trained.expect("nothing stopped it"))
}

/// A stage that starts from `from`, with additional keys `more`.
fn stage(from: &Path, more: &str) -> String {
    format!("seed = 2\nexamples = 20\ninit_from = {:?}\n{more}\n{COMMON}", from)
}

fn logits(model: &Model, reference: bool) -> Tensor<3> {
    let size = editmgt::GridSize::new(4, 4);
    let grid = |step| TokenGrid::new(1, size, (0..16u32).map(|i| i * step % 16).collect()).unwrap();
    let (tokens, photo) = (grid(3), grid(5));
    let text: TextConditioning = model.text.encode(&["add a red circle"]).unwrap();
    let micro = [editmgt::MicroConditions::uncropped(32, 32)];
    let input = StepInput {
        tokens: &tokens,
        reference: reference.then_some(ReferenceInput { tokens: &photo, strength: 1.0 }),
        text: &text,
        micro: &micro,
        timestep: &[0.5],
    };
    model.transformer.forward(&input, &AttentionRequest::none()).unwrap().logits
}

fn difference(a: &Tensor<3>, b: &Tensor<3>) -> f32 {
    (a.clone() - b.clone()).abs().max().into_scalar::<f32>()
}

/// A new model, a second stage, an adapter, and edits with the adapter.
#[test]
fn stages_continue_from_earlier_results() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    codec_folder(&at("codec"));
    let first = format!(
        "seed = 1\nexamples = 20\ncodec = {:?}\n[model]\ndouble_blocks = 1\nsingle_blocks = 2\n\
         heads = 2\naxes = [2, 2, 4]\nmerge_tokens = true\ntext_rows = 16\ntext_layers = 1\n{COMMON}",
        at("codec")
    );
    train(&first, &at("stage1")).unwrap();

    // A run folder can be used in place of its model folder.
    let blocks = r"freeze = ['^transformer\.(single_)?transformer_blocks', '^text']";
    let second = train(&stage(&at("stage1"), blocks), &at("stage2")).unwrap();
    let weights = |root: &Path| {
        let folder = ModelFolder::open(root).unwrap();
        let (_, transformer) = folder.load_transformer(&f32_on(&Device::flex())).unwrap();
        parameters(&transformer)
    };
    for ((path, before), (_, after)) in weights(&at("stage1/model")).iter().zip(weights(&second)) {
        assert_eq!(*before != after, !path.contains("transformer_blocks"), "{path}");
    }

    let lora = "[lora]\nrank = 2\nalpha = 4.0\nstreams = \"reference\"\ntargets = ['to_[qk]$', 'proj_out']";
    let lora = stage(&second, "").replace("[world]", &format!("{lora}\n[world]"));
    let adapter = train(&lora, &at("adapter")).unwrap();
    assert_eq!(adapter, at("adapter/adapter"));

    let folder = ModelFolder::open(&second).unwrap();
    let dtype = DtypePolicy::uniform(Dtype::F32);
    let options = LoadOptions::new(Device::flex(), dtype);
    let with = |loras: &[LoraUse]| Model::load_with_loras(&folder, &options, loras).unwrap();
    let (plain, adapted) = (with(&[]), with(&[LoraUse::new(&adapter)]));
    assert!(difference(&logits(&plain, true), &logits(&adapted, true)) > 1e-4);
    assert_eq!(difference(&logits(&plain, false), &logits(&adapted, false)), 0.0);
    let off = with(&[LoraUse::new(&adapter).with_scale(0.0)]);
    assert_eq!(difference(&logits(&plain, true), &logits(&off, true)), 0.0);

    // The same on pairs of images.
    let world = World::new(editmgt_world::shapes::WorldConfig { canvas: 80, ..Default::default() })
        .unwrap();
    let mut lines = String::new();
    for index in 0..8 {
        let pair = world.pair(Split::Train, index).pair;
        let [before, after] = ["before", "after"].map(|side| format!("{side}-{index}.png"));
        pair.before.save(at(&before)).unwrap();
        pair.after.save(at(&after)).unwrap();
        let instruction = pair.instruction;
        let line =
            serde_json::json!({ "before": before, "after": after, "instruction": instruction });
        lines += &format!("{line}\n");
    }
    std::fs::write(at("pairs.jsonl"), lines).unwrap();
    let data = format!(
        "[data]\nsource = \"jsonl\"\npath = {:?}\nvalidation = {{ share = 0.4 }}\ncache = {:?}\n\
         pictures = {{ height = 80, width = 80 }}\n",
        at("pairs.jsonl"),
        at("cache")
    );
    let of_pairs = lora.replace("examples = 20", "").replace("[world]\n    canvas = 80\n", &data);
    let on_pairs = train(&of_pairs, &at("pairs")).unwrap();
    assert!(LoraFile::open(&on_pairs).is_ok() && at("pairs/data.json").is_file());

    // Invalid configs are refused by name.
    let refused = |text: &str| train(text, &at("refused")).unwrap_err().to_string();
    let base = stage(&second, "");
    let of_lora = |keys: &str| base.replace("[world]", &format!("[lora]\n{keys}\n[world]"));
    for (text, named) in [
        (stage(&second, "freeze = ['nowhere']"), "nowhere"),
        (of_lora("targets = ['nowhere']"), "nowhere"),
        (of_lora("streams = \"reference\"\ntargets = ['add_q_proj$']"), "add_q_proj"),
        (of_lora("rank = 0"), "rank"),
        (of_lora("dropout = 1.0"), "dropout"),
        (of_lora("colour = 1"), "colour"),
        (of_lora("").replace("timestep = \"mask_ratio\"", ""), "timestep"),
        (base.replace("examples = 20", ""), "examples"),
        (stage(&at("nowhere"), ""), "nowhere"),
        (stage(&at("codec"), ""), "not a model folder"),
        (base.replace("[world]", "[compute]\ndevices = [\"gpu:9\"]\n[world]"), "devices"),
        (
            base.replace("[world]", "[compute]\ndevices = [\"flex\", \"flex\"]\n[world]"),
            "accumulate",
        ),
    ] {
        let error = refused(&text);
        assert!(error.contains(named), "{named}: {error}");
        // A run that fails to start may have created its folder.
        let _ = std::fs::remove_dir_all(at("refused"));
    }
}
