//! Weights in 8 and 4 bits: written, read strictly, and loaded.
#![forbid(unsafe_code)]

use std::path::Path;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{DType, Device, Distribution, Tensor};
use editmgt_checkpoint::{
    CheckpointError, FileDtype, LoadOptions, TensorSpec, WeightBits, WeightFiles, WeightsName,
    WriteOptions, check_module, copy_weights, load_module, module_tensors, quantize_weights,
    save_module, save_tensors, write_random,
};
use editmgt_core::KeyMap;
use editmgt_kernels::{dequantize, embed, linear_layer, quantized_bits};
use safetensors::tensor::TensorView;

#[derive(Module, Debug)]
struct Model {
    table: Embedding,
    positions: Embedding,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
}

const WIDTH: usize = 45;
const HIDDEN: usize = 70;
const BITS: [WeightBits; 2] = [WeightBits::Eight, WeightBits::Four];

fn model() -> Model {
    let device = Device::flex();
    Model {
        table: EmbeddingConfig::new(1024, WIDTH).init(&device),
        positions: EmbeddingConfig::new(77, WIDTH).init(&device),
        norm: LayerNormConfig::new(WIDTH).init(&device),
        up: LinearConfig::new(WIDTH, HIDDEN).init(&device),
        down: LinearConfig::new(HIDDEN, 1).with_bias(false).init(&device),
    }
}

fn keys() -> KeyMap {
    KeyMap::default().allow_unused(["unused".to_owned()])
}

/// A folder with random weights, and a key that the model doesn't use.
fn original(dir: &Path, dtype: DType) -> WeightFiles {
    let mut specs = module_tensors(&model(), &keys()).unwrap();
    specs.push(TensorSpec { key: "unused".into(), shape: vec![3] });
    let options = WriteOptions::new(WeightsName::Model, dtype);
    write_random(dir, &specs, &options, 1).unwrap();
    WeightFiles::open(dir).unwrap()
}

fn quantize(dir: &Path, files: &WeightFiles, bits: WeightBits) -> WeightFiles {
    quantize_weights(dir, WeightsName::Diffusion, &model(), &keys(), files, bits).unwrap();
    WeightFiles::open(dir).unwrap()
}

fn load(files: &WeightFiles, options: LoadOptions) -> Result<Model, CheckpointError> {
    load_module(model(), files, &keys(), options)
}

fn options() -> LoadOptions {
    LoadOptions::new(DType::F32).with_keep_quantized(true)
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    dequantize(x).try_into_vec_as::<f32>().unwrap()
}

#[test]
fn a_quantised_folder_has_the_documented_tensors() {
    let root = tempfile::tempdir().unwrap();
    let files = original(&root.path().join("a"), DType::F32);
    for (bits, dtype, per_byte) in [(BITS[0], FileDtype::I8, 1), (BITS[1], FileDtype::U8, 2)] {
        let name = format!("{bits}");
        let files = quantize(&root.path().join(&name), &files, bits);
        let found: Vec<_> = files
            .entries()
            .iter()
            .map(|(key, entry)| (key.as_str(), entry.dtype, entry.shape.clone()))
            .collect();
        let row = |inputs: usize| inputs.div_ceil(per_byte);
        let expected = vec![
            ("down.weight", dtype, vec![1, row(HIDDEN)]),
            ("down.weight_scale", FileDtype::F16, vec![1, 3]),
            ("norm.bias", FileDtype::F32, vec![WIDTH]),
            ("norm.weight", FileDtype::F32, vec![WIDTH]),
            ("positions.weight", FileDtype::F32, vec![77, WIDTH]),
            ("table.weight", dtype, vec![1024, row(WIDTH)]),
            ("table.weight_scale", FileDtype::F16, vec![1024, 2]),
            ("up.bias", FileDtype::F32, vec![HIDDEN]),
            ("up.weight", dtype, vec![HIDDEN, row(WIDTH)]),
            ("up.weight_scale", FileDtype::F16, vec![HIDDEN, 2]),
        ];
        assert_eq!(found, expected);
        // Its values count once: rows of 45 in 4 bits as 46.
        let padded = if bits == WeightBits::Four { 1024 + HIDDEN } else { 0 };
        let parameters = model().num_params() + padded;
        assert_eq!(files.summary().unwrap().parameters, parameters as u64);
    }
    let copy = root.path().join("copy");
    copy_weights(&copy, WeightsName::Model, &files).unwrap();
    let original = std::fs::read(root.path().join("a/model.safetensors")).unwrap();
    assert!(std::fs::read(copy.join("model.safetensors")).unwrap() == original);
}

