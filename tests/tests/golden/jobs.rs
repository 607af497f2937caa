//! Images from text, inpainting and outpainting.

use std::path::PathBuf;
use std::sync::Mutex;

use editmgt::photo::Margins;
use editmgt::sampler::MaskingSchedule;
use editmgt::{
    AttentionRequest, CompositePolicy, EditDefaults, EditError, EditEvent, EditRecord, EditRequest,
    EditResult, Editor, Error, Flow, GenerateRecord, GenerateRequest, Holding, Job, LoopProgress,
    Mask, MgtTransformer, Model, ModelFolder, ModelKind, NoiseRequest, NoiseSource, Photo,
    PhotoError, PixelSize, Record, Resize, SaveOptions, Silent, StepInput, StepNoise, StepOutput,
    Task, TokenDraw, TokenGrid, TransformerSpec,
};
use editmgt_diagnostics::verify::GoldenFolder;
use editmgt_testkit::fakes::{ColourCodec, WordEncoder};
use editmgt_tests::golden_amused;
use image::{GrayImage, Luma, RgbImage};

use crate::defaults::{golden, options, photo, small};

const PROMPT: &str = "replace the owl with a red fox";

/// The draws of the official generator.
struct Recorded(GoldenFolder);

impl NoiseSource for Recorded {
    fn step_noise(&self, request: &NoiseRequest) -> Result<StepNoise, Error> {
        let name = |what| format!("step{}.{what}", request.step);
        let draw = self.0.tokens(&name("sampled_ids")).map_err(Error::stage)?;
        let confidence = if self.0.has(&name("gumbel_uniform")) {
            self.0.floats(&name("gumbel_uniform")).map_err(Error::stage)?.values
        } else {
            vec![0.0; request.batch * request.size.len()]
        };
        Ok(StepNoise { draw: TokenDraw::Tokens(draw), confidence })
    }
}

fn recorded(name: &str) -> (PathBuf, GoldenFolder) {
    let root = golden(name);
    let folder = GoldenFolder::open(&root).unwrap();
    (root, folder)
}

/// Bytes of the recorded image, and ours: at most a level apart, which is rounding.
fn assert_is_recorded_image(folder: &GoldenFolder, got: &RgbImage) {
    let expected = folder.floats("final_image").unwrap();
    let [1, 3, height, width] = expected.shape[..] else { panic!("{:?}", expected.shape) };
    assert_eq!(got.dimensions(), (width as u32, height as u32));
    for (x, y, pixel) in got.enumerate_pixels() {
        for (channel, &level) in pixel.0.iter().enumerate() {
            let at = (channel * height + y as usize) * width + x as usize;
            let expected = 255.0 * expected.values[at];
            // The decoder agrees to 1e-3, a quarter of a level.
            assert!((f32::from(level) - expected).abs() <= 0.8, "{x},{y}: {level} {expected}");
        }
    }
}

#[test]
fn generate_is_the_official_pipeline_bit_for_bit() {
    let (root, folder) = recorded("pipeline_t2i_clip_nodown");
    let noise = Recorded(GoldenFolder::open(&root).unwrap());
    let builder = Editor::builder(&root).device(options().device).noise(noise);
    let editor = builder.for_job(Job::Generate).build().unwrap();
    assert_eq!(editor.model().kind, ModelKind::Monetico);
    let request = GenerateRequest::new(PROMPT).width(128).height(128).steps(4).guidance_scale(3.0);
    let mut predicted = Vec::new();
    let result = editor
        .generate_visiting(&request, &mut Silent, &mut |step| predicted.push(step.predicted))
        .unwrap();
    assert_eq!(predicted.len(), 4);
    for (step, predicted) in predicted.iter().enumerate() {
        let expected = folder.tokens(&format!("step{step}.pred_original_sample")).unwrap();
        assert_eq!(*predicted, expected, "step {step}");
    }
    assert_eq!(result.tokens, folder.tokens("step3.prev_sample").unwrap());
    assert_is_recorded_image(&folder, result.images[0].image.rgb());
    assert_eq!(result.report.custom_stages, ["noise"]);
}

