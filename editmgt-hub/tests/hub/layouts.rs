//! The layout of each published repository: which files come, and where the model is then.

use editmgt_hub::{HubError, KNOWN, ModelLocation, PullRequest, Quiet};
use editmgt_tests::hub::{StubHub, StubRepository};

use crate::{Watcher, hub, large, model, offline};

/// The repositories of a known model, as far as their file names go.
fn repositories(alias: &str) -> Vec<StubRepository> {
    let known = KNOWN.iter().find(|known| known.alias == alias).unwrap();
    let name = known.repository;
    let meissonic = |name: &str| {
        let files = model(name, "transformer")
            .file("model_index.json", "{}")
            .file("transformer/diffusion_pytorch_model.fp16.safetensors", large(11))
            .file("vqvae/diffusion_pytorch_model.fp16.safetensors", large(12))
            .file("text_encoder/model.fp16.safetensors", large(13));
        StubRepository { licence: Some("apache-2.0".into()), ..files }
    };
    match alias {
        "editmgt" => vec![
            model(name, "editmgt")
                .file("llm_encoder/config.json", "{\"llm\": 1}")
                .file("llm_encoder/model.safetensors.index.json", "{\"weight_map\": {}}")
                .file("llm_encoder/model-00001-of-00002.safetensors", large(21))
                .file("llm_encoder/model-00002-of-00002.safetensors", large(22))
                .file("llm_encoder/generation_config.json", "{}")
                .file("llm_encoder/tokenizer.json", large(23))
                .file("llm_encoder/tokenizer.model", large(24))
                .file("llm_encoder/tokenizer_config.json", "{\"t\": 1}"),
        ],
        "meissonic" | "amused-512" | "amused-256" => vec![meissonic(name)],
        "monetico" => vec![model(name, "transformer").file("model_index.json", "{}")],
        "muddit-512" | "muddit-1024" => {
            let muddit = StubRepository::new(name)
                .file("1024/mask_token_embedding.pth", large(31))
                .file("512/transformer/config.json", "{\"m\": 512}")
                .file("512/transformer/diffusion_pytorch_model.safetensors", large(32))
                .file("1024/transformer/config.json", "{\"m\": 1024}")
                .file("1024/transformer/diffusion_pytorch_model.safetensors", large(33));
            vec![muddit, meissonic("MeissonFlow/Meissonic")]
        }
        other => panic!("{other}: this known model has no layout here; add it"),
    }
}

#[test]
fn every_known_model_is_pulled_and_found_without_the_hub() {
    for known in KNOWN {
        let stub = StubHub::new(repositories(known.alias));
        let dir = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::default();
        let before = hub(&stub, dir.path()).resolve(known.alias).unwrap_err();
        assert!(matches!(before, HubError::NotCached { .. }), "{before}");
        hub(&stub, dir.path()).pull(&PullRequest::new(known.alias), &mut watcher).unwrap();
        for path in &watcher.finished {
            let unneeded = [
                ".py",
                ".md",
                ".png",
                ".pth",
                ".model",
                "generation_config.json",
                ".fp16.safetensors",
            ];
            assert!(!unneeded.iter().any(|end| path.ends_with(end)), "{}: {path}", known.alias);
        }
        let hub = offline(&stub, dir.path());
        drop(stub);
        let report = hub.pull(&PullRequest::new(known.alias), &mut Quiet).unwrap();
        assert_eq!(report.downloaded_bytes, 0);
        let location = hub.resolve(known.alias).unwrap();
        let folder = |component: &str, folder: &str| match &location {
            ModelLocation::Folder(root) => root.join(folder),
            ModelLocation::Parts { parts, .. } => parts[component].clone(),
        };
        for part in known.parts {
            let files = std::fs::read_dir(folder(part.component, part.folder)).unwrap();
            assert!(files.count() > 0, "{}: {}", known.alias, part.component);
        }
        let state = hub.known().unwrap();
        let (_, cached) = state.iter().find(|(it, _)| it.alias == known.alias).unwrap();
        for repository in cached {
            assert!(repository.revisions[0].lacking.is_empty(), "{repository:?}");
        }
    }
}

#[test]
fn muddit_is_put_together_of_two_repositories() {
    let stub = StubHub::new(repositories("muddit-512"));
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(&stub, dir.path());
    let mut watcher = Watcher::default();
    hub.pull(&PullRequest::new("muddit-512"), &mut watcher).unwrap();
    let transformers = watcher.finished.iter().filter(|path| path.contains("transformer/"));
    assert_eq!(transformers.count(), 2, "{:?}", watcher.finished);
    let ModelLocation::Parts { root, parts } = hub.resolve("muddit-512").unwrap() else {
        panic!("expected parts");
    };
    assert_eq!(parts["transformer"], root.join("512/transformer"));
    assert!(parts["vqvae"].to_str().unwrap().contains("models--MeissonFlow--Meissonic"));
    // The other size needs its transformer only.
    assert_eq!(hub.plan(&PullRequest::new("muddit-1024")).unwrap().missing_files(), 2);
    // What Meissonic lends is not yet Meissonic.
    assert!(matches!(hub.resolve("meissonic"), Err(HubError::NotCached { .. })));
    let only = PullRequest::new("muddit-1024").only(["transformer"]);
    assert_eq!(hub.plan(&only).unwrap().repositories.len(), 1);
}

#[test]
fn a_component_alone_is_pulled_too() {
    let gemma = StubRepository::new("google/gemma-2-2b-it")
        .file("README.md", "# Gemma")
        .file("config.json", "{}")
        .file("model.safetensors.index.json", "{\"weight_map\": {}}")
        .file("model-00001-of-00002.safetensors", large(1))
        .file("model-00002-of-00002.safetensors", large(2))
        .file("tokenizer.json", large(3))
        .file("tokenizer.model", large(4));
    let stub = StubHub::new([StubRepository { is_gated: true, ..gemma }]);
    let dir = tempfile::tempdir().unwrap();
    let hub = crate::with_token(&stub, dir.path(), StubHub::GRANTED);
    let mut watcher = Watcher::default();
    hub.pull(&PullRequest::new("google/gemma-2-2b-it"), &mut watcher).unwrap();
    assert_eq!(watcher.finished.len(), 5, "{:?}", watcher.finished);
    assert!(hub.others().unwrap().is_empty(), "a component is no model");
}

#[test]
fn unknown_models_in_the_cache_are_listed() {
    let stub = StubHub::new([model("some-one/My-Model", "editmgt")]);
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(&stub, dir.path());
    hub.pull(&PullRequest::new("some-one/My-Model"), &mut Quiet).unwrap();
    let others = hub.others().unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].repository, "some-one/My-Model");
}
