//! Replacing a stage by an equal one gives the same edit.

use std::path::Path;
use std::sync::Arc;

use editmgt::sampler::{Consolidator, HoldMargin, HoldThreshold, Strict, Temperature};
use editmgt::{
    ChaChaNoise, CompositePolicy, EditError, EditEvent, EditRequest, EditResult, Editor,
    EditorBuilder, Error, Flow, HoldMask, HoldPolicy, HoldRequest, KeywordPolicy, Mask, Model,
    ModelFolder, RegionHold, Silent, VqCodec,
};
use editmgt_testkit::fakes::ColourCodec;
use image::{GrayImage, Luma};

use crate::defaults::{masked, options, photo};

const ROOT: &str = "../editmgt/embedded";

fn builder() -> EditorBuilder {
    Editor::builder(ROOT).device(options().device)
}

fn request() -> EditRequest {
    let hold = Some(HoldPolicy::Threshold(0.3));
    let temperature = Some((1.0, 0.0));
    EditRequest::new("make the red car blue").seed(5).steps(3).hold(hold).temperature(temperature)
}

fn edit(editor: &Editor, request: &EditRequest) -> [EditResult; 2] {
    let photo = editor.open_photo(photo(80, 80));
    let mask =
        Mask::from_luma(GrayImage::from_fn(80, 80, |x, _| Luma([if x < 32 { 0 } else { 255 }])));
    [None, Some(&mask)].map(|mask| photo.edit(masked(request, mask)).unwrap())
}

#[test]
fn an_equal_stage_gives_the_same_edit() {
    let request = request();
    let plain = edit(&builder().build().unwrap(), &request);
    assert!(plain[0].report.custom_stages.is_empty());
    let load = || Model::load(&ModelFolder::open(Path::new(ROOT)).unwrap(), &options()).unwrap();
    let model = load();
    let scheduler = Strict::new(model.scheduler.masking_schedule, Temperature::Range(1.0, 0.0))
        .with_timesteps(model.scheduler.timesteps);
    let threshold = HoldThreshold::new(0.3).unwrap();
    let seedless = request.clone().seed(0);
    let holdless = request.clone().hold(HoldPolicy::Off);
    for (replaced, builder, request) in [
        ("scheduler", builder().scheduler(scheduler), &request),
        (
            "consolidator",
            builder().consolidator(Consolidator::default().with_smoothing(None)),
            &request,
        ),
        ("hold", builder().hold(HoldMargin::new(Box::new(threshold), 1)), &holdless),
        ("noise", builder().noise(ChaChaNoise::new(5)), &seedless),
    ] {
        let results = edit(&builder.build().unwrap(), request);
        for (result, plain) in results.iter().zip(&plain) {
            assert_eq!(result.report.custom_stages, [replaced]);
            assert_eq!(result.tokens, plain.tokens, "{replaced}");
            assert_eq!(result.image, plain.image, "{replaced}");
            assert_eq!(result.held, plain.held, "{replaced}");
        }
    }
    let (codec, text, transformer) = (load().codec, load().text, load().transformer);
    for (replaced, builder) in [
        ("codec", builder().codec(Arc::<dyn VqCodec>::from(codec))),
        ("text", builder().text(Arc::<dyn editmgt::TextEncoder>::from(text))),
        (
            "transformer",
            builder().transformer(Arc::<dyn editmgt::MgtTransformer>::from(transformer)),
        ),
    ] {
        let editor = builder.build().unwrap();
        assert_eq!(editor.model().source, None, "{replaced}");
        for (result, plain) in edit(&editor, &request).iter().zip(&plain) {
            assert_eq!(result.image, plain.image, "{replaced}");
        }
    }
}

#[test]
fn a_part_of_another_model_is_refused() {
    let device = options().device;
    let error = builder().codec(ColourCodec::new(&device)).build().err();
    let Some(EditError::Model(error)) = error else { panic!("a codec of 64 codes was accepted") };
    assert!(error.to_string().contains("codebook size"), "{error}");
}

/// Holds every token left of a column, whatever the scores are.
struct HoldLeft;

impl RegionHold for HoldLeft {
    fn needs_scores(&self) -> bool {
        false
    }

    fn hold(&self, request: &HoldRequest<'_>) -> Result<HoldMask, Error> {
        let (batch, size) = (request.scores.batch(), request.scores.size());
        let held = (0..batch * size.len()).map(|i| 2 * (i % size.width) < size.width);
        HoldMask::new(batch, size, held.collect())
    }
}

#[test]
fn a_hold_of_the_request_keeps_pixels_is_named_and_resumes() {
    let request = request().hold(HoldPolicy::custom(HoldLeft)).guidance_scale(1.0);
    let photo = photo(80, 80);
    // The request's comes before the editor's.
    for (builder, named) in [
        (builder(), &["hold"][..]),
        (builder().hold(HoldThreshold::new(0.9).unwrap()), &["hold"]),
        (builder().noise(ChaChaNoise::new(5)), &["hold", "noise"]),
    ] {
        let editor = builder.build().unwrap();
        let plain = editor.edit(&photo, &request).unwrap();
        assert_eq!(plain.report.custom_stages, named);
        assert_eq!(plain.report.settings.hold.to_string(), "custom");
        assert_eq!(plain.scores, None, "it reads none");
        assert!((0.5..1.0).contains(&plain.report.tokens_held), "{}", plain.report.tokens_held);
        for composite in [CompositePolicy::Visible, CompositePolicy::Held] {
            let result = editor.edit(&photo, request.clone().composite(composite)).unwrap();
            let mut pixels = result.image.rgb().enumerate_pixels().filter(|(x, ..)| *x < 40);
            assert!(pixels.all(|(x, y, pixel)| pixel == photo.rgb().get_pixel(x, y)));
        }
        let white = Mask::from_luma(GrayImage::from_pixel(80, 80, Luma([255])));
        let white = editor.edit(&photo, request.clone().mask(white)).unwrap();
        assert_eq!((&white.tokens, &*white.report.custom_stages), (&plain.tokens, named));
        let black = |x, _| Luma([if x < 60 { 0 } else { 255 }]);
        let mask = Mask::from_luma(GrayImage::from_fn(80, 80, black));
        let masked = editor.edit(&photo, request.clone().mask(mask)).unwrap();
        assert!(masked.report.tokens_held > plain.report.tokens_held);

        let open = editor.open_photo(photo.clone());
        let stopped = open.edit_with(&request, |event: &EditEvent<'_>| match event {
            EditEvent::Step { completed: 1, .. } => Flow::Stop,
            _ => Flow::Continue,
        });
        let Err(EditError::Stopped(stopped)) = stopped else { panic!("not stopped") };
        let resumed = open.resume(&request, stopped, &mut Silent).unwrap();
        assert_eq!((resumed.tokens, resumed.image), (plain.tokens, plain.image));
        assert_eq!(resumed.report.custom_stages, named);
    }
}

#[test]
fn a_keyword_suits_a_hold_that_reads_scores() {
    let request = request().hold(HoldPolicy::Off).keyword(KeywordPolicy::phrase("car"));
    let photo = photo(80, 80);
    let edit = |builder: EditorBuilder| builder.build().unwrap().edit(&photo, &request);
    let result = edit(builder().hold(HoldThreshold::new(0.3).unwrap())).unwrap();
    assert!(result.scores.is_some());
    for builder in [builder(), builder().hold(HoldLeft)] {
        let error = edit(builder).unwrap_err();
        assert!(matches!(error, EditError::Option { option: "keyword", .. }), "{error}");
    }
}
