//! Weights stored in half precision keep their dtype in memory, with the results of f32 weights.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use editmgt::lora::LoraStreams;
use editmgt::{Dtype, Editor, LoraUse, Model, ModelFolder};
use editmgt_checkpoint::{TensorSpec, WeightFiles, WeightsName, WriteOptions, save_tensors};
use editmgt_diagnostics::init::{InitRequest, Preset, init};

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
    let words = request(64).instruction("make the red circle blue");
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
