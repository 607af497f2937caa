//! Models with random weights, and `editmgt inspect`.

use std::path::{Path, PathBuf};

use editmgt_diagnostics::init::{InitRequest, Preset};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::program::{Edit, GOLDEN_MODEL, Scratch, editmgt, root};
use crate::spoil::{shard, weights};

/// Writes a miniature model with random weights, in this dtype.
pub(crate) fn init(out: &Path, dtype: &str) {
    let (preset, dtype) = (Preset::Tiny, dtype.parse().unwrap());
    editmgt_diagnostics::init::init(out, &InitRequest { preset, dtype, seed: 0 }).unwrap();
}

fn inspect(dir: &Path) -> Value {
    let json = editmgt([Path::new("inspect"), dir, Path::new("--json")]).done();
    serde_json::from_str(&json).unwrap()
}

/// Tensors, parameters and bytes of a weights file, by an independent reader.
fn count(file: &Path) -> [u64; 3] {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let parameters = tensors.iter().map(|(_, view)| view.shape().iter().product::<usize>() as u64);
    [tensors.len() as u64, parameters.sum(), bytes.len() as u64]
}

fn counted(summary: &Value) -> [u64; 3] {
    ["tensors", "parameters", "bytes_on_disk"].map(|key| summary[key].as_u64().unwrap())
}

#[test]
fn a_random_model_edits() {
    let scratch = Scratch::new();
    for (dtype, stored) in [("f32", "F32"), ("f16", "F16"), ("bf16", "BF16")] {
        let model = scratch.path(dtype);
        init(&model, dtype);
        let summary = inspect(&model);
        let dtypes: Vec<_> = summary["total"]["dtypes"].as_object().unwrap().keys().collect();
        assert_eq!(dtypes, [stored]);
        for run in ["f32", dtype] {
            let output = scratch.out(&format!("{dtype}-{run}.png"));
            let mut edit = Edit::new(output.clone()).with("--steps 2 --size 128 --hold 0.3");
            edit.model = model.clone();
            edit.with("--keyword cat --dtype").with(run).run().done();
            assert_eq!(image::image_dimensions(output).unwrap(), (451, 300), "{dtype} as {run}");
        }
    }
}

#[test]
fn a_model_in_shards_is_the_same_model() {
    let scratch = Scratch::new();
    let model = scratch.path("model");
    init(&model, "bf16");
    let edit = || {
        // A PNG's record identifies the model's files.
        let options = "--steps 1 --size 128 --no-record";
        let mut edit = Edit::new(scratch.out("o.png")).with(options);
        edit.model = model.clone();
        edit.bytes()
    };
    let whole = (inspect(&model)["total"]["parameters"].clone(), edit());
    shard(&model.join("editmgt"));
    shard(&model.join("llm_encoder"));
    let summary = inspect(&model);
    assert_eq!(summary["total"]["files"], 6);
    assert!(whole == (summary["total"]["parameters"].clone(), edit()));
}

#[test]
fn inspect_counts_right() {
    let golden = |name: &str| weights(&root().join("tests/golden").join(name));
    let expected: [(&str, PathBuf); 3] = [
        ("transformer", golden("transformer_nodown_none")),
        ("vqvae", golden("vq3")),
        ("text_encoder", golden("clip")),
    ];
    let summary = inspect(Path::new(GOLDEN_MODEL));
    let components = summary["components"].as_array().unwrap();
    assert_eq!(components.len(), expected.len(), "{summary:#}");
    let mut total = [0; 3];
    for (component, (name, file)) in components.iter().zip(expected) {
        let numbers = count(&file);
        assert_eq!((&component[0], counted(&component[1])), (&name.into(), numbers));
        (0..3).for_each(|i| total[i] += numbers[i]);
    }
    assert_eq!(counted(&summary["total"]), total);

    let table = editmgt(["inspect", GOLDEN_MODEL]).done();
    let row = table.lines().find(|line| line.starts_with("total ")).unwrap();
    let fields: Vec<_> = row.split_whitespace().collect();
    assert_eq!(fields[1], total[0].to_string());
    assert_eq!(fields[2].replace(',', ""), total[1].to_string());
    // 4 bytes per parameter in f32; in half precision 2, except for the codec, which stays in f32.
    let mib = |bytes: u64| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
    let codec = counted(&components[1][1])[1];
    assert_eq!((fields[5], fields[7]), (&*mib(4 * total[1]), &*mib(2 * total[1] + 2 * codec)));
}

/// Only a model's own files are looked at: what lies beside its parts may be a whole disk.
#[test]
fn a_model_folder_is_not_searched_beyond_its_parts() {
    let scratch = Scratch::new();
    let model = scratch.path("model");
    init(&model, "f32");
    std::fs::create_dir(model.join("results")).unwrap();
    let edit = |output: PathBuf| {
        let mut edit = Edit::new(output).with("--steps 1 --size 128");
        edit.model = model.clone();
        edit
    };
    let before = model.join("results/o.png");
    edit(before.clone()).run().done();
    // An older result in the model's folder is no file of the model.
    edit(before).run().done();
    for file in ["vqvae/config.json", "edit_defaults.json"] {
        let path = model.join(file);
        if !path.exists() {
            std::fs::write(&path, "{\"version\": 1}").unwrap();
        }
        let edit = edit(scratch.out("o.png")).with_path("--report", &path);
        edit.run().refused(file, &["this is the model"]);
    }
    let mut edit = Edit::new(scratch.out("o.png"));
    edit.model = "/".into();
    edit.run().refused("the disk", &["not a model folder"]);
    scratch.assert_nothing_written("the disk");
}