/// The official inpainting is that of a model that edits: the reference is the masked canvas.
#[test]
fn inpaint_is_the_official_pipeline_bit_for_bit() {
    let (root, folder) = recorded("pipeline_inpaint_clip_nodown");
    let mut defaults = EditDefaults::default();
    defaults.trained_for = Some(vec![Job::Edit, Job::Inpaint]);
    let noise = Recorded(GoldenFolder::open(&root).unwrap());
    let builder = Editor::builder(&root).device(options().device).noise(noise);
    let editor = builder.defaults(defaults).build().unwrap();
    let photo = Photo::open(root.join("reference.png")).unwrap();
    let request = EditRequest::new(PROMPT)
        .mask(Mask::open(root.join("mask.png")).unwrap())
        .size(128)
        .steps(4)
        .guidance_scale(3.0)
        // The pipeline of EditMGT has the config's, those of its bases are linear.
        .masking_schedule(MaskingSchedule::Cosine)
        .composite(CompositePolicy::All);
    let result = editor.inpaint(&photo, request.clone()).unwrap();
    assert_eq!(result.reference, folder.tokens("reference_tokens_raw").unwrap());
    assert_eq!(result.tokens, folder.tokens("step3.prev_sample").unwrap());
    assert_is_recorded_image(&folder, result.image.rgb());

    // With the composite the photo's bytes are back outside the mask.
    let own = editor.inpaint(&photo, request.composite(None)).unwrap();
    let mask = image::open(root.join("mask.png")).unwrap().into_luma8();
    for (x, y, pixel) in own.image.rgb().enumerate_pixels() {
        let source = if mask.get_pixel(x, y).0[0] == 0 { &photo } else { &result.image };
        assert_eq!(pixel, source.rgb().get_pixel(x, y), "{x},{y}");
    }
}

/// aMUSEd's strength skips the first steps: what an inpainting that is resumed before them does.
#[test]
fn inpaint_of_amused_is_the_official_pipeline_bit_for_bit() {
    let root = golden_amused("pipeline_amused_inpaint");
    let folder = GoldenFolder::open(&root).unwrap();
    let file = std::fs::read_to_string(root.join("pipeline.json")).unwrap();
    let args = serde_json::from_str::<serde_json::Value>(&file).unwrap()["args"].clone();
    let noise = Recorded(GoldenFolder::open(&root).unwrap());
    let builder = Editor::builder(&root).device(options().device).noise(noise);
    let editor = builder.for_job(Job::Inpaint).build().unwrap();
    let photo = editor.open_photo(Photo::open(root.join("reference.png")).unwrap());

    let start = folder.tokens("start_tokens").unwrap();
    let mask_token = editor.model().transformer.spec().mask_token;
    let white = |x: u32, y: u32| {
        let token = start.ids()[y as usize * start.size().width + x as usize];
        Luma([if token == mask_token { 255 } else { 0 }])
    };
    let (width, height) = (start.size().width as u32, start.size().height as u32);
    let mask = Mask::from_luma(GrayImage::from_fn(width, height, white));
    let request = EditRequest::new(PROMPT)
        .task(Task::Inpaint)
        .mask(mask)
        .resize(Resize::Native)
        .negative_prompt(args["negative_prompt"].as_str().unwrap().to_owned())
        .guidance_scale(3.0)
        .steps(8)
        // The other scheduler makes up for skipped steps.
        .holding(Holding::Parity)
        .composite(CompositePolicy::All);
    assert_eq!(editor.settings(&request).unwrap().masking_schedule, MaskingSchedule::Linear);
    let mut skipped = LoopProgress::start(start);
    skipped.completed = folder.meta("/first_step").unwrap();
    let result = photo.resume(&request, skipped, &mut Silent).unwrap();
    assert_eq!(result.reference, folder.tokens("reference_tokens_raw").unwrap());
    assert_eq!(result.tokens, folder.tokens("step7.prev_sample").unwrap());
    assert_is_recorded_image(&folder, result.image.rgb());
}

/// The golden model as a base: its config has no connector.
fn base() -> Model {
    let root = golden("pipeline_t2i_clip_nodown");
    Model::load(&ModelFolder::open(&root).unwrap(), &options()).unwrap()
}

fn left_half(width: u32, height: u32) -> Mask {
    let half = |x, _| Luma([if x < width / 2 { 255 } else { 0 }]);
    Mask::from_luma(GrayImage::from_fn(width, height, half))
}