#[test]
fn loading_and_quantising_while_loading_give_the_same_weights() {
    let root = tempfile::tempdir().unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let files = original(&root.path().join(format!("{dtype:?}")), dtype);
        let exact = load(&files, LoadOptions::new(DType::F32)).unwrap();
        for bits in BITS {
            let stored = quantize(&root.path().join(format!("{dtype:?} {bits}")), &files, bits);
            let kept = load(&stored, options().with_quantized(Some(bits))).unwrap();
            let at_load = load(&files, options().with_quantize(Some(bits))).unwrap();
            let expanded = LoadOptions::new(DType::F32).with_quantized(Some(bits));
            let expanded = load(&stored, expanded).unwrap();
            let rounded = LoadOptions::new(DType::F32).with_quantize(Some(bits));
            let rounded = load(&files, rounded).unwrap();
            for model in [&kept, &at_load] {
                for weight in [&model.table.weight, &model.up.weight, &model.down.weight] {
                    assert_eq!(quantized_bits(&weight.val()), Some(bits));
                }
                assert_eq!(model.positions.weight.val().dtype(), DType::F32);
            }
            for model in [&at_load, &expanded, &rounded] {
                for (a, b) in [(&kept.table.weight, &model.table.weight)]
                    .into_iter()
                    .chain([(&kept.up.weight, &model.up.weight)])
                    .chain([(&kept.down.weight, &model.down.weight)])
                {
                    assert!(host(a.val()) == host(b.val()), "{dtype:?} in {bits}");
                }
            }
            for (a, b) in [
                (&kept.table.weight, &exact.table.weight),
                (&kept.up.weight, &exact.up.weight),
                (&kept.down.weight, &exact.down.weight),
            ] {
                let (a, b) = (host(a.val()), host(b.val()));
                let square = |x: f32| f64::from(x * x);
                let error: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
                let error = (error / b.iter().map(|&b| square(b)).sum::<f64>()).sqrt();
                // The measured errors of normal weights are 0.005 and 0.08.
                let most = if bits == WeightBits::Eight { 0.008 } else { 0.1 };
                assert!(error > 0.0 && error < most, "{error} in {bits}");
            }
            // And they compute the same.
            let x = Tensor::<2>::random([3, WIDTH], Distribution::Default, &Device::flex());
            let of =
                |model: &Model| host(linear_layer(&model.down, linear_layer(&model.up, x.clone())));
            assert!(of(&kept) == of(&expanded));
            let ids = Tensor::from_data([[5, 1023, 0]], &Device::flex());
            let rows = |model: &Model| host(embed(&model.table, ids.clone()));
            assert!(rows(&kept) == rows(&expanded));
        }
    }
}

#[test]
fn weights_expand_to_half_precision() {
    let root = tempfile::tempdir().unwrap();
    let files = original(&root.path().join("a"), DType::F32);
    let wide = load(&files, LoadOptions::new(DType::F32).with_quantize(Some(BITS[0]))).unwrap();
    for dtype in [DType::BF16, DType::F16] {
        let narrow = load(&files, LoadOptions::new(dtype).with_quantize(Some(BITS[0]))).unwrap();
        assert_eq!(narrow.up.weight.val().dtype(), dtype);
        let rounded = wide.up.weight.val().cast(dtype).cast(DType::F32);
        assert!(host(rounded) == host(narrow.up.weight.val().cast(DType::F32)));
    }
}

#[test]
fn a_quantised_model_is_saved_as_its_values() {
    let root = tempfile::tempdir().unwrap();
    let files = original(&root.path().join("a"), DType::F32);
    let kept = load(&files, options().with_quantize(Some(WeightBits::Four))).unwrap();
    let dir = root.path().join("b");
    let write = WriteOptions::new(WeightsName::Model, DType::F32);
    save_module(&dir, &kept, &keys(), &write).unwrap();
    let saved = load(&WeightFiles::open(&dir).unwrap(), LoadOptions::new(DType::F32)).unwrap();
    assert!(host(saved.up.weight.val()) == host(kept.up.weight.val()));
    assert!(host(saved.table.weight.val()) == host(kept.table.weight.val()));
}

