//! Loading a small module in every dtype, from one file and from shards.
#![forbid(unsafe_code)]

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, RmsNorm,
    RmsNormConfig,
};
use burn::tensor::{DType, Device, Tensor};
use editmgt_checkpoint::{
    CheckpointError, FileDtype, LoadOptions, WeightFiles, cast_module, load_module, module_tensors,
};
use editmgt_core::KeyMap;
use half::{bf16, f16};
use safetensors::tensor::TensorView;

#[derive(Module, Debug)]
struct Block {
    norm: LayerNorm,
    to_q: Linear,
    scale: Option<RmsNorm>,
}

#[derive(Module, Debug)]
struct Tiny {
    embed: Embedding,
    blocks: Vec<Block>,
    conv: Conv2d,
}

const IN: usize = 37;
const OUT: usize = 21;

fn tiny(device: &Device) -> Tiny {
    let block = |scale: bool| Block {
        norm: LayerNormConfig::new(IN).init(device),
        to_q: LinearConfig::new(IN, OUT).init(device),
        scale: scale.then(|| RmsNormConfig::new(OUT).init(device)),
    };
    Tiny {
        embed: EmbeddingConfig::new(11, IN).init(device),
        blocks: vec![block(true), block(false)],
        conv: Conv2dConfig::new([2, 3], [3, 3]).init(device),
    }
}

/// The official key `layers.N` is `blocks.N` in the module.
fn keys() -> KeyMap {
    KeyMap::renames([(r"^blocks\.", "layers.")])
}

const EXPECTED: [(&str, &[usize]); 12] = [
    ("conv.bias", &[3]),
    ("conv.weight", &[3, 2, 3, 3]),
    ("embed.weight", &[11, IN]),
    ("layers.0.norm.bias", &[IN]),
    ("layers.0.norm.weight", &[IN]),
    ("layers.0.scale.weight", &[OUT]),
    ("layers.0.to_q.bias", &[OUT]),
    ("layers.0.to_q.weight", &[OUT, IN]),
    ("layers.1.norm.bias", &[IN]),
    ("layers.1.norm.weight", &[IN]),
    ("layers.1.to_q.bias", &[OUT]),
    ("layers.1.to_q.weight", &[OUT, IN]),
];

/// Value `i` of a tensor: exact in all three dtypes, different in every tensor.
fn value(key: &str, i: usize) -> f32 {
    let salt = key.bytes().fold(0, |sum, byte| (sum * 31 + usize::from(byte)) % 255);
    ((salt + 7 * i) % 255) as f32 / 8.0 - 16.0
}

fn values(key: &str, shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i| value(key, i)).collect()
}

fn bytes(dtype: FileDtype, values: &[f32]) -> Vec<u8> {
    let convert = |&x: &f32| match dtype {
        FileDtype::F32 => x.to_le_bytes().to_vec(),
        FileDtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        FileDtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
        other => unreachable!("the tests write no {other}"),
    };
    values.iter().flat_map(convert).collect()
}

type Written = (String, Vec<usize>, Vec<f32>);

fn write(path: &Path, dtype: FileDtype, tensors: &[Written]) {
    let data: Vec<_> = tensors.iter().map(|(_, _, values)| bytes(dtype, values)).collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((key, shape, _), data)| (key, TensorView::new(dtype, shape.clone(), data).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn tensors() -> Vec<Written> {
    EXPECTED.map(|(key, shape)| (key.to_owned(), shape.to_vec(), values(key, shape))).into()
}

fn read<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Vec<f32> {
    assert_eq!(tensor.dtype(), dtype);
    tensor.cast(DType::F32).try_into_vec_as::<f32>().unwrap()
}

/// The expected dtype of linear weights and embeddings, and of all other parameters.
fn check(module: &Tiny, matrices: DType, dtype: DType) {
    let block = &module.blocks[1];
    let straight = |key| values(key, EXPECTED.iter().find(|(k, _)| *k == key).unwrap().1);
    assert_eq!(read(module.conv.weight.val(), dtype), straight("conv.weight"));
    assert_eq!(read(module.embed.weight.val(), matrices), straight("embed.weight"));
    assert_eq!(read(block.norm.gamma.val(), dtype), straight("layers.1.norm.weight"));
    assert_eq!(
        read(block.norm.beta.as_ref().unwrap().val(), dtype),
        straight("layers.1.norm.bias")
    );
    let scale = module.blocks[0].scale.as_ref().unwrap();
    assert_eq!(read(scale.gamma.val(), dtype), straight("layers.0.scale.weight"));
    let weight = block.to_q.weight.val();
    assert_eq!(weight.dims(), [IN, OUT]);
    assert_eq!(read(weight.transpose(), matrices), straight("layers.1.to_q.weight"));
    let bias = block.to_q.bias.as_ref().unwrap();
    assert_eq!(read(bias.val(), dtype), straight("layers.1.to_q.bias"));
}

#[test]
fn loads_every_pair_of_dtypes() {
    let device = Device::flex();
    for file in [FileDtype::F32, FileDtype::F16, FileDtype::BF16] {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("model.safetensors"), file, &tensors());
        let files = WeightFiles::open(dir.path()).unwrap();
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let module = load_module(tiny(&device), &files, &keys(), dtype).unwrap();
            check(&module, dtype, dtype);
        }
        let keep = LoadOptions::new(DType::F32).with_keep_half_precision(true);
        let module = load_module(tiny(&device), &files, &keys(), keep).unwrap();
        let matrices = match file {
            FileDtype::F16 => DType::F16,
            FileDtype::BF16 => DType::BF16,
            _ => DType::F32,
        };
        check(&module, matrices, DType::F32);
        let narrow = LoadOptions::new(DType::F32).with_matrices(DType::BF16);
        let module = load_module(tiny(&device), &files, &keys(), narrow).unwrap();
        check(&module, DType::BF16, DType::F32);
        check(&cast_module(module.clone(), DType::F16), DType::F16, DType::F16);
        check(&cast_module(module, keep), DType::BF16, DType::F32);
    }
}