#[test]
fn images_of_a_batch_are_those_of_single_requests() {
    let editor = Editor::new(base()).unwrap();
    let request = GenerateRequest::new(PROMPT).width(56).height(40).steps(3).seed(4);
    let together = editor.generate(request.clone().count(5)).unwrap();
    assert_eq!(together.images.len(), 5);
    assert_eq!(together.report.grid, editmgt::GridSize::new(10, 14));
    for (i, image) in together.images.iter().enumerate() {
        assert_eq!((image.seed, image.variation), (4, i as u32));
        assert_eq!(image.image.size(), PixelSize::new(40, 56));
        let alone = editor.generate(request.clone().variation(i as u32)).unwrap();
        assert_eq!(alone.tokens.ids(), together.tokens.image(i), "image {i}");
        assert_eq!(alone.images[0].image, image.image);
    }
    assert_ne!(together.tokens.image(0), together.tokens.image(1));
    let other = editor.generate(request.seed(5)).unwrap();
    assert_ne!(other.tokens.ids(), together.tokens.image(0));
}

#[test]
fn defaults_are_those_of_the_family() {
    let editor = Editor::new(base()).unwrap();
    let settings = editor.generate_settings(&GenerateRequest::new(PROMPT)).unwrap();
    assert_eq!((settings.steps, settings.guidance_scale), (48, 9.0));
    assert_eq!((settings.width, settings.height), (128, 128));
    assert_eq!(settings.masking_schedule, MaskingSchedule::Cosine);
    let inpaint = EditRequest::new(PROMPT).task(Task::Inpaint).mask(left_half(8, 8));
    let settings = editor.settings(&inpaint).unwrap();
    assert_eq!((settings.steps, settings.guidance_scale), (48, 9.0));
    assert_eq!(settings.masking_schedule, MaskingSchedule::Linear);

    // The folder's own come before the family's.
    let mut model = base();
    model.defaults = EditDefaults::from_json(
        r#"{"version": 1, "steps": 7, "generate": {"width": 256}, "inpaint": {"steps": 5}}"#,
    )
    .unwrap();
    let editor = Editor::new(model).unwrap();
    let settings = editor.generate_settings(&GenerateRequest::new(PROMPT)).unwrap();
    assert_eq!((settings.width, settings.height, settings.steps), (256, 128, 7));
    assert_eq!(editor.settings(&inpaint).unwrap().steps, 5);
}

#[test]
fn a_job_that_a_model_was_not_trained_for_is_refused() {
    let editor = Editor::new(base()).unwrap();
    let photo = photo(48, 48);
    let request = EditRequest::new(PROMPT).steps(1).size(48);
    let error = editor.edit(&photo, &request).unwrap_err();
    assert!(matches!(error, EditError::NotTrained { job: Job::Edit, .. }), "{error}");
    for named in ["Monetico", "`generate`", "`inpaint`", "--anyway"] {
        assert!(error.to_string().contains(named), "{error}");
    }
    let errors: Vec<_> = editor.edit_batch([(&photo, &request)]).collect();
    assert!(matches!(errors[..], [Err(EditError::NotTrained { .. })]));
    editor.edit(&photo, request.anyway(true)).unwrap();
    // Before any weights are read.
    let root = golden("pipeline_t2i_clip_nodown");
    let builder = || Editor::builder(&root).device(options().device);
    let refused = builder().for_job(Job::Edit).build();
    assert!(matches!(refused, Err(EditError::NotTrained { job: Job::Edit, .. })));
    builder().for_job(Job::Inpaint).build().unwrap();

    let embedded = Editor::embedded().device(options().device).build().unwrap();
    let error = embedded.generate("a red car").unwrap_err();
    assert!(matches!(error, EditError::NotTrained { job: Job::Generate, .. }), "{error}");
    assert!(error.to_string().contains("--model"), "{error}");
}

