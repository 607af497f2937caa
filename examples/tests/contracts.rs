//! The stages of the examples keep the contracts of their traits, and edit a photo.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "main functions of the examples")]

#[path = "../async_edit.rs"]
mod async_edit;
#[path = "../custom_codec.rs"]
mod custom_codec;
#[path = "../custom_consolidator.rs"]
mod custom_consolidator;
#[path = "../custom_hold.rs"]
mod custom_hold;
#[path = "../custom_noise.rs"]
mod custom_noise;
#[path = "../custom_scheduler.rs"]
mod custom_scheduler;
#[path = "../custom_text.rs"]
mod custom_text;
#[path = "../custom_transformer.rs"]
mod custom_transformer;

use std::sync::Arc;

use burn::tensor::Device;
use custom_codec::Brightened;
use custom_consolidator::MaxOverLayers;
use custom_hold::HoldFrame;
use custom_noise::Antithetic;
use custom_scheduler::RowByRow;
use custom_text::WithSynonyms;
use custom_transformer::Counting;
use editmgt::sampler::{HoldAuto, HoldMargin};
use editmgt::{
    ChaChaNoise, EditError, EditRequest, Editor, EditorBuilder, LoadOptions, Model, Photo,
};

fn model() -> Model {
    Model::embedded(&LoadOptions::for_device(Device::flex()).unwrap(), &[]).unwrap()
}

#[test]
fn scheduler() {
    editmgt_testkit::assert_scheduler_contract(&RowByRow, &Device::flex());
}

#[test]
fn consolidator() {
    editmgt_testkit::assert_consolidator_contract(&MaxOverLayers);
}

#[test]
fn hold() {
    editmgt_testkit::assert_hold_contract(&HoldFrame { tokens: 1, inside: HoldAuto });
}

#[test]
fn noise() {
    editmgt_testkit::assert_noise_contract(&Antithetic(ChaChaNoise::new(7)));
}

#[test]
fn codec() {
    let codec = Brightened { codec: model().codec, gamma: 0.8 };
    editmgt_testkit::assert_codec_contract(&codec, &Device::flex());
}

#[test]
fn text() {
    let text = WithSynonyms(model().text);
    let prompt = "tint the scarlet automobile azure";
    editmgt_testkit::assert_text_encoder_contract(&text, prompt, "scarlet automobile");
}

#[test]
fn transformer() {
    let transformer = Counting::new(model().transformer);
    editmgt_testkit::assert_transformer_contract(&transformer, &Device::flex());
}

#[test]
fn each_edits_a_photo() {
    let photo = Photo::open("scenes/scene.png").unwrap();
    let edit = |builder: EditorBuilder, instruction: &str| {
        let editor = builder.device(Device::flex()).build().unwrap();
        editor.edit(&photo, instruction).unwrap()
    };
    let red = "make the red car blue";
    let plain = edit(Editor::embedded(), red);
    let Model { codec, text, transformer, .. } = model();
    let hold = HoldMargin::new(Box::new(HoldAuto), 1);
    for (stage, builder, instruction, changes) in [
        ("scheduler", Editor::embedded().scheduler(RowByRow), red, true),
        ("consolidator", Editor::embedded().consolidator(MaxOverLayers), red, true),
        // The car and its margin are inside the frame.
        ("hold", Editor::embedded().hold(HoldFrame { tokens: 1, inside: hold }), red, false),
        // The first of a pair draws what the seed draws by itself.
        ("noise", Editor::embedded().noise(Antithetic(ChaChaNoise::new(0))), red, false),
        ("codec", Editor::embedded().codec(Brightened { codec, gamma: 0.8 }), red, true),
        (
            "text",
            Editor::embedded().text(WithSynonyms(text)),
            "make the scarlet automobile azure",
            false,
        ),
        ("transformer", Editor::embedded().transformer(Counting::new(transformer)), red, false),
    ] {
        let result = edit(builder, instruction);
        assert_eq!(result.image.size(), photo.size(), "{stage}");
        assert!(result.report.tokens_changed > 0.0, "{stage}");
        let in_loop = !["codec", "text", "transformer"].contains(&stage);
        assert_eq!(result.report.custom_stages.contains(&stage), in_loop, "{stage}");
        let changed = (&result.tokens, &result.scores) != (&plain.tokens, &plain.scores);
        assert_eq!(changed, changes, "{stage}");
    }
}

#[test]
fn a_dropped_future_stops_its_edit() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let editor = Editor::embedded().device(Device::flex()).build().unwrap();
    let photo = Arc::new(Photo::open("scenes/scene.png").unwrap());
    let request = EditRequest::new("make the red car blue").steps(8);
    let edit = || {
        let (sender, progress) = tokio::sync::mpsc::unbounded_channel();
        (async_edit::edit(editor.clone(), photo.clone(), request.clone(), sender), progress)
    };
    runtime.block_on(async {
        let (whole, mut steps) = edit();
        let whole: Result<_, EditError> = whole.await.unwrap();
        let alone = editor.edit(&photo, &request).unwrap();
        assert_eq!(whole.unwrap().tokens, alone.tokens);
        assert_eq!(steps.recv().await, Some((1, 8)));

        let (stopped, mut steps) = edit();
        let mut last = tokio::select! {
            biased;
            Some((completed, _)) = steps.recv() => completed,
            _ = stopped => panic!("it ended before a step"),
        };
        // The channel closes when the edit has ended.
        while let Some((completed, _)) = steps.recv().await {
            last = completed;
        }
        assert!(last < 8, "it went on to the end");
    });
}
