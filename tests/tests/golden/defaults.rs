//! Corrections of official bugs that are on by default. One test per line of docs/parity.md.

use std::path::Path;
use std::sync::Mutex;

use burn::tensor::{Device, Tensor, TensorData};
use editmgt::{
    AttentionRequest, ChaChaNoise, DtypePolicy, EditError, EditEvent, EditLoop, EditRequest,
    Editor, Error, Flow, GridSize, HoldPolicy, Holding, KeywordPolicy, LoadOptions, Localisation,
    LoopInput, LoopStages, Mask, MgtTransformer, MicroConditions, Model, ModelFolder, Photo,
    Silent, StepInput, StepOutput, StoppedEdit, TextRows, TokenGrid, TransformerSpec,
    sampler::{Consolidator, HoldThreshold, Strict, Temperature},
};
use image::{GrayImage, Luma, Rgb, RgbImage};

pub(crate) fn golden(name: &str) -> std::path::PathBuf {
    editmgt_tests::golden(name).unwrap_or_else(|| panic!("no golden folder {name}"))
}

fn load(root: &Path) -> Model {
    Model::load(&ModelFolder::open(root).unwrap(), &options()).unwrap()
}

pub(crate) fn options() -> LoadOptions {
    let device = Device::flex();
    LoadOptions::new(device.clone(), DtypePolicy::choose(&device, None).unwrap())
}

/// CLIP only, no down/up blocks: 4 pixels per token.
pub(crate) fn small() -> Model {
    load(&golden("pipeline_edit_clip_nodown"))
}

/// CLIP and Gemma2, down/up blocks: 16 pixels per token, 32 per cell.
fn with_down_blocks() -> Model {
    let root = tempfile::tempdir().unwrap();
    write_with_down_blocks(root.path());
    load(root.path())
}

pub(crate) fn write_with_down_blocks(root: &Path) {
    let tokenizers = golden("tokenizers");
    let components = serde_json::json!({
        "transformer": golden("transformer_down_linear"),
        "vqvae": golden("vq5"),
        "text_encoder": golden("clip"),
        "tokenizer": tokenizers.join("clip_tokenizer"),
        "llm_encoder": golden("gemma2"),
        "llm_tokenizer": tokenizers.join("gemma_tokenizer"),
        "scheduler": golden("scheduler"),
    });
    let file = serde_json::json!({ "components": components });
    std::fs::write(root.join("pipeline.json"), file.to_string()).unwrap();
}

/// An image with detail everywhere.
pub(crate) fn photo(width: u32, height: u32) -> Photo {
    let pixel = |x: u32, y: u32| [(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x + y) % 256) as u8];
    Photo::from_rgb(RgbImage::from_fn(width, height, |x, y| Rgb(pixel(x, y)))).unwrap()
}

/// The request with an optional mask.
pub(crate) fn masked(request: &EditRequest, mask: Option<&Mask>) -> EditRequest {
    match mask {
        Some(mask) => request.clone().mask(mask.clone()),
        None => request.clone(),
    }
}

/// An edit by any golden model: the config of the one without a connector is a base's.
pub(crate) fn request(size: usize) -> EditRequest {
    EditRequest::new("replace the owl with a red fox").steps(2).size(size).anyway(true)
}

#[test]
fn any_shape_is_edited_and_comes_back_in_its_size() {
    for (model, sizes) in [(small(), [40, 64]), (with_down_blocks(), [96, 512])] {
        let editor = Editor::new(model).unwrap();
        for size in sizes {
            for (width, height) in [(64, 64), (90, 41), (37, 80)] {
                let photo = photo(width, height);
                let request = request(size).hold(HoldPolicy::Threshold(0.5));
                let result = editor.edit(&photo, &request).unwrap();
                assert_eq!(result.image.size(), photo.size());
                assert_eq!(result.tokens.count(editor.model().transformer.spec().mask_token), 0);
            }
        }
    }
}