#[test]
fn sizes_that_the_model_does_not_have_are_refused() {
    let editor = Editor::new(base()).unwrap();
    for (request, named) in [
        (GenerateRequest::new(PROMPT).width(50), "width: expected a multiple of 4"),
        (GenerateRequest::new(PROMPT).height(50), "48 or 52"),
        (GenerateRequest::new(" "), "prompt: expected some words"),
    ] {
        let message = editor.generate(request).unwrap_err().to_string();
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn known_tokens_and_pixels_outside_the_mask_stay() {
    let editor = Editor::new(base()).unwrap();
    for (width, height) in [(64, 64), (90, 40), (37, 81)] {
        let photo = photo(width, height);
        let request = EditRequest::new(PROMPT).mask(left_half(width, height)).steps(3).size(64);
        let result = editor.inpaint(&photo, request).unwrap();
        assert_eq!(result.image.size(), photo.size());
        let generated = (0..result.tokens.ids().len()).filter(|&i| !result.held.held()[i]);
        assert!(generated.count() > 0);
        for (i, &held) in result.held.held().iter().enumerate() {
            assert!(!held || result.tokens.ids()[i] == result.reference.ids()[i], "token {i}");
        }
        for (x, y, pixel) in result.image.rgb().enumerate_pixels() {
            let own = pixel == photo.rgb().get_pixel(x, y);
            assert!(own || x <= width / 2, "{x},{y} of {width}x{height}");
        }
        assert_ne!(result.image.rgb(), photo.rgb());
        assert_eq!(result.report.settings.task, Task::Inpaint);
    }
    let message = editor.inpaint(&photo(48, 48), PROMPT).unwrap_err().to_string();
    assert!(message.starts_with("mask: expected a mask"), "{message}");
    let other = EditRequest::new(PROMPT).mask(left_half(48, 16)).size(48);
    let error = editor.inpaint(&photo(48, 48), other).unwrap_err();
    assert!(matches!(error, EditError::Photo(PhotoError::MaskAspect { .. })), "{error}");
}

#[test]
fn a_stopped_inpainting_resumes_to_the_same_result() {
    let editor = Editor::new(base()).unwrap();
    let open = editor.open_photo(photo(48, 48));
    let mask = left_half(48, 48);
    let request = EditRequest::new(PROMPT).task(Task::Inpaint).mask(mask).steps(4).size(48);
    let whole = open.edit(&request).unwrap();
    let mut stop = |event: &EditEvent<'_>| match event {
        EditEvent::Step { completed: 2, .. } => Flow::Stop,
        _ => Flow::Continue,
    };
    let Err(EditError::Stopped(stopped)) = open.edit_observed(&request, &mut stop) else {
        panic!("it was stopped")
    };
    let resumed = open.resume(&request, stopped, &mut Silent).unwrap();
    assert_eq!((resumed.tokens, resumed.image), (whole.tokens, whole.image));
    assert_eq!(resumed.report.resumed_after, 2);
}

fn outpainted(editor: &Editor, photo: &Photo, margins: Margins) -> EditResult {
    editor.outpaint(photo, margins, EditRequest::new(PROMPT).steps(2).size(64)).unwrap()
}

#[test]
fn an_outpainted_photo_keeps_its_own_bytes() {
    let editor = Editor::new(base()).unwrap();
    let photo = photo(40, 30);
    for margins in [
        Margins { left: 24, ..Margins::default() },
        Margins { left: 3, top: 17, right: 20, bottom: 5 },
    ] {
        let result = outpainted(&editor, &photo, margins);
        let size = margins.canvas(photo.size()).unwrap();
        assert_eq!((result.image.size(), result.report.photo), (size, size));
        let place = |x, y| (margins.left as u32 + x, margins.top as u32 + y);
        for (x, y, pixel) in photo.rgb().enumerate_pixels() {
            let (x, y) = place(x, y);
            assert_eq!(result.image.rgb().get_pixel(x, y), pixel, "{x},{y}");
        }
        // The margins are generated, and not the photo's border repeated.
        let (canvas, _) = photo.extended(margins).unwrap();
        assert_ne!(result.image.rgb(), canvas.rgb());
        assert_eq!(result.overlay(&photo).unwrap().size(), size);
        assert_eq!(result.report.settings.task, Task::Outpaint(margins));

        // Its record repeats it.
        let request = EditRequest::from(EditRecord::from(&result.report).settings);
        let again = editor.edit(&photo, request).unwrap();
        assert_eq!((again.tokens, again.image), (result.tokens, result.image));
    }
    let wide = Margins { left: 16_384, top: 16_384, ..Margins::default() };
    let error = editor.outpaint(&photo, wide, PROMPT).unwrap_err();
    assert!(matches!(error, EditError::Photo(PhotoError::CanvasTooLarge { .. })), "{error}");
    let error = editor.outpaint(&photo, Margins::default(), PROMPT).unwrap_err();
    assert!(error.to_string().starts_with("task: expected margins"), "{error}");
}

#[test]
fn records_say_how_images_are_made_again() {
    let editor = Editor::new(base()).unwrap();
    let request = GenerateRequest::new(PROMPT).width(48).height(40).steps(2).count(2).seed(3);
    let result = editor.generate(request).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("fox.png");
    let text = GenerateRecord::new(&result.report, &result.images[1]).png_text();
    let save = SaveOptions::default().with_text(text);
    result.images[1].image.save_with(&path, &save).unwrap();
    let record = GenerateRecord::open(&path).unwrap();
    assert_eq!((record.settings.count, record.settings.variation), (1, 1));
    assert!(record.differences(editor.model().source.as_ref()).is_empty());
    let again = editor.generate(record.settings.clone()).unwrap();
    assert_eq!(again.images[0].image, result.images[1].image);
    assert!(matches!(Record::open(&path).unwrap(), Record::Generate(read) if *read == record));
    // It is not the record of an edit.
    assert!(matches!(EditRecord::open(&path), Err(PhotoError::Record { .. })));
}

/// A transformer that prefers code 1 and notes whether it has a reference, and its masked tokens.
struct Notes {
    spec: TransformerSpec,
    references: Mutex<Vec<Option<TokenGrid>>>,
}

impl MgtTransformer for &'static Notes {
    fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    fn forward(&self, input: &StepInput<'_>, _: &AttentionRequest) -> Result<StepOutput, Error> {
        input.check(&self.spec)?;
        self.references.lock().unwrap().push(input.reference.map(|r| r.tokens.clone()));
        let (batch, n) = (input.tokens.batch(), input.tokens.size().len());
        let logits = (0..batch * n * 64).map(|i| if i % 64 == 1 { 30.0 } else { 0.0 });
        let data = burn::tensor::TensorData::new(logits.collect::<Vec<f32>>(), [batch, n, 64]);
        let device = burn::tensor::Device::flex();
        Ok(StepOutput { logits: burn::tensor::Tensor::from_data(data, &device), maps: None })
    }
}

