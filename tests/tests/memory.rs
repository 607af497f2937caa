//! An edit with low memory needs no more than its largest component and its activations; a
//! component stored in bf16 half of that. In a separate file, and so a separate process, because it
//! reads the peak of the whole process.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use editmgt::{Dtype, DtypePolicy, EditRequest, Editor, Photo};

use editmgt_checkpoint::{TensorSpec, WeightsName, WriteOptions, module_tensors, write_random};
use editmgt_diagnostics::init::{InitRequest, Preset, init};
use editmgt_text::{ClipTextConfig, Gemma2Config};
use editmgt_transformer::MgtConfig;
use image::RgbImage;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
/// Rows of each component's token table: much memory and no computation. Even in half precision a
/// table exceeds the 32 MiB up to which the C library may keep freed blocks.
const ROWS: usize = 400_000;

/// Changes the config of a component and writes weights for it; bytes of the weights.
fn grow(
    root: &Path,
    dtype: Dtype,
    component: &str,
    name: WeightsName,
    tensors: impl Fn(&str) -> Vec<TensorSpec>,
) -> u64 {
    let dir = root.join(component);
    let mut config: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    config["vocab_size"] = json!(ROWS);
    let config = config.to_string();
    fs::write(dir.join("config.json"), &config).unwrap();
    let tensors = tensors(&config);
    let grown = root.join("grown");
    write_random(&grown, &tensors, &WriteOptions::new(name, dtype.into()), 1).unwrap();
    for entry in fs::read_dir(&grown).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    fs::remove_dir(grown).unwrap();
    let count = |spec: &TensorSpec| spec.shape.iter().product::<usize>();
    (dtype.size() * tensors.iter().map(count).sum::<usize>()) as u64
}

/// Writes a model with large tables; bytes of its components.
fn write(root: &Path, dtype: Dtype, device: &Device) -> [u64; 3] {
    init(root, &InitRequest { preset: Preset::Tiny, dtype, seed: 1 }).unwrap();
    let sizes = [
        grow(root, dtype, "editmgt", WeightsName::Diffusion, |text| {
            let config = MgtConfig::from_json(text).unwrap();
            module_tensors(&config.init(device).unwrap(), &config.keys()).unwrap()
        }),
        grow(root, dtype, "text_encoder", WeightsName::Model, |text| {
            let config = ClipTextConfig::from_json(text).unwrap();
            module_tensors(&config.init(device).unwrap(), &config.keys()).unwrap()
        }),
        grow(root, dtype, "llm_encoder", WeightsName::Model, |text| {
            let config = Gemma2Config::from_json(text).unwrap();
            module_tensors(&config.init(device).unwrap(), &config.keys()).unwrap()
        }),
    ];
    let scheduler = root.join("scheduler/scheduler_config.json");
    let text = fs::read_to_string(&scheduler).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["mask_token_id"] = json!(ROWS - 1);
    fs::write(&scheduler, config.to_string()).unwrap();
    sizes
}

#[test]
fn low_memory_needs_only_the_largest_component() {
    let scratch = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let [narrow, root] = ["narrow", "model"].map(|name| scratch.path().join(name));
    let halves = write(&narrow, Dtype::Bf16, &device);
    let sizes = write(&root, Dtype::F32, &device);

    let photo = Photo::from_rgb(RgbImage::new(64, 64)).unwrap();
    let edit = |root: &Path, low_memory| {
        let dtype = DtypePolicy::uniform(Dtype::F32);
        let builder = Editor::builder(root).device(device.clone()).dtype(dtype);
        let editor = builder.low_memory(low_memory).build().unwrap();
        let request = EditRequest::new("an owl").steps(1).size(64);
        let edit = editor.edit(&photo, &request).unwrap();
        (edit.report.peak_memory_bytes.unwrap(), edit.tokens)
    };
    // A model of a megabyte: everything that an edit needs besides weights.
    let small = scratch.path().join("small");
    init(&small, &InitRequest { preset: Preset::Tiny, dtype: Dtype::F32, seed: 1 }).unwrap();
    let request = EditRequest::new("an owl").steps(1).size(64);
    let editor = Editor::builder(&small).device(device.clone()).build().unwrap();
    let besides = editor.edit(&photo, &request).unwrap();
    let besides = besides.report.peak_memory_bytes.unwrap();

    let (largest, all) = (*sizes.iter().max().unwrap(), sizes.iter().sum::<u64>());
    // The peak never decreases: the smallest comes first.
    let (low, _) = edit(&narrow, true);
    let (low, largest_half) = (low - besides, *halves.iter().max().unwrap());
    assert!(low < largest_half + 24 * MIB, "{} of {} MiB", low / MIB, largest_half / MIB);
    let (low, tokens) = edit(&root, true);
    let low = low - besides;
    assert!(low < largest + 24 * MIB, "{} of {} MiB", low / MIB, largest / MIB);
    let (whole, same) = edit(&root, false);
    let whole = whole - besides;
    assert!(whole > all - 24 * MIB, "{} of {} MiB", whole / MIB, all / MIB);
    assert_eq!(tokens, same);
}
