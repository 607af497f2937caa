use editmgt_transformer::{Connector, MgtConfig};
use serde_json::{Value, json};

use super::*;

fn config() -> MgtConfig {
    MgtConfig {
        num_layers: 1,
        num_single_layers: 1,
        attention_head_dim: 8,
        num_attention_heads: 2,
        joint_attention_dim: 12,
        pooled_projection_dim: 6,
        axes_dims_rope: [2, 2, 4],
        vocab_size: 20,
        codebook_size: 16,
        connector_type: Connector::Linear,
        downsample: false,
        upsample: false,
        ..MgtConfig::official()
    }
}

fn model() -> MgtModel {
    config().init(&burn::tensor::Device::flex()).unwrap()
}

fn file(layers: &[(&str, usize, usize)]) -> LoraFile {
    let rank = 2;
    let values = |n: usize| (0..n).map(|i| (i as f32 * 0.7).cos()).collect();
    let of = |&(name, inputs, outputs): &(&str, usize, usize)| {
        let factors = LoraFactors { rank, a: values(rank * inputs), b: values(rank * outputs) };
        (name.to_owned(), factors)
    };
    let config = LoraConfig { rank, alpha: 8.0, rank_stabilised: false, dropout: 0.1 };
    LoraFile::new(config, LoraStreams::Reference, layers.iter().map(of).collect())
}

const LAYERS: [(&str, usize, usize); 4] = [
    ("transformer_blocks.0.attn.to_out.0", 16, 16),
    ("transformer_blocks.0.ff.net.0.proj", 16, 64),
    ("transformer_blocks.0.ff.net.2", 64, 16),
    ("single_transformer_blocks.0.proj_out", 80, 16),
];

#[test]
fn a_saved_adapter_has_the_keys_of_peft_and_reads_back() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("adapter");
    let saved = file(&LAYERS);
    saved.save(&dir).unwrap();

    let entries = WeightFiles::open_file(dir.join("adapter_model.safetensors")).unwrap();
    let shapes: Vec<_> =
        entries.entries().iter().map(|(key, entry)| (key.as_str(), &entry.shape[..])).collect();
    assert_eq!(shapes.len(), 8);
    for expected in [
        ("base_model.model.transformer_blocks.0.ff.net.0.proj.lora_A.weight", &[2usize, 16][..]),
        ("base_model.model.transformer_blocks.0.ff.net.0.proj.lora_B.weight", &[64, 2]),
        ("base_model.model.transformer_blocks.0.attn.to_out.0.lora_A.weight", &[2, 16]),
    ] {
        assert!(shapes.contains(&expected), "{shapes:?}");
    }
    let text = std::fs::read_to_string(dir.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&config["peft_type"], &config["r"]), (&json!("LORA"), &json!(2)));
    assert_eq!(config["target_modules"].as_array().unwrap().len(), 4);

    let read = LoraFile::open(&dir).unwrap();
    assert_eq!(LoraFile { path: PathBuf::new(), ..read.clone() }, saved);
    // Nothing is overwritten.
    assert!(matches!(saved.save(&dir), Err(LoraError::Io { .. } | LoraError::Store(_))));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);

    let lora = read.for_model(&model(), &config_keys(), 0.5, read.streams).unwrap();
    assert_eq!(lora.scale, 0.5 * 8.0 / 2.0);
    assert!(
        lora.layers.contains_key("transformer_blocks.0.ff.proj_out"),
        "{:?}",
        lora.layers.keys()
    );

    // From the model and back.
    let adapted = model().with_lora(&[lora], false).unwrap();
    let again = LoraFile::of_model(&adapted, &config_keys(), saved.config, saved.streams).unwrap();
    assert_eq!(again, saved);
}

fn config_keys() -> KeyMap {
    config().keys()
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let keys = config_keys();
    let refuse = |layers: &[(&str, usize, usize)]| {
        file(layers).for_model(&model(), &keys, 1.0, LoraStreams::Both).unwrap_err()
    };
    let error = refuse(&[LAYERS[0], ("transformer_blocks.7.attn.to_q", 16, 16)]);
    assert!(matches!(&error, LoraError::UnknownLayers { layers, .. } if layers.len() == 1));
    assert!(error.to_string().contains("transformer_blocks.7.attn.to_q"), "{error}");
    let error = refuse(&[("transformer_blocks.0.attn.to_q", 16, 24)]);
    assert!(matches!(error, LoraError::Size { expected: (16, 16), got: (16, 24), .. }), "{error}");
}

