//! Written checkpoints read back.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor};
use editmgt_checkpoint::{
    FileDtype, TensorSpec, WeightFiles, WeightsName, WriteOptions, load_module, module_tensors,
    save_module, write_random,
};
use editmgt_core::KeyMap;

#[derive(Module, Debug)]
struct Mlp {
    norm: LayerNorm,
    layers: Vec<Linear>,
}

fn mlp() -> Mlp {
    let device = Device::flex();
    let linear = |d_in, d_out| LinearConfig::new(d_in, d_out).init(&device);
    Mlp {
        norm: LayerNormConfig::new(40).init(&device),
        layers: vec![linear(40, 96), linear(96, 8)],
    }
}

fn keys() -> KeyMap {
    KeyMap::renames([(r"^layers\.(\d+)\.", "net.$1.proj.")])
}

fn specs() -> Vec<TensorSpec> {
    module_tensors(&mlp(), &keys()).unwrap()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.cast(DType::F32).try_into_vec_as::<f32>().unwrap()
}

/// All values of a checkpoint, read by the loader.
fn contents(dir: &Path) -> Vec<Vec<f32>> {
    let files = WeightFiles::open(dir).unwrap();
    let Mlp { norm, layers } = load_module(mlp(), &files, &keys(), DType::F32).unwrap();
    let mut all = vec![values(norm.gamma.val()), values(norm.beta.unwrap().val())];
    for layer in layers {
        all.push(values(layer.weight.val()));
        all.push(values(layer.bias.unwrap().val()));
    }
    all
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn one_file_and_shards_have_the_same_values() {
    let root = tempfile::tempdir().unwrap();
    let one = root.path().join("a/one");
    let options = WriteOptions::new(WeightsName::Diffusion, DType::F32);
    write_random(&one, &specs(), &options, 7).unwrap();
    assert_eq!(names(&one), ["diffusion_pytorch_model.safetensors"]);

    // 40x96 values exceed the limit of a shard, so they get a shard to themselves.
    let shards = root.path().join("shards");
    let options = WriteOptions::new(WeightsName::Model, DType::F32).with_max_shard_bytes(4000);
    write_random(&shards, &specs(), &options, 7).unwrap();
    assert_eq!(
        names(&shards),
        [
            "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json"
        ]
    );
    assert_eq!(contents(&one), contents(&shards));

    let index = std::fs::read_to_string(shards.join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let bytes: usize = contents(&one).iter().map(|values| 4 * values.len()).sum();
    assert_eq!(index["metadata"]["total_size"], bytes);
    assert_eq!(index["weight_map"]["net.0.proj.weight"], "model-00002-of-00003.safetensors");

    let other = root.path().join("other");
    write_random(&other, &specs(), &options, 8).unwrap();
    assert_ne!(contents(&one), contents(&other));
}

#[test]
fn safetensors_library_accepts_the_file() {
    let root = tempfile::tempdir().unwrap();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let dir = root.path().join(format!("{dtype:?}"));
        write_random(&dir, &specs(), &WriteOptions::new(WeightsName::Model, dtype), 7).unwrap();
        let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header % 8, 0, "the data is aligned");
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        assert_eq!(metadata.tensors().len(), specs().len());
    }
}

#[test]
fn random_values_follow_the_documented_distribution() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("x");
    write_random(&dir, &specs(), &WriteOptions::new(WeightsName::Model, DType::F32), 7).unwrap();
    let [gamma, beta, weight, bias, ..] = &contents(&dir)[..] else { panic!("six tensors") };
    assert!(gamma.iter().all(|&x| x == 1.0));
    assert!(beta.iter().chain(bias).all(|&x| x == 0.0));
    // Over n = 3840 draws: mean and deviation within 5 standard errors, 0.02/sqrt(n) and
    // 0.02/sqrt(2n).
    let n = weight.len() as f32;
    let mean = weight.iter().sum::<f32>() / n;
    let deviation = (weight.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
    assert!(mean.abs() < 5.0 * 0.02 / n.sqrt(), "{mean}");
    assert!((deviation - 0.02).abs() < 5.0 * 0.02 / (2.0 * n).sqrt(), "{deviation}");
}

#[test]
fn saved_module_loads_with_the_same_weights() {
    let root = tempfile::tempdir().unwrap();
    let (dir, again) = (root.path().join("first"), root.path().join("again"));
    let options = WriteOptions::new(WeightsName::Model, DType::BF16);
    write_random(&dir, &specs(), &options, 7).unwrap();
    let files = WeightFiles::open(&dir).unwrap();
    let module = load_module(mlp(), &files, &keys(), DType::BF16).unwrap();
    save_module(&again, &module, &keys(), &options).unwrap();
    let read = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert_eq!(read(&dir), read(&again));
}

#[test]
fn summary_counts_tensors_and_bytes() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("x");
    write_random(&dir, &specs(), &WriteOptions::new(WeightsName::Model, DType::BF16), 7).unwrap();
    let summary = WeightFiles::open(&dir).unwrap().summary().unwrap();
    let parameters = 2 * 40 + 96 * 40 + 96 + 8 * 96 + 8;
    assert_eq!((summary.tensors, summary.parameters, summary.files), (6, parameters, 1));
    let counted: BTreeMap<_, _> =
        summary.dtypes.iter().map(|(dtype, n)| (*dtype, (n.tensors, n.parameters))).collect();
    assert_eq!(counted, BTreeMap::from([(FileDtype::BF16, (6, parameters))]));
    let file = std::fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert_eq!(summary.bytes_on_disk, file);
    assert_eq!(summary.memory(DType::F32), 4 * parameters);
}
