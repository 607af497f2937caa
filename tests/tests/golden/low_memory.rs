//! On-demand models give the edits of fully loaded ones.

use std::fs;
use std::path::{Path, PathBuf};

use editmgt::lora::{LoraConfig, LoraFactors, LoraFile, LoraStreams};
use editmgt::{
    ChaChaNoise, Dtype, EditError, EditEvent, EditLoop, EditObserver, Editor, Flow, GridSize,
    HoldPolicy, KeywordPolicy, LoopInput, LoopStages, LoraUse, Mask, MicroConditions, Model,
    ModelError, ModelFolder, Previews, Silent, Stage, StepPlan, StoppedEdit, TokenGrid,
    preview_photo,
    sampler::{Consolidator, HoldOff, Strict, Temperature},
};
use editmgt_diagnostics::init::{InitRequest, Preset, init};
use image::{GrayImage, Luma};
use tempfile::TempDir;

use crate::defaults::{golden, masked, options, photo, request, write_with_down_blocks};

fn both(root: &Path, loras: &[LoraUse]) -> [Model; 2] {
    let folder = ModelFolder::open(root).unwrap();
    [
        Model::load_with_loras(&folder, &options(), loras).unwrap(),
        Model::on_demand(&folder, &options(), loras).unwrap(),
    ]
}

fn clip_alone() -> PathBuf {
    golden("pipeline_edit_clip_nodown")
}

/// Models with every kind of text encoder, and a suitable image side for each.
fn folders(scratch: &Path) -> [(PathBuf, usize); 3] {
    let down = scratch.join("down");
    fs::create_dir(&down).unwrap();
    write_with_down_blocks(&down);
    let inside = PathBuf::from("../editmgt/embedded");
    [(clip_alone(), 48), (down, 64), (inside, 64)]
}

#[test]
fn low_memory_edits_are_equal_bit_for_bit() {
    let scratch = tempfile::tempdir().unwrap();
    for (root, size) in folders(scratch.path()) {
        let [loaded, on_demand] = both(&root, &[]).map(|model| Editor::new(model).unwrap());
        assert_eq!(on_demand.model().source, loaded.model().source);
        assert_eq!(on_demand.model().text.spec(), loaded.model().text.spec());
        let plain = request(size).instruction("make the red car blue");
        let (photo, half) = (photo(50, 40), |x, _| Luma([if x < 24 { 0 } else { 255 }]));
        let mask = Mask::from_luma(GrayImage::from_fn(50, 40, half));
        for (what, mask, request) in [
            ("plain", None, plain.clone()),
            ("a mask", Some(&mask), plain.clone()),
            ("no guidance", None, plain.clone().guidance_scale(1.0)),
            ("guidance", None, plain.clone().guidance_scale(4.0)),
            ("cut off", None, plain.clone().reference_strength(0.0)),
            ("cached steps", None, plain.clone().steps(5).steps_plan(StepPlan::cached(3))),
            ("a variation", None, plain.clone().seed(5).variation(2)),
            (
                "a keyword",
                None,
                plain
                    .clone()
                    .hold(HoldPolicy::Threshold(0.5))
                    .keyword(KeywordPolicy::Phrases(vec!["car".to_owned()])),
            ),
        ] {
            let [loaded, on_demand] = [&loaded, &on_demand]
                .map(|editor| editor.edit(&photo, masked(&request, mask)).unwrap());
            let root = root.display();
            assert_eq!(on_demand.tokens, loaded.tokens, "{what}, {root}");
            assert_eq!(on_demand.image, loaded.image, "{what}, {root}");
            assert_eq!(on_demand.scores, loaded.scores, "{what}, {root}");
            assert_eq!(on_demand.held, loaded.held, "{what}, {root}");
            assert_eq!(on_demand.report.settings, loaded.report.settings, "{what}, {root}");
        }
    }
}

/// A manual sampling loop over two images at once.
fn text_to_image(model: &Model) -> Vec<u32> {
    let text = model.text.encode(&["a red car", "a blue fish"]).unwrap();
    let spec = model.transformer.spec();
    let size = GridSize::new(4, 4);
    let scheduler = Strict::new(model.scheduler.masking_schedule, Temperature::Range(2.0, 0.0));
    let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(3));
    let stages = LoopStages::new(&*model.transformer, &scheduler, &consolidator, &HoldOff, &noise);
    let canvas = TokenGrid::filled(2, size, spec.mask_token);
    let input = LoopInput::new(text, canvas, MicroConditions::uncropped(64, 64), 2);
    let mut edit = EditLoop::new(stages, input).unwrap();
    edit.run(&mut Silent, drop).unwrap();
    let image = model.codec.decode(edit.tokens()).unwrap().into_data();
    let pixels = image.try_to_vec::<f32>().unwrap().into_iter().map(f32::to_bits);
    edit.tokens().ids().iter().copied().chain(pixels).collect()
}

#[test]
fn text_to_image_is_equal() {
    let scratch = tempfile::tempdir().unwrap();
    for (root, _) in folders(scratch.path()) {
        let [loaded, on_demand] = both(&root, &[]).map(|model| text_to_image(&model));
        assert!(on_demand == loaded, "{}", root.display());
    }
}

/// An adapter of one layer, `[inputs, outputs]`.
pub(crate) fn write_adapter(
    dir: &Path,
    layer: &str,
    [inputs, outputs]: [usize; 2],
    streams: LoraStreams,
) -> LoraUse {
    let values = |count, step: f32| (0..2 * count).map(|i| (i as f32 * step).sin()).collect();
    let factors = LoraFactors { rank: 2, a: values(inputs, 0.7), b: values(outputs, 1.1) };
    let layers = [(layer.to_owned(), factors)];
    let config = LoraConfig::new(2, 4.0);
    LoraFile::new(config, streams, layers.into()).save(dir).unwrap();
    LoraUse::new(dir)
}