/// The reference stream belongs to edits, and to inpainting by a model that was trained with it.
#[test]
fn only_models_that_edit_have_a_reference_stream() {
    let device = options().device;
    for (trained_for, expected) in [
        (vec![Job::Generate, Job::Inpaint], false),
        (vec![Job::Edit, Job::Generate, Job::Inpaint], true),
    ] {
        let spec = TransformerSpec {
            codebook_size: 64,
            mask_token: 64,
            double_blocks: 1,
            single_blocks: 1,
            grid_factor: 1,
            text_size: 8,
            pooled_size: 8,
        };
        let notes: &Notes = Box::leak(Box::new(Notes { spec, references: Mutex::default() }));
        let mut defaults = EditDefaults::default();
        defaults.trained_for = Some(trained_for);
        let editor = Editor::from_parts()
            .device(device.clone())
            .codec(ColourCodec::new(&device))
            .text(WordEncoder::new(&device))
            .transformer(notes)
            .defaults(defaults)
            .build()
            .unwrap();
        let request =
            EditRequest::new("a fox").mask(left_half(32, 32)).size(32).steps(2).guidance_scale(1.0);
        let result = editor.inpaint(&photo(32, 32), request.clone()).unwrap();
        let references = std::mem::take(&mut *notes.references.lock().unwrap());
        assert_eq!(references.len(), 2);
        for reference in references {
            assert_eq!(reference.is_some(), expected);
            let masked = reference.map_or(32, |reference| reference.count(64));
            assert_eq!(masked, 32, "half of 8x8 tokens");
        }
        let generated = result.tokens.ids().iter().zip(result.held.held());
        assert!(generated.filter(|(_, held)| !**held).all(|(id, _)| *id == 1));

        editor.generate(GenerateRequest::new("a fox").width(32).height(16).steps(1)).unwrap();
        let references = std::mem::take(&mut *notes.references.lock().unwrap());
        assert!(references.iter().all(Option::is_none), "text to image has none");
        // Strength is that of the reference.
        let strong = editor.inpaint(&photo(32, 32), request.reference_strength(2.0));
        assert_eq!(strong.is_ok(), expected);
    }
}

#[test]
fn prompts_that_are_cut_are_reported() {
    let editor = Editor::new(small()).unwrap();
    let long = vec!["fox"; 100].join(" ");
    let request = GenerateRequest::new(&*long).width(48).height(48).steps(1);
    let report = editor.generate(&request).unwrap().report;
    let cut: Vec<_> = report.prompts_cut().collect();
    let [cut] = cut[..] else { panic!("{cut:?}") };
    assert_eq!((cut.prompt, &*cut.part.encoder, cut.part.tokens), ("prompt", "CLIP", 77));
    assert!(long.ends_with(&cut.part.text) && cut.to_string().contains("the prompt is too long"));
    let mask = left_half(48, 48);
    let request =
        EditRequest::new(&*long).mask(mask).steps(1).size(48).negative_prompt(long.clone());
    let report = editor.inpaint(&photo(48, 48), request).unwrap().report;
    let cut: Vec<_> = report.prompts_cut().map(|cut| cut.prompt).collect();
    assert_eq!(cut, ["instruction", "negative_prompt"]);
}
