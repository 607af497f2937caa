//! Weights stored in half precision keep their dtype in memory, with the results of f32 weights.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use editmgt::lora::LoraStreams;
use editmgt::{
    Compute, Dtype, DtypePolicy, Editor, InferencePrecision, LoraUse, Model, ModelFolder,
    WithOperands,
};
use editmgt_checkpoint::{
    TensorSpec, WeightFiles, WeightsName, WriteOptions, load_module, save_tensors,
};
use editmgt_core::{
    AttentionRequest, MgtTransformer, MicroConditions, ReferenceInput, StepInput, TextConditioning,
};
use editmgt_diagnostics::init::{InitRequest, Preset, init};
use editmgt_diagnostics::verify::GoldenFolder;
use editmgt_transformer::MgtConfig;

use crate::defaults::{options, photo, request};
use crate::low_memory::write_adapter;

/// A copy of a model folder with its weights in another dtype.
pub(crate) fn stored_as(dtype: DType, from: &Path, to: PathBuf) -> PathBuf {
    copy(from, &to);
    let folder = ModelFolder::open(&to).unwrap();
    let components = [&folder.transformer, &folder.text_encoder, &folder.vqvae];
    for dir in components.into_iter().chain(&folder.llm_encoder) {
        let files = WeightFiles::open(dir).unwrap();
        let tensor = |key: &String| {
            let shape = files.entries()[key].shape.clone();
            (TensorSpec { key: key.clone(), shape }, files.values(key).unwrap().unwrap())
        };
        let tensors: Vec<_> = files.entries().keys().map(tensor).collect();
        let again = to.join("again");
        save_tensors(&again, &tensors, &WriteOptions::new(WeightsName::Model, dtype)).unwrap();
        fs::rename(again.join("model.safetensors"), &files.files()[0]).unwrap();
        fs::remove_dir_all(again).unwrap();
    }
    to
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn half_precision_weights_edit_bit_for_bit_as_f32() {
    let scratch = tempfile::tempdir().unwrap();
    let tiny = scratch.path().join("tiny");
    init(&tiny, &InitRequest { preset: Preset::Tiny, dtype: Dtype::F32, seed: 1 }).unwrap();
    let width = {
        let folder = ModelFolder::open(&tiny).unwrap();
        folder.load_transformer(&options()).unwrap().1.width()
    };
    let adapter = |name: &str, streams| {
        let layer = "single_transformer_blocks.0.attn.to_q";
        write_adapter(&scratch.path().join(name), layer, [width; 2], streams)
    };
    let loras = [adapter("merged", LoraStreams::Both), adapter("beside", LoraStreams::Image)];
    let inside = PathBuf::from("../editmgt/embedded");
    let words = request(64).instruction("make the red car blue");
    for (model, loras) in [(&tiny, &loras[..]), (&tiny, &[]), (&inside, &[])] {
        for dtype in [DType::F16, DType::BF16] {
            let dir = tempfile::tempdir_in(scratch.path()).unwrap();
            let halves = stored_as(dtype, model, dir.path().join("halves"));
            let wide = stored_as(DType::F32, &halves, dir.path().join("wide"));
            let editor = |root: &PathBuf, loras: &[LoraUse]| {
                let folder = ModelFolder::open(root).unwrap();
                let model = Model::load_with_loras(&folder, &options(), loras).unwrap();
                Editor::new(model).unwrap()
            };
            let editors = [&halves, &wide].map(|root| editor(root, loras));
            for guidance in [1.0, 4.0] {
                let request = words.clone().guidance_scale(guidance);
                let [halves, wide] =
                    editors.each_ref().map(|editor| editor.edit(&photo(50, 40), &request).unwrap());
                let what = format!("{}, {dtype:?}, {guidance}", model.display());
                assert_eq!(halves.tokens, wide.tokens, "{what}");
                assert_eq!(halves.image, wide.image, "{what}");
                assert_eq!(halves.scores, wide.scores, "{what}");
            }
        }
    }
}

/// With operands in bf16 everything else is f32, so the logits of the official f32 code stay near.
#[test]
fn bf16_operands_stay_near_the_official_logits() {
    let device = Device::flex();
    let precision = InferencePrecision::new(&device, DType::BF16, Compute::Dtype);
    let dir = editmgt_tests::golden("transformer_down_linear").unwrap();
    let golden = GoldenFolder::open(&dir).unwrap();
    let config = fs::read_to_string(dir.join("config.json")).unwrap();
    let config = MgtConfig::from_json(&config).unwrap();
    let files = WeightFiles::open(&dir).unwrap();
    let model = config.init(&device).unwrap();
    let model = load_module(model, &files, &config.keys(), precision.load).unwrap();
    let model = model.with_operands(precision.operands);

    let text = TextConditioning {
        hidden: golden.tensor("encoder_hidden_states", &device).unwrap(),
        pooled: golden.tensor("pooled_projections", &device).unwrap(),
    };
    let micro = golden.floats("micro_conds").unwrap().values;
    let micro = micro.as_chunks::<5>().0.iter();
    let micro: Vec<_> = micro
        .map(|&[width, height, crop_top, crop_left, aesthetic_score]| MicroConditions {
            width,
            height,
            crop_top,
            crop_left,
            aesthetic_score,
        })
        .collect();
    let timestep: Vec<f32> =
        golden.ints("sq.timestep").unwrap().values.iter().map(|&step| step as f32).collect();
    let (tokens, reference) =
        (golden.tokens("sq.tokens").unwrap(), golden.tokens("sq.reference_tokens").unwrap());
    for (name, strength) in [("sq.edit_s1.logits", 1.0), ("sq.edit_s1p5.logits", 1.5)] {
        let input = StepInput {
            tokens: &tokens,
            reference: Some(ReferenceInput { tokens: &reference, strength }),
            text: &text,
            micro: &micro,
            timestep: &timestep,
        };
        let logits = model.forward(&input, &AttentionRequest::none()).unwrap().logits;
        assert_eq!(logits.dtype(), DType::F32);
        let [batch, count, codes] = logits.dims();
        let expected: Tensor<4> = golden.tensor(name, &device).unwrap();
        let expected = expected.reshape([batch, codes, count]).swap_dims(1, 2);
        let scale = expected.clone().abs().max().into_scalar::<f32>();
        let error = (logits - expected).abs().max().into_scalar::<f32>() / scale;
        // A few times the rounding of bf16 (2^-9), relative to the largest logit; f32 is at 1e-6.
        assert!(error > 1e-5 && error < 2e-2, "{name}: {error}");
    }
}

/// `--dtype bf16` on the CPU keeps matrices in bf16, and the dtype of everything else is f32.
#[test]
fn bf16_edits_whatever_dtype_the_weights_are_stored_in() {
    let scratch = tempfile::tempdir().unwrap();
    let tiny = scratch.path().join("tiny");
    init(&tiny, &InitRequest { preset: Preset::Tiny, dtype: Dtype::F32, seed: 1 }).unwrap();
    let stored = stored_as(DType::BF16, &tiny, scratch.path().join("stored"));
    let dtype = DtypePolicy::networks(Dtype::Bf16);
    let edit = |root: &PathBuf, low_memory| {
        let builder = Editor::builder(root).device(Device::flex()).dtype(dtype);
        let editor = builder.low_memory(low_memory).build().unwrap();
        editor.edit(&photo(50, 40), request(64)).unwrap()
    };
    let expected = edit(&stored, false);
    // Norms and biases that were rounded when they were stored are the only difference to `tiny`.
    assert_eq!(edit(&stored, true).tokens, expected.tokens);
    let wide = stored_as(DType::F32, &stored, scratch.path().join("wide"));
    assert_eq!(edit(&wide, false).tokens, expected.tokens);
    assert_eq!(edit(&wide, false).image, expected.image);
}