#[test]
fn equal_seeds_give_equal_edits_whatever_the_earlier_strength() {
    let editor = Editor::new(small()).unwrap();
    let photo = photo(48, 48);
    let tokens = |seed, reference_strength| {
        let reference_strength = Some(reference_strength);
        let request = request(48).seed(seed).reference_strength(reference_strength);
        editor.edit(&photo, &request).unwrap().tokens
    };
    let first = tokens(1, 1.0);
    let strong = tokens(1, 3.0);
    assert_eq!(tokens(1, 1.0), first, "a strong edit in between changes nothing");
    assert_ne!(strong, first);
    assert_ne!(tokens(2, 1.0), first);
}

#[test]
fn held_pixels_are_the_photos_own_bytes() {
    let editor = Editor::new(small()).unwrap();
    let photo = photo(64, 48);
    for holding in [Holding::Strict, Holding::Parity] {
        let request = request(56).hold(HoldPolicy::Threshold(0.6)).holding(holding);
        let result = editor.edit(&photo, &request).unwrap();
        let grid = result.held.size();
        assert!(result.held.share() > 0.0 && result.held.share() < 1.0, "nothing to see");
        let mut exact = 0;
        for (x, y, pixel) in result.image.rgb().enumerate_pixels() {
            let row = y as usize * grid.height / 48;
            let column = x as usize * grid.width / 64;
            if result.held.held()[row * grid.width + column] {
                assert_eq!(pixel, photo.rgb().get_pixel(x, y), "{x}, {y}");
                exact += 1;
            }
        }
        assert!(exact > 0);
    }
}

/// A transformer whose logits prefer code 1, and which records its inputs.
struct Recorder {
    spec: TransformerSpec,
    references: Mutex<Vec<TokenGrid>>,
    strengths: Mutex<Vec<f32>>,
}

impl MgtTransformer for Recorder {
    fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    fn forward(&self, input: &StepInput<'_>, _: &AttentionRequest) -> Result<StepOutput, Error> {
        input.check(&self.spec)?;
        let reference = input.reference.expect("an edit has a reference");
        self.references.lock().unwrap().push(reference.tokens.clone());
        self.strengths.lock().unwrap().push(reference.strength);
        let shape = [input.tokens.batch(), input.tokens.size().len(), self.spec.codebook_size];
        let values = (0..shape.iter().product()).map(|i| f32::from(i % shape[2] == 1) * 9.0);
        let values: Vec<f32> = values.collect();
        let logits = Tensor::from_data(TensorData::new(values, shape), &Device::flex());
        Ok(StepOutput { logits, maps: None })
    }
}

#[test]
fn inpainting_keeps_the_reference_clean_and_the_rest_as_it_was() {
    let mut model = small();
    let spec = model.transformer.spec().clone();
    let mask_token = spec.mask_token;
    let recorder = std::sync::Arc::new(Recorder {
        spec,
        references: Mutex::default(),
        strengths: Mutex::default(),
    });
    model.transformer = Box::new(Shared(recorder.clone()));
    let editor = Editor::new(model).unwrap();
    let photo = photo(64, 64);
    // The right half may change.
    let mask = Mask::from_luma(GrayImage::from_fn(64, 64, |x, _| Luma([u8::MAX * (x / 32) as u8])));
    let result = editor.edit(&photo, request(64).mask(mask)).unwrap();
    let (tokens, reference) = (result.tokens.ids(), result.reference.ids());
    let width = result.tokens.size().width;
    for (i, (&token, &original)) in tokens.iter().zip(reference).enumerate() {
        if i % width < width / 2 {
            assert_eq!(token, original, "position {i} was not to change")
        } else {
            assert_ne!(token, mask_token)
        }
    }
    assert_ne!(tokens, reference);
    for seen in recorder.references.lock().unwrap().iter() {
        assert_eq!(seen.count(mask_token), 0, "the model saw mask tokens in the reference");
        assert_eq!(seen.image(0), reference);
    }
    assert!(recorder.strengths.lock().unwrap().iter().all(|&strength| strength == 1.1));
}

/// A transformer to which the test keeps a handle.
struct Shared(std::sync::Arc<Recorder>);

