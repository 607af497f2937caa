//! Weights as `torch.save` writes them: read where a folder has nothing else, and never run.
//! `scripts/make_pickle_fixtures.py` writes the files.
#![forbid(unsafe_code)]
#![cfg(feature = "pytorch")]

use std::path::{Path, PathBuf};

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device};
use editmgt_checkpoint::{CheckpointError, FileDtype, PickleError, WeightFiles, load_module};
use editmgt_core::KeyMap;

const WEIGHT: [f32; 6] = [1.0, -2.0, 3.0, 4.0, 0.5, -6.0];
const BIAS: [f32; 2] = [0.25, -0.125];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A folder with copies of fixtures under other names.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, from) in files {
        std::fs::copy(fixture(from), dir.path().join(name)).unwrap();
    }
    dir
}

fn load(dir: &Path) -> Result<Linear, CheckpointError> {
    let linear = LinearConfig::new(3, 2).init(&Device::flex());
    load_module(linear, &WeightFiles::open(dir)?, &KeyMap::default(), DType::F32)
}

/// Weight and bias as PyTorch stores them: the weight as `[outputs, inputs]`.
fn numbers(linear: &Linear) -> (Vec<f32>, Vec<f32>) {
    let weight = linear.weight.val().transpose().into_data().try_to_vec().unwrap();
    let bias = linear.bias.as_ref().unwrap().val().into_data().try_to_vec().unwrap();
    (weight, bias)
}