#[test]
fn module_tensors_initialises_no_weights() {
    let module = tiny(&Device::flex());
    let specs = module_tensors(&module, &keys()).unwrap();
    let got: Vec<_> = specs.iter().map(|s| (s.key.as_str(), s.shape.as_slice())).collect();
    assert_eq!(got, EXPECTED);
    assert!(!module.embed.weight.is_initialized(), "the list must not allocate");
}

#[test]
fn mismatch_lists_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = tensors();
    written.retain(|(key, ..)| key != "conv.bias" && key != "layers.0.norm.weight");
    written.push(("position_ids".into(), vec![1], vec![0.0]));
    written.push(("extra".into(), vec![1], vec![0.0]));
    for (key, shape, _) in &mut written {
        if key == "layers.1.to_q.weight" {
            shape.reverse();
        }
    }
    write(&dir.path().join("model.safetensors"), FileDtype::F32, &written);
    let files = WeightFiles::open(dir.path()).unwrap();
    let keys = keys().allow_unused([String::from(r"position_\w+")]);
    let error = load_module(tiny(&Device::flex()), &files, &keys, DType::F32).unwrap_err();
    let CheckpointError::Mismatch(mismatch) = &error else { panic!("{error}") };
    assert_eq!(mismatch.missing, ["conv.bias", "layers.0.norm.weight"]);
    assert_eq!(mismatch.unused, ["extra"]);
    let [misshaped] = &mismatch.misshaped[..] else { panic!("{error}") };
    assert_eq!((&misshaped.expected[..], &misshaped.got[..]), (&[OUT, IN][..], &[IN, OUT][..]));
    for part in ["conv.bias", "extra", "layers.1.to_q.weight", "[21, 37]", "[37, 21]"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn rejects_unsupported_dtypes_and_values() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = tensors();
    written[2].2[5] = 1e6;
    write(&dir.path().join("model.safetensors"), FileDtype::F32, &written);
    let files = WeightFiles::open(dir.path()).unwrap();
    let renamed = |from: &str, to: &str| KeyMap::renames([(r"^blocks\.", "layers."), (from, to)]);

    type Expected = fn(&CheckpointError) -> bool;
    let cases: [(KeyMap, DType, Expected, &str); 5] = [
        (keys(), DType::F16, |e| matches!(e, CheckpointError::TooNarrow { .. }), "embed.weight"),
        (keys(), DType::F64, |e| matches!(e, CheckpointError::UnsupportedDtype { .. }), "F64"),
        (renamed("(", ""), DType::F32, |e| matches!(e, CheckpointError::Pattern { .. }), "\"(\""),
        (
            keys().allow_unused(["[".to_owned()]),
            DType::F32,
            |e| matches!(e, CheckpointError::Pattern { .. }),
            "[",
        ),
        (
            renamed(r"\.1\.", ".0."),
            DType::F32,
            |e| matches!(e, CheckpointError::SameKey { .. }),
            "\"blocks.0.norm.gamma\" and \"blocks.1.norm.gamma\"",
        ),
    ];
    for (keys, dtype, expected, named) in cases {
        let error = load_module(tiny(&Device::flex()), &files, &keys, dtype).unwrap_err();
        assert!(expected(&error) && error.to_string().contains(named), "{error}");
    }
    // The value overflows f16 but not bf16.
    load_module(tiny(&Device::flex()), &files, &keys(), DType::BF16).unwrap();
}