#[test]
fn folders_that_are_no_adapter_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("adapter");
    file(&LAYERS).save(&dir).unwrap();
    let path = dir.join("adapter_config.json");
    let good: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value, named) in [
        ("peft_type", json!("LOHA"), "LOHA"),
        ("use_dora", json!(true), "use_dora"),
        ("bias", json!("all"), "bias"),
        ("rank_pattern", json!({"to_q": 4}), "rank_pattern"),
        ("modules_to_save", json!(["norm"]), "modules_to_save"),
        ("init_lora_weights", json!("pissa"), "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", json!("pissa_niter_16"), "pissa_niter_16"),
        ("init_lora_weights", json!("olora"), "olora"),
        ("init_lora_weights", json!("corda"), "corda"),
        ("init_lora_weights", json!("loftq"), "loftq"),
        ("init_lora_weights", json!("lora_ga"), "lora_ga"),
        ("init_lora_weights", json!({"kind": 1}), "init_lora_weights"),
        ("alpha_pattern", json!({"to_q": 4}), "alpha_pattern"),
        ("lora_bias", json!(true), "lora_bias"),
        ("trainable_token_indices", json!([1]), "trainable_token_indices"),
        ("layer_replication", json!([[0, 4]]), "layer_replication"),
        ("megatron_config", json!({"tp": 2}), "megatron_config"),
        ("alora_invocation_tokens", json!([1]), "alora_invocation_tokens"),
        ("r", json!(0), "r 0"),
        ("r", json!("four"), "four"),
        ("r", json!(3), "expected A [3"),
    ] {
        let mut config = good.clone();
        config[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        let error = LoraFile::open(&dir).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
    for init in [json!(null), json!(true), json!(false), json!("gaussian"), json!("eva")] {
        let mut config = good.clone();
        config["init_lora_weights"] = init;
        // Training infrastructure is ignored.
        config["megatron_core"] = json!("megatron.core");
        config["lora_bias"] = json!(false);
        std::fs::write(&path, config.to_string()).unwrap();
        LoraFile::open(&dir).unwrap();
    }
    std::fs::write(&path, good.to_string()).unwrap();
    std::fs::write(dir.join(OWN_CONFIG), r#"{"streams": "text"}"#).unwrap();
    assert!(matches!(LoraFile::open(&dir), Err(LoraError::Config { .. })));
    // An adapter from another program has no such file.
    std::fs::remove_file(dir.join(OWN_CONFIG)).unwrap();
    assert_eq!(LoraFile::open(&dir).unwrap().streams, LoraStreams::Both);
    assert!(matches!(LoraFile::open(root.path()), Err(LoraError::NoAdapter { .. })));

    let spec = |key: &str| (TensorSpec { key: key.into(), shape: vec![1] }, vec![0.0]);
    for (key, is_right) in [
        ("text_encoder.to_q.lora_A.weight", (|e| matches!(e, LoraError::Key { .. })) as fn(_) -> _),
        ("base_model.model.to_q.lora_A.weight", |e| matches!(e, LoraError::Half { .. })),
    ] {
        let other = tempfile::tempdir().unwrap();
        let options = WriteOptions::new(WeightsName::Adapter, DType::F32);
        save_tensors(other.path(), &[spec(key)], &options).unwrap();
        std::fs::write(other.path().join(CONFIG), good.to_string()).unwrap();
        let error = LoraFile::open(other.path()).unwrap_err();
        assert!(is_right(error), "{key}");
    }
}

#[test]
fn choices_are_read() {
    for (text, path, scale, streams) in [
        ("a/b", "a/b", 1.0, None),
        ("a/b:0.5", "a/b", 0.5, None),
        ("a:b:-1", "a:b", -1.0, None),
        (r"C:\lora", r"C:\lora", 1.0, None),
        ("a:0:reference", "a", 0.0, Some(LoraStreams::Reference)),
        ("a:1:both", "a", 1.0, Some(LoraStreams::Both)),
        ("a:2:image", "a", 2.0, Some(LoraStreams::Image)),
    ] {
        let expected = LoraUse { path: path.into(), scale, streams, merge: true };
        assert_eq!(text.parse::<LoraUse>().unwrap(), expected);
    }
    for text in ["", ":1", "a:image", "a:inf", "a:nan:both"] {
        assert!(matches!(text.parse::<LoraUse>(), Err(LoraError::Choice { .. })), "{text}");
    }
}

#[test]
fn rank_stabilised_adapters_count_by_the_root() {
    let plain = LoraConfig { rank: 16, alpha: 8.0, rank_stabilised: false, dropout: 0.0 };
    assert_eq!(plain.strength(), 0.5);
    assert_eq!(LoraConfig { rank_stabilised: true, ..plain }.strength(), 2.0);
}

/// A file of these tensors and texts.
fn single(path: &Path, tensors: &[(String, Vec<usize>, f32)], texts: &[(&str, &str)]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, shape, value)| value.to_le_bytes().repeat(shape.iter().product()))
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((key, shape, _), bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (key.clone(), view.unwrap())
    });
    let texts = texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let file = safetensors::serialize(views, Some(texts)).unwrap();
    std::fs::write(path, file).unwrap();
}

