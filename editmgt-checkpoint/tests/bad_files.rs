//! Damaged and malicious checkpoints: typed errors that name file and key, and no panics.
#![forbid(unsafe_code)]

use std::path::Path;

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device};
use editmgt_checkpoint::{CheckpointError, HeaderError, WeightFiles, load_module};
use editmgt_core::KeyMap;

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A file with the given header.
fn file(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data_len).map(|i| i as u8));
    bytes
}

fn with_prefix(prefix: u64, rest: &[u8]) -> Vec<u8> {
    [&prefix.to_le_bytes(), rest].concat()
}

fn header(tensors: &[(&str, &str, &str, [u64; 2])]) -> String {
    let entries = tensors.iter().map(|(key, dtype, shape, [start, end])| {
        format!(r#""{key}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    });
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

/// `Linear` with 3 inputs and 2 outputs.
fn linear() -> Linear {
    LinearConfig::new(3, 2).init(&Device::flex())
}

fn load(dir: &Path) -> Result<Linear, CheckpointError> {
    load_module(linear(), &WeightFiles::open(dir)?, &KeyMap::default(), DType::F32)
}

fn good_header() -> String {
    header(&[("weight", "F32", "[2,3]", [0, 24]), ("bias", "F32", "[2]", [24, 32])])
}

#[test]
fn the_undamaged_file_loads() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), file(&good_header(), 32)).unwrap();
    load(dir.path()).unwrap();
}

#[test]
fn rejects_damaged_files() {
    use CheckpointError as E;
    use HeaderError as H;

    type Expected = fn(&CheckpointError) -> bool;
    macro_rules! expect {
        ($pattern:pat) => {
            (|error| matches!(error, $pattern)) as Expected
        };
    }
    macro_rules! bad_header {
        ($pattern:pat) => {
            expect!(E::Header { cause: $pattern, .. })
        };
    }

    let good = file(&good_header(), 32);
    let two = |first: [u64; 2], second: [u64; 2]| {
        file(&header(&[("a", "F32", "[2]", first), ("b", "F32", "[2]", second)]), 16)
    };
    let one = |dtype, shape, offsets, len| file(&header(&[("weight", dtype, shape, offsets)]), len);
    let huge = u64::MAX.to_string();
    let overflowing = format!("[{huge},{huge}]");
    let long_shape = format!("[{}]", vec!["2"; 70].join(","));

    // (what, file, error, what its message names)
    let cases: Vec<(&str, Vec<u8>, Expected, &str)> = vec![
        ("empty", vec![], bad_header!(H::TooShort { .. }), FILE),
        ("seven bytes", vec![0; 7], bad_header!(H::TooShort { .. }), FILE),
        ("no header", vec![0; 8], bad_header!(H::Json(_)), FILE),
        ("length past the end", with_prefix(1000, b"{}"), bad_header!(H::PastEnd { .. }), FILE),
        ("huge length", with_prefix(1 << 40, b"{}"), bad_header!(H::TooLarge { .. }), FILE),
        ("negative length", with_prefix(u64::MAX, b"{}"), bad_header!(H::TooLarge { .. }), FILE),
        ("a web page", b"<!doctype html><html>".to_vec(), bad_header!(H::TooLarge { .. }), FILE),
        ("not JSON", file("weights!", 0), bad_header!(H::Json(_)), FILE),
        ("not UTF-8", with_prefix(4, b"{\"\xff\""), bad_header!(H::Json(_)), FILE),
        ("an array", file("[1,2]", 0), bad_header!(H::Json(_)), FILE),
        ("deep nesting", file(&"[".repeat(100_000), 0), bad_header!(H::Json(_)), FILE),
        (
            "truncated data",
            good[..good.len() - 1].to_vec(),
            bad_header!(H::DataLength { .. }),
            FILE,
        ),
        ("trailing data", [&good[..], b"x"].concat(), bad_header!(H::DataLength { .. }), FILE),
        ("overlap", two([0, 8], [4, 12]), bad_header!(H::Offsets { .. }), "\"b\""),
        ("same bytes twice", two([0, 8], [0, 8]), bad_header!(H::Offsets { .. }), "\"b\""),
        ("gap", two([0, 8], [12, 20]), bad_header!(H::Offsets { .. }), "\"b\""),
        ("gap at the start", two([4, 12], [12, 20]), bad_header!(H::Offsets { .. }), "\"a\""),
        ("backwards", two([0, 8], [8, 4]), bad_header!(H::Offsets { .. }), "\"b\""),
        ("past the end", two([0, 8], [8, 16 + 8]), bad_header!(H::Size { .. }), "\"b\""),
        (
            "far past the end",
            one("F32", "[36028797018963968]", [0, 1 << 57], 16),
            bad_header!(H::DataLength { .. }),
            FILE,
        ),
        (
            "negative offset",
            one("F32", "[2]", [0, 8], 8)
                .iter()
                .map(|&b| if b == b'0' { b'-' } else { b })
                .collect(),
            bad_header!(H::Json(_)),
            FILE,
        ),
        ("size and shape", one("F32", "[3]", [0, 8], 8), bad_header!(H::Size { .. }), "\"weight\""),
        ("size and dtype", one("F16", "[2]", [0, 8], 8), bad_header!(H::Size { .. }), "\"weight\""),
        ("part of a byte", one("F4", "[3]", [0, 1], 1), bad_header!(H::Size { .. }), "\"weight\""),
        (
            "overflow",
            one("F32", &overflowing, [0, 8], 8),
            bad_header!(H::Size { .. }),
            "\"weight\"",
        ),
        (
            "high rank",
            one("F32", &long_shape, [0, 8], 8),
            bad_header!(H::Size { .. }),
            "\"weight\"",
        ),
        ("negative side", one("F32", "[-2]", [0, 8], 8), bad_header!(H::Json(_)), "\"weight\""),
        ("unknown dtype", one("F99", "[2]", [0, 8], 8), bad_header!(H::Json(_)), "\"weight\""),
        (
            "key twice",
            two([0, 8], [8, 16]).iter().map(|&b| if b == b'b' { b'a' } else { b }).collect(),
            bad_header!(H::Json(_)),
            FILE,
        ),
        (
            "metadata no text",
            file(r#"{"__metadata__":{"a":1}}"#, 0),
            bad_header!(H::Json(_)),
            "__metadata__",
        ),
        ("no tensors", file("{}", 0), expect!(E::Mismatch(_)), "2 missing"),
        (
            "integers",
            file(&good_header().replace("\"F32\",\"shape\":[2]", "\"I32\",\"shape\":[2]"), 32),
            expect!(E::Dtype { .. }),
            "\"bias\"",
        ),
        (
            "double precision",
            file(
                &header(&[("weight", "F64", "[2,3]", [0, 48]), ("bias", "F32", "[2]", [48, 56])]),
                56,
            ),
            expect!(E::Dtype { .. }),
            "\"weight\"",
        ),
        (
            "transposed",
            file(&good_header().replace("[2,3]", "[3,2]"), 32),
            expect!(E::Mismatch(_)),
            "weight (expected [2, 3], got [3, 2]",
        ),
        (
            "one more",
            file(&good_header().replace("bias", "Bias"), 32),
            expect!(E::Mismatch(_)),
            "1 unused: Bias",
        ),
    ];
    for (what, bytes, expected, named) in cases {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(expected(&error), "{what}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(named), "{what}: {message}");
        assert!(message.contains(&*dir.path().to_string_lossy()), "{what}: {message}");
    }
}

#[test]
fn rejects_damaged_shards() {
    use CheckpointError as E;

    let weight = file(&header(&[("weight", "F32", "[2,3]", [0, 24])]), 24);
    let bias = file(&header(&[("bias", "F32", "[2]", [0, 8])]), 8);
    let both = file(&good_header(), 32);
    let map = |weight: &str, bias: &str| {
        format!(r#"{{"metadata":{{}},"weight_map":{{"weight":{weight:?},"bias":{bias:?}}}}}"#)
    };

    type Expected = fn(&CheckpointError) -> bool;
    let cases: Vec<(&str, String, Expected, &str)> = vec![
        ("elsewhere", map("w.st", "../b.st"), |e| matches!(e, E::ShardName { .. }), "../b.st"),
        ("absolute", map("w.st", "/b.st"), |e| matches!(e, E::ShardName { .. }), "/b.st"),
        ("deeper", map("w.st", "x/b.st"), |e| matches!(e, E::ShardName { .. }), "x/b.st"),
        ("this folder", map("w.st", "."), |e| matches!(e, E::ShardName { .. }), "\".\""),
        ("another drive", map("w.st", "c:b.st"), |e| matches!(e, E::ShardName { .. }), "c:b.st"),
        ("windows", map("w.st", "..\\b.st"), |e| matches!(e, E::ShardName { .. }), "b.st"),
        ("no name", map("w.st", ""), |e| matches!(e, E::ShardName { .. }), "\"\""),
        ("missing", map("w.st", "c.st"), |e| matches!(e, E::MissingShard { .. }), "c.st"),
        ("a folder", map("w.st", "folder"), |e| matches!(e, E::NotAFile { .. }), "folder"),
        ("swapped", map("b.st", "w.st"), |e| matches!(e, E::NotInShard { .. }), "weight"),
        ("twice", map("both.st", "b.st"), |e| matches!(e, E::DuplicateKey { .. }), "\"bias\""),
        (
            "not named",
            r#"{"weight_map":{"weight":"both.st"}}"#.into(),
            |e| matches!(e, E::NotInIndex { .. }),
            "\"bias\"",
        ),
        ("no map", "{}".into(), |e| matches!(e, E::Index { .. }), "weight_map"),
        ("empty", r#"{"weight_map":{}}"#.into(), |e| matches!(e, E::Index { .. }), "no shard"),
        ("not JSON", "weights".into(), |e| matches!(e, E::Index { .. }), INDEX),
        ("damaged", map("w.st", "bad.st"), |e| matches!(e, E::Header { .. }), "bad.st"),
    ];
    for (what, index, expected, named) in cases {
        let dir = tempfile::tempdir().unwrap();
        let shards: [(&str, &[u8]); 4] =
            [("w.st", &weight), ("b.st", &bias), ("both.st", &both), ("bad.st", b"short")];
        for (name, bytes) in shards {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        std::fs::write(dir.path().join(INDEX), map("w.st", "b.st")).unwrap();
        load(dir.path()).unwrap();
        std::fs::write(dir.path().join(INDEX), index).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(expected(&error), "{what}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(named), "{what}: {message}");
        assert!(message.contains(&*dir.path().to_string_lossy()), "{what}: {message}");
    }
}

#[test]
fn rejects_missing_and_ambiguous_weights() {
    use CheckpointError as E;

    let good = file(&good_header(), 32);
    type Expected = fn(&CheckpointError) -> bool;
    let cases: Vec<(&[&str], Expected, &str)> = vec![
        (&[], |e| matches!(e, E::NoWeights { .. }), "found none"),
        (&["model.ckpt"], |e| matches!(e, E::OnlyPickles { .. }), "model.ckpt"),
        #[cfg(not(feature = "pytorch"))]
        (
            &["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
            |e| matches!(e, E::OnlyPickles { .. }),
            "scripts/pickle_to_safetensors.py",
        ),
        (&["lora.safetensors", "pytorch_model.bin"], |e| matches!(e, E::NoWeights { .. }), "lora"),
        (&["training_args.bin"], |e| matches!(e, E::NoWeights { .. }), "found none"),
        (&["golden.safetensors"], |e| matches!(e, E::NoWeights { .. }), "golden.safetensors"),
        (&["lora.safetensors"], |e| matches!(e, E::NoWeights { .. }), "lora.safetensors"),
        (
            &[FILE, "diffusion_pytorch_model.safetensors"],
            |e| matches!(e, E::SeveralWeights { .. }),
            FILE,
        ),
        (&[FILE, INDEX], |e| matches!(e, E::SeveralWeights { .. }), INDEX),
    ];
    for (names, expected, named) in cases {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), &good).unwrap();
        }
        let error = load(dir.path()).unwrap_err();
        assert!(expected(&error) && error.to_string().contains(named), "{names:?}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), &good).unwrap();
    std::fs::write(dir.path().join("golden.safetensors"), b"not looked at").unwrap();
    load(dir.path()).unwrap();
    assert!(matches!(load(&dir.path().join("nowhere")), Err(E::Io { .. })));
    assert!(matches!(load(&dir.path().join(FILE)), Err(E::Io { .. })));
}

#[test]
fn a_file_truncated_after_opening_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let good = file(&good_header(), 32);
    std::fs::write(&path, &good).unwrap();
    let files = WeightFiles::open(dir.path()).unwrap();
    std::fs::write(&path, &good[..good.len() - 30]).unwrap();
    let error = load_module(linear(), &files, &KeyMap::default(), DType::F32).unwrap_err();
    assert!(matches!(&error, CheckpointError::Io { path: p, .. } if *p == path), "{error:?}");
}

/// No panics; a flipped bit in the data may load as another weight.
#[test]
fn flipped_bits_never_panic() {
    let good = file(&good_header(), 32);
    let mut state = 1u64;
    let mut random = |below: usize| {
        // Knuth's MMIX generator, for reproducible positions.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut loaded) = (0, 0);
    for _ in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] ^= 1 << random(8);
        }
        if random(8) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), &bytes).unwrap();
        match load(dir.path()) {
            Ok(_) => loaded += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 2000 && loaded > 100, "{refused} refused, {loaded} loaded");
}