#[test]
fn adapters_are_applied_and_checked_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(golden("transformer_nodown_none").join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let inner = number("num_attention_heads") * number("attention_head_dim");
    let adapter = |name: &str, inner: usize| {
        let layer = "single_transformer_blocks.0.attn.to_q";
        write_adapter(&scratch.path().join(name), layer, [inner; 2], LoraStreams::Both)
    };
    let good = adapter("good", inner);
    let edited = both(&clip_alone(), &[good]).map(|model| {
        let editor = Editor::new(model).unwrap();
        editor.edit(&photo(48, 48), request(48)).unwrap().tokens
    });
    assert_eq!(edited[0], edited[1]);

    let folder = ModelFolder::open(&clip_alone()).unwrap();
    let wide = adapter("wide", inner + 1);
    let error = Model::on_demand(&folder, &options(), &[wide]).err().unwrap();
    assert!(matches!(error, ModelError::Lora(_)), "{error}");
}

#[test]
fn previews_are_equal_and_stopped_edits_resume() {
    let editors = both(&clip_alone(), &[]).map(|model| Editor::new(model).unwrap());
    let request = request(48).steps(3);
    let seen = editors.each_ref().map(|editor| {
        let mut seen = Vec::new();
        let mut observer = Previews::every(1, |event: &EditEvent<'_>| {
            if let EditEvent::Preview { image, .. } = event {
                seen.push(preview_photo(image).unwrap().rgb().clone());
            }
            Flow::Continue
        });
        let edit = editor.edit_observed(&photo(48, 48), &request, &mut observer).unwrap();
        seen.push(edit.image.rgb().clone());
        seen
    });
    assert_eq!(seen[0].len(), 4);
    assert!(seen[0] == seen[1]);

    let [loaded, on_demand] = editors;
    let unbroken = loaded.edit(&photo(48, 48), &request).unwrap();
    let open = on_demand.open_photo(photo(48, 48));
    let mut stop = |event: &EditEvent<'_>| match event {
        EditEvent::Step { completed: 2, .. } => Flow::Stop,
        _ => Flow::Continue,
    };
    let error = open.edit_observed(&request, &mut stop).unwrap_err();
    let EditError::Stopped(StoppedEdit { progress: Some(progress), .. }) = error else {
        panic!("{error}")
    };
    let resumed = open.resume(&request, *progress, &mut Silent).unwrap();
    assert_eq!((resumed.tokens, resumed.image), (unbroken.tokens, unbroken.image));
}

fn tiny(scratch: &TempDir, name: &str, seed: u64) -> PathBuf {
    let root = scratch.path().join(name);
    init(&root, &InitRequest { preset: Preset::Tiny, dtype: Dtype::F32, seed }).unwrap();
    root
}

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

#[test]
fn weights_changed_after_opening_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, other) = (tiny(&scratch, "model", 1), tiny(&scratch, "other", 2));
    let transformer = root.join("editmgt");
    let weights = transformer.join(WEIGHTS);
    let good = fs::read(&weights).unwrap();
    let edit = |spoil: &dyn Fn()| {
        let mut spoil_before_sampling = |event: &EditEvent<'_>| {
            if matches!(event, EditEvent::StageStarted(Stage::Sample)) {
                spoil();
            }
            Flow::Continue
        };
        let editor = Editor::builder(&root).low_memory(true).build().unwrap();
        let edit = |observer: &mut dyn EditObserver| {
            editor.edit_observed(&photo(64, 64), &request(64), observer)
        };
        let outcome = edit(&mut spoil_before_sampling);
        fs::write(&weights, &good).unwrap();
        // The restored file is valid again.
        let again = edit(&mut Silent);
        (outcome.map(|result| result.tokens), again.map(|result| result.tokens))
    };
    let (untouched, again) = edit(&|| ());
    let untouched = untouched.unwrap();
    assert_eq!(untouched, again.unwrap());

    for (what, spoil, expected) in [
        (
            "other values",
            &(|| {
                fs::copy(other.join("editmgt").join(WEIGHTS), &weights).unwrap();
            }) as &dyn Fn(),
            "have changed since the model was opened",
        ),
        ("no file", &|| fs::remove_file(&weights).unwrap(), "expected model.safetensors"),
        ("a short file", &|| fs::write(&weights, &good[..good.len() / 2]).unwrap(), "truncated"),
        ("another header", &|| fs::write(&weights, b"no weights").unwrap(), WEIGHTS),
    ] {
        let (outcome, again) = edit(spoil);
        let error = outcome.unwrap_err();
        assert!(matches!(error, EditError::Model(_)), "{what}: {error:?}");
        assert!(error.to_string().contains(expected), "{what}: {error}");
        assert_eq!(again.unwrap(), untouched, "{what}");
    }
}

#[test]
fn mismatched_keys_are_refused_before_weights_are_read() {
    let scratch = tempfile::tempdir().unwrap();
    let root = tiny(&scratch, "model", 1);
    // The codec's weights are another component's.
    fs::copy(root.join("editmgt").join(WEIGHTS), root.join("vqvae").join(WEIGHTS)).unwrap();
    let error = Editor::builder(&root).low_memory(true).build().err().unwrap();
    assert!(matches!(error, EditError::Model(ModelError::Weights(_))), "{error}");
}