#[test]
fn reads_single_files_with_the_names_of_peft_diffusers_and_kohya() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("style.safetensors");
    let (layer, flat) = (LAYERS[0].0, LAYERS[0].0.replace('.', "_"));
    let diffusers = r#"{"transformer.r": 2, "transformer.lora_alpha": 8, "text_encoder.r": 9}"#;
    for (prefix, down, up, alpha, texts, strength) in [
        ("base_model.model.", "lora_A", "lora_B", None, &[][..], 1.0),
        ("transformer.", "lora_A", "lora_B", None, &[], 1.0),
        ("transformer.", "lora.down", "lora.up", None, &[], 1.0),
        ("transformer.", "lora_A", "lora_B", None, &[("lora_adapter_metadata", diffusers)], 4.0),
        ("lora_unet_", "lora_down", "lora_up", Some(1.0), &[], 0.5),
        ("lora_transformer_", "lora_down", "lora_up", None, &[("ss_network_alpha", "6.0")], 3.0),
    ] {
        let layer = if prefix.ends_with('_') { flat.as_str() } else { layer };
        let mut tensors = vec![
            (format!("{prefix}{layer}.{down}.weight"), vec![2, 16], 0.5),
            (format!("{prefix}{layer}.{up}.weight"), vec![16, 2], 0.25),
        ];
        tensors.extend(alpha.map(|alpha| (format!("{prefix}{layer}.alpha"), vec![], alpha)));
        single(&path, &tensors, texts);
        let file = LoraFile::open(&path).unwrap();
        assert_eq!(file.streams, LoraStreams::Both);
        let lora = file.for_model(&model(), &config_keys(), 1.0, file.streams).unwrap();
        assert_eq!(lora.layers.len(), 1, "{:?}", lora.layers.keys());
        let factors = lora.layers.values().next().unwrap();
        assert_eq!((factors.a[0], factors.b[0]), (0.5, 0.25 * strength), "{prefix} {down}");
        assert_eq!(lora.scale, 1.0);
        LoraSource::read(&LoraUse::new(&path), &file).unwrap();
    }
    // Its folder works as well, and diffusers' file is preferred.
    LoraFile::open(root.path()).unwrap();
    for sidecar in ["._style.safetensors", "._adapter_model.safetensors", ".DS_Store"] {
        std::fs::write(root.path().join(sidecar), "sidecar").unwrap();
    }
    LoraFile::open(root.path()).unwrap();
    // Another layout's PEFT config is ignored, but an adapter of a modified base stays refused.
    let config = root.path().join("adapter_config.json");
    let beside = |init: Value| {
        let text = json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 4, "bias": "none", "target_modules": ["to_q"],
            "init_lora_weights": init, "use_rslora": false, "use_dora": false,
        });
        std::fs::write(&config, format!("\u{feff}{text}")).unwrap();
        LoraFile::open(root.path())
    };
    beside(json!(true)).unwrap();
    let error = beside(json!("pissa")).unwrap_err().to_string();
    assert!(error.contains("init_lora_weights"), "{error}");
    std::fs::remove_file(&config).unwrap();
    std::fs::copy(&path, root.path().join("other.safetensors")).unwrap();
    let error = LoraFile::open(root.path()).unwrap_err().to_string();
    assert!(error.contains("other.safetensors, style.safetensors"), "{error}");
    std::fs::copy(&path, root.path().join("pytorch_lora_weights.safetensors")).unwrap();
    LoraFile::open(root.path()).unwrap();
}

#[test]
fn rejects_ambiguous_single_files() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("style.safetensors");
    let pair = |layer: &str| {
        vec![
            (format!("{layer}.lora_down.weight"), vec![2, 16], 0.5),
            (format!("{layer}.lora_up.weight"), vec![16, 2], 0.25),
        ]
    };
    let known = format!("lora_unet_{}", LAYERS[0].0.replace('.', "_"));
    let more = |key: &str, shape: &[usize], value| {
        let mut tensors = pair(&known);
        tensors.push((format!("{known}{key}"), shape.to_vec(), value));
        tensors
    };
    for (tensors, texts, named) in [
        (pair("lora_te_text_model_layers_0"), &[][..], "lora_te_text_model_layers_0"),
        (more(".dora_scale", &[16], 1.0), &[], "dora_scale"),
        (more(".alpha", &[2], 1.0), &[], "one finite number"),
        (more(".alpha", &[], f32::NAN), &[], "one finite number"),
        (pair(&known)[..1].to_vec(), &[], "only one of"),
        (pair(&known), &[("ss_network_alpha", "much")], "ss_network_alpha"),
        (
            pair(&known),
            &[("lora_adapter_metadata", r#"{"transformer.r": 4, "transformer.lora_alpha": 4}"#)],
            "rank 4, got 2",
        ),
        (
            pair(&known),
            &[(
                "lora_adapter_metadata",
                r#"{"transformer.r": 2, "transformer.lora_alpha": 2,
                    "transformer.init_lora_weights": "pissa"}"#,
            )],
            "pissa",
        ),
        (Vec::new(), &[], "style.safetensors"),
    ] {
        single(&path, &tensors, texts);
        let error = LoraFile::open(&path).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
    single(&path, &pair("lora_unet_transformer_blocks_7_attn_to_q"), &[]);
    let file = LoraFile::open(&path).unwrap();
    let error = file.for_model(&model(), &config_keys(), 1.0, LoraStreams::Both).unwrap_err();
    assert!(
        error.to_string().contains("no linear layer lora_unet_transformer_blocks_7"),
        "{error}"
    );
}
