//! Editors over parts of the program's own: all of them, or some in the place of a folder's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use editmgt::{
    Dtype, DtypePolicy, EditDefaults, EditError, EditRequest, EditResult, Editor, EditorBuilder,
    HoldPolicy, LoraUse, MgtTransformer, Model, ModelError, ModelFolder, TextEncoder, VqCodec,
};
use editmgt_testkit::fakes::{ColourCodec, CopyTransformer, WordEncoder};
use serde_json::{Map, Value, json};

use crate::defaults::{golden, options, photo, write_with_down_blocks};

const EMBEDDED: &str = "../editmgt/embedded";

fn builder(root: impl AsRef<Path>) -> EditorBuilder {
    Editor::builder(root).device(options().device)
}

#[test]
fn an_editor_needs_no_folder() {
    let device = options().device;
    let mut defaults = EditDefaults::default();
    defaults.steps = Some(3);
    defaults.size = Some(32);
    let builder = Editor::from_parts()
        .codec(ColourCodec::new(&device))
        .text(WordEncoder::new(&device))
        .transformer(CopyTransformer::new(&device))
        .defaults(defaults)
        .device(device);
    let editor = builder.clone().build().unwrap();
    let photo = photo(40, 30);
    let request = EditRequest::new("make it red").hold(HoldPolicy::Threshold(0.5));
    let result = editor.edit(&photo, &request).unwrap();
    assert_eq!(result.image.size(), photo.size());
    assert_eq!((result.report.model, result.report.settings.steps), (None, 3));
    // The transformer changes the upper left quarter.
    assert!(result.report.tokens_changed > 0.0);
    assert!(result.report.tokens_held > 0.5);

    let mut scheduler = editor.model().scheduler;
    assert_eq!(scheduler.mask_token_id, 64);
    scheduler.mask_token_id = 65;
    let error = builder.scheduler_config(scheduler).build().err().unwrap();
    let EditError::Model(ModelError::Disagree { what: "mask token", .. }) = error else {
        panic!("{error}")
    };
}

#[test]
fn a_missing_part_is_named() {
    let device = options().device;
    let codec = || ColourCodec::new(&device);
    let text = || WordEncoder::new(&device);
    let transformer = || CopyTransformer::new(&device);
    for (missing, builder) in [
        ("codec", Editor::from_parts().text(text()).transformer(transformer())),
        ("text", Editor::from_parts().codec(codec()).transformer(transformer())),
        ("transformer", Editor::from_parts().codec(codec()).text(text())),
        ("codec", Editor::from_parts()),
    ] {
        let error = builder.build().err().unwrap();
        let EditError::Model(ModelError::MissingPart { part }) = error else { panic!("{error}") };
        assert_eq!(part, missing);
    }
}

#[test]
fn options_that_cannot_be_obeyed_are_refused() {
    let device = options().device;
    let parts = || {
        Editor::from_parts()
            .codec(ColourCodec::new(&device))
            .text(WordEncoder::new(&device))
            .transformer(CopyTransformer::new(&device))
    };
    let lora = || LoraUse::new("nowhere");
    let own = || builder(EMBEDDED).transformer(CopyTransformer::new(&device));
    let dtype = DtypePolicy::uniform(Dtype::F32);
    for (builder, refused) in [
        (Editor::embedded().low_memory(true), "low_memory"),
        (parts().low_memory(true), "low_memory"),
        (parts().lora(lora()), "lora"),
        (own().lora(lora()), "lora"),
        (own().lora(lora()).low_memory(true), "lora"),
        (parts().dtype(dtype), "dtype"),
    ] {
        let error = builder.build().err().unwrap();
        let EditError::Option { option, .. } = error else { panic!("{error}") };
        assert_eq!(option, refused);
    }
}

/// A folder whose `pipeline.json` names all components of a model but these, with its defaults.
fn write_without(root: &Path, components: &Map<String, Value>, without: &[&str], defaults: &Path) {
    let mut components = components.clone();
    without.iter().for_each(|name| drop(components.remove(*name)));
    let file = json!({ "components": components }).to_string();
    fs::write(root.join("pipeline.json"), file).unwrap();
    if defaults.is_file() {
        fs::copy(defaults, root.join("edit_defaults.json")).unwrap();
    }
}

fn embedded_components() -> Map<String, Value> {
    let root = PathBuf::from(EMBEDDED).canonicalize().unwrap();
    let folders = [
        ("transformer", "editmgt"),
        ("vqvae", "vqvae"),
        ("text_encoder", "text_encoder"),
        ("tokenizer", "tokenizer"),
        ("scheduler", "scheduler"),
    ];
    folders.into_iter().map(|(name, dir)| (name.to_owned(), json!(root.join(dir)))).collect()
}

