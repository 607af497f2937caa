//! Folders as they are downloaded: several variants of the weights, files of systems, links into a
//! cache.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use editmgt_checkpoint::{CheckpointError, FileDtype, WeightFiles};
use safetensors::tensor::TensorView;

/// A safetensors file of vectors of two f32 values.
fn weights(keys: &[&str], value: f32) -> Vec<u8> {
    let data = value.to_le_bytes().repeat(2);
    let view = TensorView::new(FileDtype::F32, vec![2], &data).unwrap();
    safetensors::serialize(keys.iter().map(|&key| (key, view.clone())), None).unwrap()
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// The first value of the tensor `a`, which tells the sets apart.
fn first(files: &WeightFiles) -> f32 {
    files.values("a").unwrap().unwrap()[0]
}

fn index(shards: [&str; 2]) -> Vec<u8> {
    let [a, b] = shards;
    format!(r#"{{"metadata": {{}}, "weight_map": {{"a": "{a}", "b": "{b}"}}}}"#).into_bytes()
}

#[test]
fn plain_files_win_unless_a_variant_is_requested() {
    let dir = folder(&[
        ("model.safetensors", weights(&["a"], 1.0)),
        ("model.fp16.safetensors", weights(&["a"], 2.0)),
        ("model.non_ema.safetensors", weights(&["a"], 3.0)),
    ]);
    let dir = dir.path();
    assert_eq!(WeightFiles::variants(dir).unwrap(), ["fp16", "non_ema"]);
    let plain = WeightFiles::open(dir).unwrap();
    assert_eq!((first(&plain), plain.variant()), (1.0, None));
    for (variant, expected) in [("fp16", 2.0), ("non_ema", 3.0)] {
        let files = WeightFiles::open_variant(dir, Some(variant)).unwrap();
        assert_eq!((first(&files), files.variant()), (expected, Some(variant)));
    }
    let error = WeightFiles::open_variant(dir, Some("bf16")).unwrap_err();
    assert!(matches!(&error, CheckpointError::NoVariant { .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("\"bf16\"") && message.contains("model.fp16.safetensors"),
        "{message}"
    );

    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let error = WeightFiles::open(dir).unwrap_err();
    assert!(matches!(&error, CheckpointError::SeveralVariants { .. }), "{error}");
    assert!(error.to_string().contains("--variant"), "{error}");
    fs::remove_file(dir.join("model.non_ema.safetensors")).unwrap();
    let only = WeightFiles::open(dir).unwrap();
    assert_eq!((first(&only), only.variant()), (2.0, Some("fp16")));
}

#[test]
fn sharded_variants_have_an_index_of_their_own() {
    for (index_name, shards) in [
        (
            "model.fp16.safetensors.index.json",
            ["model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors"],
        ),
        (
            "model.safetensors.index.fp16.json",
            ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"],
        ),
    ] {
        let dir = folder(&[
            (index_name, index(shards)),
            (shards[0], weights(&["a"], 2.0)),
            (shards[1], weights(&["b"], 2.0)),
        ]);
        let only = WeightFiles::open(dir.path()).unwrap();
        assert_eq!((first(&only), only.entries().len(), only.files().len()), (2.0, 2, 2));
        // Beside a plain set, sharded or not.
        let plain = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        fs::write(dir.path().join("model.safetensors.index.json"), index(plain)).unwrap();
        fs::write(dir.path().join(plain[0]), weights(&["a"], 1.0)).unwrap();
        fs::write(dir.path().join(plain[1]), weights(&["b"], 1.0)).unwrap();
        assert_eq!(first(&WeightFiles::open(dir.path()).unwrap()), 1.0);
        let variant = WeightFiles::open_variant(dir.path(), Some("fp16")).unwrap();
        assert_eq!((first(&variant), variant.entries().len()), (2.0, 2));
        fs::remove_file(dir.path().join(shards[1])).unwrap();
        let error = WeightFiles::open_variant(dir.path(), Some("fp16")).unwrap_err();
        assert!(matches!(error, CheckpointError::MissingShard { .. }), "{error}");
    }
}

#[test]
fn two_sets_of_one_variant_are_refused() {
    let dir = folder(&[
        ("model.fp16.safetensors", weights(&["a"], 1.0)),
        ("diffusion_pytorch_model.fp16.safetensors", weights(&["a"], 2.0)),
    ]);
    let error = WeightFiles::open(dir.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::SeveralWeights { .. }), "{error}");
}

#[test]
fn files_of_systems_and_libraries_are_ignored() {
    let junk = b"not weights".to_vec();
    let dir = folder(&[
        ("model.safetensors", weights(&["a"], 1.0)),
        ("._model.safetensors", junk.clone()),
        ("._model.fp16.safetensors", junk.clone()),
        (".model.safetensors.index.json", junk.clone()),
        (".DS_Store", junk.clone()),
        (".gitattributes", junk.clone()),
        ("Thumbs.db", junk.clone()),
        ("README.md", junk.clone()),
        ("model.bin", junk.clone()),
        ("transformer.py", junk.clone()),
        ("generation_config.json", junk.clone()),
        ("tokenizer.model", junk),
    ]);
    assert_eq!(first(&WeightFiles::open(dir.path()).unwrap()), 1.0);
    assert!(WeightFiles::variants(dir.path()).unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn links_of_a_cache_are_followed_and_broken_ones_named() {
    let cache = tempfile::tempdir().unwrap();
    let blobs = cache.path().join("blobs");
    let snapshot = cache.path().join("snapshots/0123abcd/transformer");
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let files = [
        ("model.safetensors.index.json", index(shards)),
        (shards[0], weights(&["a"], 1.0)),
        (shards[1], weights(&["b"], 1.0)),
    ];
    for (number, (name, bytes)) in files.iter().enumerate() {
        fs::write(blobs.join(number.to_string()), bytes).unwrap();
        let target = Path::new("../../../blobs").join(number.to_string());
        std::os::unix::fs::symlink(target, snapshot.join(name)).unwrap();
    }
    let opened = WeightFiles::open(&snapshot).unwrap();
    assert_eq!((first(&opened), opened.entries().len()), (1.0, 2));
    for (blob, name) in [("2", shards[1]), ("0", files[0].0)] {
        fs::remove_file(blobs.join(blob)).unwrap();
        let error = WeightFiles::open(&snapshot).unwrap_err();
        assert!(matches!(&error, CheckpointError::BrokenLink { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(name) && message.contains("blobs/"), "{message}");
    }
}
