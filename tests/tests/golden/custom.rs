//! Replacing a stage by an equal one gives the same edit.

use std::path::Path;
use std::sync::Arc;

use editmgt::sampler::{Consolidator, HoldThreshold, Strict, Temperature};
use editmgt::{
    ChaChaNoise, EditError, EditRequest, EditResult, Editor, EditorBuilder, HoldPolicy, Mask,
    Model, ModelFolder, VqCodec,
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
    EditRequest::new("make the red circle blue")
        .seed(5)
        .steps(3)
        .hold(hold)
        .temperature(temperature)
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
    let seedless = request.clone().seed(0);
    let holdless = request.clone().hold(HoldPolicy::Off);
    for (replaced, builder, request) in [
        ("scheduler", builder().scheduler(scheduler), &request),
        (
            "consolidator",
            builder().consolidator(Consolidator::default().with_smoothing(None)),
            &request,
        ),
        ("hold", builder().hold(HoldThreshold::new(0.3).unwrap()), &holdless),
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
