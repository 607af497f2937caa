//! Adapters that are swapped give what adapters that were loaded with the model give.

use std::fs;
use std::path::Path;

use editmgt::lora::LoraStreams;
use editmgt::{
    Dtype, EditError, EditRecord, EditRequest, EditResult, Editor, EditorBuilder, HoldPolicy,
    LoraUse, Model, ModelError,
};
use editmgt_diagnostics::init::{InitRequest, Preset, init};

use crate::defaults::{golden, options, photo, small};
use crate::low_memory::write_adapter;

const EMBEDDED: &str = "../editmgt/embedded";

fn edit(editor: &Editor) -> EditResult {
    let request = EditRequest::new("make the red car blue")
        .anyway(true)
        .hold(HoldPolicy::Threshold(0.4))
        .temperature((1.0, 0.0))
        .steps(3)
        .seed(3);
    editor.edit(&photo(64, 64), request).unwrap()
}

fn assert_same(swapped: &EditResult, loaded: &EditResult, case: &str) {
    assert_eq!(swapped.tokens, loaded.tokens, "{case}");
    assert_eq!(swapped.scores, loaded.scores, "{case}");
    assert_eq!(swapped.image, loaded.image, "{case}");
    assert_eq!(swapped.report.model, loaded.report.model, "{case}");
    let (swapped, loaded) = (EditRecord::from(&swapped.report), EditRecord::from(&loaded.report));
    assert_eq!(swapped.loras, loaded.loras, "{case}");
}

/// Adapters for a model of this inner width: for the weights, beside them, and for other rows.
fn adapters(dir: &Path, inner: usize) -> [LoraUse; 3] {
    let write = |name: &str, layer: &str, streams| {
        write_adapter(&dir.join(name), layer, [inner; 2], streams)
    };
    let both = write("both", "single_transformer_blocks.0.attn.to_q", LoraStreams::Both);
    let beside = both.clone().with_merge(false).with_scale(0.5);
    let reference =
        write("reference", "single_transformer_blocks.1.attn.to_v", LoraStreams::Reference);
    [both, beside, reference]
}

#[test]
fn swapped_adapters_equal_loaded_ones_bit_for_bit() {
    let scratch = tempfile::tempdir().unwrap();
    let device = options().device;
    let clip = golden("pipeline_edit_clip_nodown");
    let embedded = || Editor::embedded().device(device.clone());
    let folder = |root: &Path| Editor::builder(root).device(device.clone());
    for (model, inner, builder) in [
        ("the model in the program", 128, &embedded as &dyn Fn() -> EditorBuilder),
        ("its folder", 128, &|| folder(EMBEDDED.as_ref())),
        ("its folder in little memory", 128, &|| folder(EMBEDDED.as_ref()).low_memory(true)),
        ("the golden model", clip_width(), &|| folder(&clip)),
    ] {
        let dir = scratch.path().join(model);
        let [both, beside, reference] = adapters(&dir, inner);
        let editor = builder().build().unwrap();
        let plain = edit(&editor);
        let sets = [
            vec![both.clone()],
            vec![beside],
            vec![reference.clone()],
            vec![both.clone(), reference.clone()],
            vec![],
        ];
        // One after the other, each from the one before it: nothing of that must stay.
        let mut swapped = builder().lora(both).build().unwrap();
        for (i, loras) in sets.iter().enumerate() {
            let loaded = loras.iter().cloned().fold(builder(), EditorBuilder::lora);
            let loaded = edit(&loaded.build().unwrap());
            swapped = swapped.with_loras(loras).unwrap();
            let case = format!("{model}, set {i}");
            assert_same(&edit(&swapped), &loaded, &case);
            assert_same(&edit(&editor.with_loras(loras).unwrap()), &loaded, &case);
            let named = loaded.report.model.as_ref().unwrap().loras.len();
            assert_eq!(named, loras.len(), "{case}");
            assert_eq!(loaded.scores != plain.scores, !loras.is_empty(), "{case}");
        }
        assert_same(&edit(&editor), &plain, model);
    }
}

/// Width of the attention of the golden model.
fn clip_width() -> usize {
    let config = golden("transformer_nodown_none").join("config.json");
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(config).unwrap()).unwrap();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    number("num_attention_heads") * number("attention_head_dim")
}

#[test]
fn rejects_adapters_of_other_models_and_for_own_transformers() {
    let scratch = tempfile::tempdir().unwrap();
    let [wide, ..] = adapters(scratch.path(), 64);
    let editors = [false, true].map(|low_memory| {
        let builder = Editor::builder(EMBEDDED).device(options().device);
        builder.low_memory(low_memory).build().unwrap()
    });
    for editor in &editors {
        for lora in [&wide, &LoraUse::new(scratch.path().join("nowhere"))] {
            let error = editor.with_loras(std::slice::from_ref(lora)).err().unwrap();
            assert!(matches!(error, EditError::Model(ModelError::Lora(_))), "{error}");
        }
    }
    let by_hand = Editor::new(small()).unwrap();
    let own = std::sync::Arc::<dyn editmgt::MgtTransformer>::from(
        Model::embedded(&options(), &[]).unwrap().transformer,
    );
    let own = Editor::builder(EMBEDDED).device(options().device).transformer(own);
    for editor in [by_hand, own.clone().build().unwrap(), own.low_memory(true).build().unwrap()] {
        let error = editor.with_loras(&[LoraUse::new("nowhere")]).err().unwrap();
        assert!(matches!(error, EditError::Option { option: "lora", .. }), "{error}");
        let none = editor.with_loras(&[]).unwrap();
        assert_eq!(none.model().source, editor.model().source);
    }
}

#[test]
fn a_folder_that_has_changed_is_not_opened_again() {
    let scratch = tempfile::tempdir().unwrap();
    let tiny = |name: &str, seed| {
        let root = scratch.path().join(name);
        init(&root, &InitRequest { preset: Preset::Tiny, dtype: Dtype::F32, seed }).unwrap();
        root.join("editmgt/diffusion_pytorch_model.safetensors")
    };
    let (weights, others) = (tiny("model", 1), tiny("other", 2));
    let builder = Editor::builder(scratch.path().join("model")).device(options().device);
    let editor = builder.low_memory(true).build().unwrap();
    assert!(editor.with_loras(&[]).is_ok());
    fs::copy(others, weights).unwrap();
    let error = editor.with_loras(&[]).err().unwrap();
    assert!(matches!(error, EditError::Model(ModelError::Changed { .. })), "{error}");
}