/// A tensor of a file: key, dtype, shape and bytes.
type Stored = (&'static str, FileDtype, Vec<usize>, Vec<u8>);

fn one_linear(tensors: Vec<Stored>, bits: Option<WeightBits>) -> Result<(), CheckpointError> {
    let dir = tempfile::tempdir().unwrap();
    let views = tensors.iter().map(|(key, dtype, shape, bytes)| {
        (*key, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let files = WeightFiles::open(dir.path())?;
    let linear = || LinearConfig::new(3, 2).with_bias(false).init(&Device::flex());
    let options = options().with_quantized(bits);
    check_module::<Linear>(&linear(), &files, &KeyMap::default(), options)?;
    load_module::<Linear>(linear(), &files, &KeyMap::default(), options).map(drop)
}

#[test]
fn refuses_malformed_quantised_weights() {
    use CheckpointError as E;

    let one = half::f16::ONE.to_le_bytes().repeat(2);
    let nan = half::f16::NAN.to_le_bytes().repeat(2);
    let values = |dtype, columns: usize, byte: u8| -> Stored {
        ("weight", dtype, vec![2, columns], vec![byte; 2 * columns])
    };
    let scales = |dtype, shape: &[usize], bytes: &[u8]| -> Stored {
        ("weight_scale", dtype, shape.to_vec(), bytes.to_vec())
    };
    let good = || scales(FileDtype::F16, &[2, 1], &one);
    let (eight, four) = (Some(WeightBits::Eight), Some(WeightBits::Four));
    one_linear(vec![values(FileDtype::I8, 3, 5), good()], eight).unwrap();
    one_linear(vec![values(FileDtype::U8, 2, 8), good()], four).unwrap();

    type Expected = fn(&CheckpointError) -> bool;
    let mismatch: Expected = |e| matches!(e, E::Mismatch(_));
    let dtype: Expected = |e| matches!(e, E::QuantizedDtype { .. });
    let data: Expected = |e| matches!(e, E::QuantizedData { .. });
    let cases: Vec<(&str, Vec<Stored>, Option<WeightBits>, Expected)> = vec![
        ("no scales", vec![values(FileDtype::I8, 3, 5)], eight, mismatch),
        ("only scales", vec![good()], eight, mismatch),
        ("no key in the config", vec![values(FileDtype::I8, 3, 5), good()], None, mismatch),
        ("too few columns", vec![values(FileDtype::I8, 2, 5), good()], eight, mismatch),
        ("bytes of 8 bits as 4", vec![values(FileDtype::U8, 3, 5), good()], four, mismatch),
        (
            "scales of another shape",
            vec![values(FileDtype::I8, 3, 5), scales(FileDtype::F16, &[1, 2], &one)],
            eight,
            mismatch,
        ),
        ("other bits", vec![values(FileDtype::I8, 3, 5), good()], four, dtype),
        (
            "scales of another dtype",
            vec![values(FileDtype::I8, 3, 5), scales(FileDtype::BF16, &[2, 1], &one)],
            eight,
            dtype,
        ),
        (
            "a scale that is not a number",
            vec![values(FileDtype::I8, 3, 5), scales(FileDtype::F16, &[2, 1], &nan)],
            eight,
            data,
        ),
        ("-128", vec![values(FileDtype::I8, 3, 0x80), good()], eight, data),
        ("a used last half", vec![values(FileDtype::U8, 2, 0x18), good()], four, data),
        (
            "nothing quantised",
            vec![("weight", FileDtype::F32, vec![2, 3], vec![0; 24])],
            eight,
            |e| matches!(e, E::NotQuantized { .. }),
        ),
    ];
    for (what, tensors, bits, expected) in cases {
        let error = one_linear(tensors, bits).expect_err(what);
        assert!(expected(&error), "{what}: {error:?}");
        let message = error.to_string();
        assert!(message.contains("weight"), "{what}: {message}");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_and_leave_no_files() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a");
    let specs = module_tensors(&model(), &keys()).unwrap();
    let tensors: Vec<_> = specs
        .into_iter()
        .map(|spec| {
            let value = if spec.key == "up.weight" { f32::NAN } else { 0.5 };
            let count = spec.shape.iter().product();
            (spec, vec![value; count])
        })
        .collect();
    save_tensors(&dir, &tensors, &WriteOptions::new(WeightsName::Model, DType::F32)).unwrap();
    let files = WeightFiles::open(&dir).unwrap();
    let (bits, out) = (WeightBits::Four, root.path().join("b"));
    let written = quantize_weights(&out, WeightsName::Model, &model(), &keys(), &files, bits);
    let loaded = load(&files, options().with_quantize(Some(bits))).map(drop);
    for error in [written.unwrap_err(), loaded.unwrap_err()] {
        assert!(matches!(error, CheckpointError::Unquantizable { .. }), "{error:?}");
        assert!(error.to_string().contains("up.weight"), "{error}");
    }
    assert!(!out.exists());
    let again = quantize_weights(&dir, WeightsName::Model, &model(), &keys(), &files, bits);
    assert!(matches!(again, Err(CheckpointError::NotEmpty { .. })), "{again:?}");
}