#[test]
fn reads_every_form_of_a_state_dict() {
    for name in ["linear", "linear_old", "nested", "halves", "views", "views_old"] {
        let dir = folder(&[("pytorch_model.bin", &format!("good/{name}.bin"))]);
        let linear = load(dir.path()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(numbers(&linear), (WEIGHT.to_vec(), BIAS.to_vec()), "{name}");
        let files = WeightFiles::open(dir.path()).unwrap();
        assert!(!files.is_safetensors());
        assert_eq!(files.values("weight").unwrap().unwrap(), WEIGHT, "{name}");
        let summary = files.summary().unwrap();
        assert_eq!((summary.tensors, summary.parameters, summary.files), (2, 8, 1), "{name}");
    }
    let dir = folder(&[("model.pt", "good/halves.bin")]);
    let files = WeightFiles::open(dir.path()).unwrap();
    let dtypes: Vec<_> = files.entries().values().map(|entry| entry.dtype).collect();
    assert_eq!(dtypes, [FileDtype::BF16, FileDtype::F16]);
}

#[test]
fn safetensors_win_and_variants_are_chosen_by_name() {
    let good = ("pytorch_model.bin", "good/linear.bin");
    // Broken beside the file that is read.
    for broken in ["pytorch_model.fp16.bin", "other.pt", "training_args.bin", "model.ckpt"] {
        load(folder(&[good, (broken, "bad/system.bin")]).path()).unwrap();
    }
    let dir = folder(&[good, ("model.safetensors", "bad/system.bin")]);
    assert!(matches!(load(dir.path()), Err(CheckpointError::Header { .. })));
    let dir = folder(&[good, ("lora.safetensors", "bad/system.bin")]);
    assert!(matches!(load(dir.path()), Err(CheckpointError::NoWeights { .. })));

    let dir = folder(&[("pytorch_model.fp16.bin", "good/halves.bin"), good]);
    assert_eq!(WeightFiles::variants(dir.path()).unwrap(), ["fp16"]);
    let files = WeightFiles::open_variant(dir.path(), Some("fp16")).unwrap();
    assert_eq!(files.entries()["weight"].dtype, FileDtype::F16);
    let missing = WeightFiles::open_variant(dir.path(), Some("bf16"));
    assert!(matches!(missing, Err(CheckpointError::NoVariant { .. })));

    // Expected values of `editmgt verify` are no weights.
    load(folder(&[good, ("golden.safetensors", "bad/system.bin")]).path()).unwrap();

    let two = folder(&[("diffusion_pytorch_model.bin", "good/linear.bin"), good]);
    assert!(matches!(load(two.path()), Err(CheckpointError::SeveralWeights { .. })));
    let unnamed = folder(&[("a.pt", "good/linear.bin"), ("b.pt", "good/linear.bin")]);
    assert!(matches!(load(unnamed.path()), Err(CheckpointError::OnlyPickles { .. })));
    let lightning = folder(&[("model.ckpt", "good/linear.bin")]);
    assert!(matches!(load(lightning.path()), Err(CheckpointError::OnlyPickles { .. })));
}

#[test]
fn shards_are_read_by_their_index() {
    let shard = "pytorch_model-00001-of-00001.bin";
    let dir = folder(&[(shard, "good/linear.bin")]);
    let index = |map: &str| {
        let text = format!(r#"{{"metadata": {{}}, "weight_map": {{{map}}}}}"#);
        std::fs::write(dir.path().join("pytorch_model.bin.index.json"), text).unwrap();
        load(dir.path())
    };
    let linear = index(&format!(r#""weight": "{shard}", "bias": "{shard}""#)).unwrap();
    assert_eq!(numbers(&linear), (WEIGHT.to_vec(), BIAS.to_vec()));
    use CheckpointError as E;
    let error = index(&format!(r#""weight": "{shard}""#)).unwrap_err();
    assert!(matches!(error, E::NotInIndex { .. }), "{error}");
    let error = index(&format!(r#""weight": "{shard}", "bias": "{shard}", "x": "{shard}""#));
    assert!(matches!(error, Err(E::NotInShard { .. })), "{error:?}");
    let error = index(&format!(r#""weight": "{shard}", "bias": "two.bin""#)).unwrap_err();
    assert!(matches!(error, E::MissingShard { .. }), "{error}");
    let error = index(r#""weight": "../pytorch_model.bin""#).unwrap_err();
    assert!(matches!(error, E::ShardName { .. }), "{error}");
}

#[test]
fn rejects_hostile_and_damaged_files() {
    use CheckpointError as E;
    use PickleError as P;

    type Expected = fn(&CheckpointError) -> bool;
    macro_rules! pickle {
        ($pattern:pat) => {
            (|e| matches!(e, E::Pickle { cause: $pattern, .. })) as Expected
        };
    }
    let cases: Vec<(&str, Expected, &str)> = vec![
        ("double", |e| matches!(e, E::Dtype { got: FileDtype::F64, .. }), "weight"),
        ("long", |e| matches!(e, E::Dtype { got: FileDtype::I64, .. }), "weight"),
        ("other_shape", |e| matches!(e, E::Mismatch(_)), "[3, 2]"),
        ("other_name", |e| matches!(e, E::Mismatch(_)), "scale"),
        ("system", pickle!(P::Name { .. }), "posix.system"),
        ("system_beside", pickle!(P::Name { .. }), "it was not called"),
        ("system_old", pickle!(P::Name { .. }), "posix.system"),
        ("eval", pickle!(P::Name { .. }), "builtin"),
        ("foreign", pickle!(P::Name { .. }), "some_trainer.Foreign"),
        ("protocol4", pickle!(P::Protocol { protocol: 4 }), "protocol 4"),
        ("opcode", pickle!(P::Opcode { code: b'0', at: 3 }), "0x30 at byte 3"),
        ("no_opcode", pickle!(P::Opcode { code: 0xff, at: 2 }), "0xff"),
        ("list", pickle!(P::NotADict { .. }), "found list"),
        ("number", pickle!(P::NotATensor { .. }), "\"weight\": expected a tensor, found int"),
        ("deeper", pickle!(P::NotATensor { .. }), "\"layer\": expected a tensor, found dict"),
        ("cycle", pickle!(P::NotATensor { .. }), "found list"),
        ("memo_bomb", pickle!(P::Malformed(_)), "memo bomb"),
        ("depth", pickle!(P::Malformed(_)), "nesting"),
        ("compressed", pickle!(P::Compressed { .. }), "archive/data.pkl"),
        ("two_pickles", pickle!(P::Pickles { count: 2 }), "found 2"),
        ("no_pickle", pickle!(P::Pickles { count: 0 }), "found 0"),
        ("no_storage", |e| matches!(e, E::Io { .. }), "data/1"),
        ("short_storage", |e| matches!(e, E::Io { .. }), "requires 6 elements"),
        ("past_storage", pickle!(P::Malformed(_)), "needs 6 elements"),
        ("expanded", pickle!(P::Expanded { .. }), "view of 4294967296 bytes"),
        ("overflow", pickle!(P::Malformed(_)), "overflows"),
        ("string_past_end", pickle!(P::Truncated), "truncated"),
    ];
    let files: Vec<_> = std::fs::read_dir(fixture("bad")).unwrap().collect();
    assert_eq!(files.len(), cases.len(), "each bad file has its case");
    for (name, expected, named) in cases {
        let dir = folder(&[("pytorch_model.bin", &format!("bad/{name}.bin"))]);
        let error = load(dir.path()).unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(named), "{name}: {message}");
        assert!(message.contains(&*dir.path().to_string_lossy()), "{name}: {message}");
    }
    // What the pickles of `system` and `eval` would write.
    assert!(!Path::new("hostile-pickle-was-run").exists());
}

/// Loads bytes as the only weights of a folder.
fn load_bytes(bytes: &[u8]) -> Result<Linear, CheckpointError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
    load(dir.path())
}

#[test]
fn rejects_files_cut_anywhere_and_files_of_other_formats() {
    for name in ["good/linear.bin", "good/linear_old.bin"] {
        let good = std::fs::read(fixture(name)).unwrap();
        for length in 0..good.len() {
            let error = load_bytes(&good[..length]).unwrap_err();
            let is_typed = matches!(error, CheckpointError::Pickle { .. });
            assert!(is_typed, "{name}, {length} bytes: {error:?}");
        }
    }
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, expected) in [
        (&b"version https://git-lfs.github.com/spec/v1"[..], "not a file that torch.save writes"),
        (b"<!DOCTYPE html>", "not a file that torch.save writes"),
        (b"\x80\x02}.", "not a file that torch.save writes"),
        (b"", "not a file that torch.save writes"),
        (&tar, "TAR"),
    ] {
        let error = load_bytes(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn pickles_longer_than_any_weights_are_refused_before_they_are_parsed() {
    let start = &std::fs::read(fixture("good/linear_old.bin")).unwrap()[..14];
    let with = |more: Vec<u8>| load_bytes(&[start, &more].concat()).unwrap_err();
    let error = with(vec![b']'; 1_100_000]);
    let expected = |e: &CheckpointError, cause: PickleError| match e {
        CheckpointError::Pickle { cause: got, .. } => *got == cause,
        _ => false,
    };
    assert!(expected(&error, PickleError::TooManyOpcodes { limit: 1_000_000 }), "{error:?}");
    // One string of 9 MiB.
    let mut string = b"X".to_vec();
    string.extend((9u32 << 20).to_le_bytes());
    string.resize(10 << 20, b'a');
    let error = with(string);
    assert!(expected(&error, PickleError::TooLong { limit: 8 << 20 }), "{error:?}");
}

/// No panics; a flipped bit in the data of an old file, which has no checksum, loads as another
/// weight.
#[test]
fn flipped_bits_never_panic() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        // Knuth's MMIX generator, for reproducible positions.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut loaded) = (0, 0);
    for name in ["good/linear.bin", "good/linear_old.bin", "good/views.bin"] {
        let good = std::fs::read(fixture(name)).unwrap();
        for _ in 0..700 {
            let mut bytes = good.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] ^= 1 << random(8);
            }
            match load_bytes(&bytes) {
                Ok(_) => loaded += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000 && loaded > 50, "{refused} refused, {loaded} loaded");
}