fn named_components(pipeline: &Path) -> Map<String, Value> {
    let text = fs::read_to_string(pipeline.join("pipeline.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let components = file["components"].as_object().unwrap().clone();
    let absolute = |(name, dir): (String, Value)| {
        let dir = dir.as_str().map(|dir| pipeline.join(dir).canonicalize().unwrap());
        (name, json!(dir))
    };
    components.into_iter().filter(|(_, dir)| !dir.is_null()).map(absolute).collect()
}

type Replace<'a> = &'a dyn Fn(EditorBuilder) -> EditorBuilder;

#[test]
fn a_replaced_part_is_not_read() {
    let scratch = tempfile::tempdir().unwrap();
    let down = scratch.path().join("down");
    fs::create_dir(&down).unwrap();
    write_with_down_blocks(&down);
    let clip = golden("pipeline_edit_clip_nodown");
    let embedded = PathBuf::from(EMBEDDED);
    for (model, root, components, size) in [
        ("embedded", &embedded, embedded_components(), 80),
        ("clip", &clip, named_components(&clip), 48),
        ("gemma2", &down, named_components(&down), 64),
    ] {
        let request = EditRequest::new("make the red car blue");
        let request = request.size(size).steps(2).seed(4).anyway(true);
        let edit = |builder: EditorBuilder| -> EditResult {
            builder.build().unwrap().edit(&photo(60, 50), &request).unwrap()
        };
        let plain = edit(builder(root));
        assert!(plain.report.model.is_some());
        let folder = ModelFolder::open(root).unwrap();
        let Model { codec, text, transformer, scheduler, .. } =
            Model::load(&folder, &options()).unwrap();
        let codec = Arc::<dyn VqCodec>::from(codec);
        let text = Arc::<dyn TextEncoder>::from(text);
        let transformer = Arc::<dyn MgtTransformer>::from(transformer);
        let texts = &["text_encoder", "tokenizer", "llm_encoder", "llm_tokenizer"][..];
        let all = [&["transformer", "vqvae", "scheduler"], texts].concat();
        let cases: [(&[&str], Replace<'_>); 5] = [
            (&["vqvae"], &|builder| builder.codec(codec.clone())),
            (texts, &|builder| builder.text(text.clone())),
            (&["transformer"], &|builder| builder.transformer(transformer.clone())),
            (&["scheduler"], &|builder| builder.scheduler_config(scheduler)),
            (&all, &|builder| {
                let builder = builder.codec(codec.clone()).text(text.clone());
                builder.transformer(transformer.clone()).scheduler_config(scheduler)
            }),
        ];
        for (i, (without, replace)) in cases.into_iter().enumerate() {
            let root_without = scratch.path().join(format!("{model}-{i}"));
            fs::create_dir(&root_without).unwrap();
            write_without(&root_without, &components, without, &root.join("edit_defaults.json"));
            assert!(builder(&root_without).build().is_err(), "{model} without {without:?}");
            for low_memory in [false, true] {
                let result = edit(replace(builder(&root_without).low_memory(low_memory)));
                let case = format!("{model} without {without:?}, low memory {low_memory}");
                assert_eq!(result.tokens, plain.tokens, "{case}");
                assert_eq!(result.image, plain.image, "{case}");
                assert_eq!(result.report.model, None, "{case}");
            }
        }
    }
}

#[test]
fn weights_of_a_replaced_part_are_not_looked_at() {
    let scratch = tempfile::tempdir().unwrap();
    let vqvae = scratch.path().join("vqvae");
    fs::create_dir(&vqvae).unwrap();
    fs::copy(format!("{EMBEDDED}/vqvae/config.json"), vqvae.join("config.json")).unwrap();
    fs::write(vqvae.join("diffusion_pytorch_model.safetensors"), b"no weights").unwrap();
    let mut components = embedded_components();
    components.insert("vqvae".into(), json!(vqvae));
    write_without(scratch.path(), &components, &[], Path::new(""));
    let own = Model::embedded(&options(), &[]).unwrap().codec;
    let own = Arc::<dyn VqCodec>::from(own);
    for low_memory in [false, true] {
        let build = builder(scratch.path()).low_memory(low_memory);
        assert!(build.clone().build().is_err());
        assert!(build.codec(own.clone()).build().is_ok());
    }
}

#[test]
fn defaults_and_parts_replace_those_of_the_program() {
    let mut defaults = EditDefaults::default();
    defaults.steps = Some(5);
    let own = Model::embedded(&options(), &[]).unwrap();
    let editor = Editor::embedded().device(options().device).defaults(defaults).build().unwrap();
    let settings = editor.settings(&EditRequest::new("make the red car blue")).unwrap();
    assert_eq!(settings.steps, 5);
    assert_eq!(editor.model().source, own.source, "defaults don't make another model");
    let editor =
        Editor::embedded().device(options().device).codec(Arc::<dyn VqCodec>::from(own.codec));
    assert_eq!(editor.build().unwrap().model().source, None);
}
