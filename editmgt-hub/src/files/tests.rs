use super::*;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn weights(names: &[&str], variant: Option<&str>) -> (Vec<String>, Vec<String>) {
    let layout = Layout { parts: vec![Part::new("vqvae", "vqvae")], root_files: false };
    let mut files: Vec<String> = names.iter().map(|name| format!("vqvae/{name}")).collect();
    files.push("vqvae/config.json".into());
    let needed = layout.needed(&files.into_iter().collect(), variant);
    let strip = |path: &String| path.replace("vqvae/", "");
    let files = needed.files.iter().map(strip).filter(|name| name != "config.json").collect();
    (files, needed.lacking.iter().map(strip).collect())
}

#[test]
fn one_set_of_weights_is_chosen() {
    let both = ["model.safetensors", "model.fp16.safetensors", "model.bin", "x.safetensors"];
    let only_fp16 = ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"];
    let shards = [
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.fp16.safetensors.index.json",
        "model.fp16-00001-of-00001.safetensors",
        "model-00001-of-00002.bf16.safetensors",
        "model-00002-of-00002.bf16.safetensors",
        "model.safetensors.index.bf16.json",
    ];
    for (names, variant, expected) in [
        (&both[..], None, &both[..1]),
        (&both, Some("fp16"), &both[1..2]),
        (&both, Some("bf16"), &both[..1]),
        (&only_fp16, None, &only_fp16[..1]),
        (&shards, None, &[shards[1], shards[2], shards[0]]),
        (&shards, Some("fp16"), &[shards[4], shards[3]]),
        (&shards, Some("bf16"), &[shards[5], shards[6], shards[7]]),
        (&["model.safetensors", "._model.fp16.safetensors"], Some("fp16"), &["model.safetensors"]),
    ] {
        let (files, lacking) = weights(names, variant);
        assert_eq!(
            (files.iter().map(String::as_str).collect::<Vec<_>>(), lacking.len()),
            (expected.to_vec(), 0)
        );
    }
}

#[cfg(feature = "pytorch")]
#[test]
fn pytorch_weights_are_chosen_only_where_there_is_nothing_else() {
    let shards = [
        "pytorch_model.bin.index.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ];
    for (names, variant, expected) in [
        (&["pytorch_model.bin", "training_args.bin"][..], None, &["pytorch_model.bin"][..]),
        (&["diffusion_pytorch_model.bin", "x.pt"], None, &["diffusion_pytorch_model.bin"]),
        (
            &["pytorch_model.bin", "pytorch_model.fp16.bin"],
            Some("fp16"),
            &["pytorch_model.fp16.bin"],
        ),
        (&shards, None, &[shards[1], shards[2], shards[0]]),
        (&["open_clip.pt", "optimizer.pt", "mask_token_embedding.pth"], None, &["open_clip.pt"]),
        (&["model.safetensors", "pytorch_model.bin"], None, &["model.safetensors"]),
    ] {
        let (files, lacking) = weights(names, variant);
        assert_eq!((files, lacking.len()), (expected.iter().map(|n| n.to_string()).collect(), 0));
    }
    for names in [&["a.pt", "b.pt"][..], &["x.safetensors", "pytorch_model.bin"]] {
        assert_eq!(weights(names, None).1.len(), 1, "{names:?}");
    }
    assert_eq!(weights(&shards[..2], None).1, [shards[2]]);
}

#[test]
fn missing_shards_and_weights_are_named() {
    let index = "model.safetensors.index.json";
    for (names, lacking) in [
        (&[][..], &["safetensors in "][..]),
        (&["model-00001-of-00001.safetensors"], &["safetensors in "]),
        (
            &["model.ckpt"],
            &[
                "safetensors in  (it has model.ckpt, a PyTorch pickle, which is not read as weights)",
            ],
        ),
        (&[index], &["the shards of model.safetensors.index.json"]),
        (
            &[index, "model-00002-of-00003.safetensors"],
            &["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
        ),
    ] {
        assert_eq!(weights(names, None).1, lacking, "{names:?}");
    }
}

#[test]
fn code_readmes_and_images_are_not_needed() {
    let files = set(&[
        ".gitattributes",
        "README.md",
        "assets/a.png",
        "edit_defaults.json",
        "model_index.json",
        "scheduler/scheduler.py",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/generation_config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "transformer/transformer.py",
        "vqvae/config.json",
        "vqvae/diffusion_pytorch_model.safetensors",
    ]);
    let needed = Layout::of_files(&files, &[]).needed(&files, None);
    assert!(needed.lacking.is_empty(), "{needed:?}");
    let left: Vec<_> = files.difference(&needed.files).map(String::as_str).collect();
    let expected = [
        ".gitattributes",
        "README.md",
        "assets/a.png",
        "scheduler/scheduler.py",
        "text_encoder/generation_config.json",
        "transformer/transformer.py",
    ];
    assert_eq!(left, expected);
    // An index names a part that is not there.
    let needed = Layout::of_files(&files, &["llm_encoder".into()]).needed(&files, None);
    assert_eq!(needed.lacking, ["llm_encoder/"]);
}

#[test]
fn a_component_alone_is_a_layout() {
    let files = set(&["config.json", "model.safetensors", "tokenizer.json", "README.md"]);
    let needed = Layout::of_files(&files, &[]).needed(&files, None);
    assert_eq!((needed.files.len(), needed.lacking.len()), (3, 0), "{needed:?}");
    let files = set(&["README.md", "data.parquet"]);
    let needed = Layout::of_files(&files, &[]).needed(&files, None);
    assert_eq!(needed.lacking.len(), 5, "{needed:?}");
}