impl MgtTransformer for Shared {
    fn spec(&self) -> &TransformerSpec {
        self.0.spec()
    }

    fn forward(&self, input: &StepInput<'_>, ask: &AttentionRequest) -> Result<StepOutput, Error> {
        self.0.forward(input, ask)
    }
}

/// Runs a loop over `batch` copies of one image, with a localised hold, on an odd grid.
fn run(model: &Model, batch: usize, first_image: usize, guidance_scale: f32) -> TokenGrid {
    let text = |prompt: &str| model.text.encode(&[prompt]).unwrap().repeat(batch);
    let size = GridSize::new(5, 9);
    let ids = (0..size.len() as u32).map(|i| i % 60).collect::<Vec<_>>();
    let reference = TokenGrid::new(1, size, ids).unwrap().repeat(batch);
    let spec = model.transformer.spec();
    let instruction = text("replace the owl with a red fox");
    let canvas = TokenGrid::filled(batch, size, spec.mask_token);
    let localisation = Localisation::new((0..spec.blocks()).collect())
        .with_rows(vec![TextRows::Rows(vec![3, 4]); batch]);
    let input = LoopInput::new(instruction, canvas, MicroConditions::uncropped(20, 36), 3)
        .with_guidance(guidance_scale, Some(text("blurry")))
        .with_reference(reference, 1.1)
        .with_localisation(localisation)
        .with_first_image(first_image);
    let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(5));
    let hold = HoldThreshold::new(0.4).unwrap();
    let scheduler = Strict::new(model.scheduler.masking_schedule, Temperature::Range(2.0, 0.0));
    let stages = LoopStages::new(&*model.transformer, &scheduler, &consolidator, &hold, &noise);
    let mut edit = EditLoop::new(stages, input).unwrap();
    let mut held = 0;
    edit.run(&mut Silent, |step| {
        let hold = step.hold.expect("a threshold policy holds");
        assert_eq!(hold.batch(), batch);
        held += hold.held().iter().filter(|&&held| held).count();
    })
    .unwrap();
    assert!(held > 0, "nothing was localised");
    edit.tokens().clone()
}

#[test]
fn localisation_works_for_any_batch_and_grid_with_and_without_guidance() {
    let model = small();
    for guidance_scale in [1.0, 3.0] {
        let both = run(&model, 2, 0, guidance_scale);
        for image in 0..2 {
            let alone = run(&model, 1, image, guidance_scale);
            assert_eq!(both.image(image), alone.image(0), "image {image} of a batch");
        }
        assert_ne!(both.image(0), both.image(1), "images of a batch have noise of their own");
    }
}

#[test]
fn missing_keyword_is_an_error() {
    let editor = Editor::new(small()).unwrap();
    let keyword = Some(KeywordPolicy::phrase("zebra"));
    let hold = Some(HoldPolicy::Threshold(0.3));
    let request = request(48).keyword(keyword).hold(hold);
    let error = editor.edit(&photo(48, 48), &request).unwrap_err();
    assert!(matches!(error, EditError::Stage(Error::PhraseNotFound { .. })), "{error}");
}

#[test]
fn an_observer_can_stop_at_any_event() {
    let editor = Editor::new(small()).unwrap();
    let photo = photo(48, 48);
    let mut events = 0;
    let mut count = |_: &EditEvent<'_>| {
        events += 1;
        Flow::Continue
    };
    editor.edit_observed(&photo, &request(48), &mut count).unwrap();
    // Four stages that start and finish, two steps.
    assert_eq!(events, 10);
    for stop_at in 1..=events {
        let mut seen = 0;
        let mut stop = |_: &EditEvent<'_>| {
            seen += 1;
            if seen == stop_at { Flow::Stop } else { Flow::Continue }
        };
        let error = editor.edit_observed(&photo, &request(48), &mut stop).unwrap_err();
        assert!(matches!(error, EditError::Stopped(StoppedEdit { total: 2, .. })), "{error}");
        assert_eq!(seen, stop_at, "no event after the stop");
    }
}
