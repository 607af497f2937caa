//! The cache on disk, and what is asked when.
//!
//! The layout is that of the documentation of `huggingface_hub` ("Understand caching") and of the
//! hub ("Local cache", `huggingface.co/docs/hub/local-cache`): `models--ORG--NAME/blobs/ETAG`,
//! where the ETag is the SHA-256 of large files and git's blob hash of others;
//! `snapshots/COMMIT/PATH`, relative links to the blobs; `refs/BRANCH`, a file with the commit and
//! no line end; `.locks` beside the repositories; downloads in progress as `ETAG.incomplete`.

use std::fs;
use std::path::Path;

use editmgt_hub::{HubError, ModelLocation, PullRequest, Quiet};
use editmgt_tests::hub::StubHub;

use crate::{NEEDED, Watcher, hub, large, model, offline};

const NAME: &str = "some-one/Model";

#[test]
fn download_has_the_layout_of_pythons_client() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::default();
    let report = hub(&stub, dir.path()).pull(&PullRequest::new(NAME), &mut watcher).unwrap();
    assert_eq!(watcher.finished.len(), NEEDED);
    assert_eq!(watcher.totals.last(), Some(&report.plan.total_bytes()));
    assert!(watcher.totals.is_sorted());
    assert_eq!(report.downloaded_bytes, report.plan.total_bytes());

    let folder = dir.path().join("models--some-one--Model");
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), repository.commit);
    let snapshot = folder.join("snapshots").join(&repository.commit);
    assert_eq!(report.plan.repositories[0].snapshot, snapshot);
    for path in &watcher.finished {
        let (file, hash) = (snapshot.join(path), repository.hash(path));
        assert_eq!(fs::read(&file).unwrap(), repository.files[path], "{path}");
        #[cfg(unix)]
        assert_eq!(
            fs::read_link(&file).unwrap(),
            Path::new("../../../blobs").join(&hash),
            "{path}: a relative link"
        );
        assert!(folder.join("blobs").join(&hash).is_file());
    }
    assert_eq!(fs::read_dir(folder.join("blobs")).unwrap().count(), NEEDED);
    for left in ["README.md", ".gitattributes", "assets", "transformer/transformer.py"] {
        assert!(!snapshot.join(left).exists(), "{left}");
    }
    let found = hf_hub::Cache::new(dir.path().into()).model(NAME.into()).get("vqvae/config.json");
    assert_eq!(found, Some(snapshot.join("vqvae/config.json")), "hf-hub finds it");
    assert_eq!(hub(&stub, dir.path()).resolve(NAME).unwrap(), ModelLocation::Folder(snapshot));
}

/// What Python writes with `snapshot_download`, by hand.
#[cfg(unix)]
fn write_as_python(dir: &Path, repository: &editmgt_tests::hub::StubRepository) {
    let folder = dir.join("models--some-one--Model");
    for (path, bytes) in &repository.files {
        let blob = folder.join("blobs").join(repository.hash(path));
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, bytes).unwrap();
        let link = folder.join("snapshots").join(&repository.commit).join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(path.matches('/').count() + 2);
        let target = format!("{up}blobs/{}", repository.hash(path));
        std::os::unix::fs::symlink(target, link).unwrap();
    }
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), &repository.commit).unwrap();
    fs::create_dir_all(folder.join(".no_exist").join(&repository.commit)).unwrap();
}

#[cfg(unix)]
#[test]
fn what_python_downloaded_is_found_and_nothing_is_asked() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    write_as_python(dir.path(), &repository);
    for name in [NAME.to_owned(), format!("{NAME}@main"), format!("{NAME}@{}", repository.commit)] {
        let report = hub(&stub, dir.path()).pull(&PullRequest::new(&name), &mut Quiet).unwrap();
        assert_eq!(report.downloaded_bytes, 0);
        let location = offline(&stub, dir.path()).resolve(&name).unwrap();
        assert!(
            matches!(location, ModelLocation::Folder(folder) if folder.ends_with(&repository.commit))
        );
    }
    assert_eq!(stub.requests(), []);

    // One file is missing: only this one is downloaded.
    let folder = dir.path().join("models--some-one--Model");
    fs::remove_file(folder.join("blobs").join(repository.hash("vqvae/config.json"))).unwrap();
    let error = hub(&stub, dir.path()).resolve(NAME).unwrap_err();
    assert!(
        matches!(&error, HubError::DanglingLink { link, .. } if link.ends_with("vqvae/config.json"))
    );
    let message = error.to_string();
    assert!(
        message.contains("editmgt pull some-one/Model") && message.contains("blobs"),
        "{message}"
    );
    let report = hub(&stub, dir.path()).pull(&PullRequest::new(NAME), &mut Quiet).unwrap();
    assert_eq!(report.downloaded_bytes, 2);
    assert_eq!(stub.requests().len(), 3, "the list, the file, its redirect");
    hub(&stub, dir.path()).resolve(NAME).unwrap();
}

/// Python's client links a blob that came by Xet to a store of its own beside the repositories.
#[cfg(unix)]
#[test]
fn blobs_that_are_links_are_read_and_their_missing_target_is_named() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    write_as_python(dir.path(), &repository);
    let hash = repository.hash("vqvae/config.json");
    let blob = dir.path().join("models--some-one--Model/blobs").join(&hash);
    let store = dir.path().join("blobs/ab");
    fs::create_dir_all(&store).unwrap();
    fs::rename(&blob, store.join("abcd")).unwrap();
    std::os::unix::fs::symlink("../../blobs/ab/abcd", &blob).unwrap();
    offline(&stub, dir.path()).resolve(NAME).unwrap();
    // A copy of the repository's folder alone lacks it.
    fs::remove_dir_all(dir.path().join("blobs")).unwrap();
    let error = hub(&stub, dir.path()).resolve(NAME).unwrap_err();
    assert!(
        matches!(&error, HubError::DanglingLink { target, .. } if target.ends_with("../../blobs/ab/abcd")),
        "{error}"
    );
    assert_eq!(
        hub(&stub, dir.path()).pull(&PullRequest::new(NAME), &mut Quiet).unwrap().downloaded_bytes,
        2
    );
    assert!(fs::symlink_metadata(&blob).unwrap().is_file());
}

#[test]
fn files_of_a_cache_without_links_are_not_downloaded_again() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("models--some-one--Model");
    let snapshot = folder.join("snapshots").join(&repository.commit);
    for (path, bytes) in &repository.files {
        let file = snapshot.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        // One file was cut.
        let bytes = if path == "vqvae/config.json" { &bytes[..1] } else { bytes };
        fs::write(file, bytes).unwrap();
    }
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), &repository.commit).unwrap();
    let request = PullRequest::new(NAME).refresh(true);
    let plan = hub(&stub, dir.path()).plan(&request).unwrap();
    assert_eq!((plan.missing_files(), plan.missing_bytes()), (1, 2));
    let mut watcher = Watcher::default();
    let report = hub(&stub, dir.path()).pull(&request, &mut watcher).unwrap();
    assert_eq!((report.downloaded_bytes, watcher.finished.len()), (2, NEEDED));
    for path in &watcher.finished {
        assert_eq!(fs::read(snapshot.join(path)).unwrap(), repository.files[path], "{path}");
    }
    let weights = snapshot.join("transformer/diffusion_pytorch_model.safetensors");
    assert!(fs::symlink_metadata(weights).unwrap().is_file());
}

#[test]
fn refresh_follows_the_branch_and_keeps_the_files_that_did_not_change() {
    let stub = StubHub::new([model(NAME, "editmgt")]);
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(&stub, dir.path());
    hub.pull(&PullRequest::new(NAME), &mut Quiet).unwrap();
    stub.change(NAME, |repository| {
        repository.commit = "f".repeat(40);
        repository.files.insert("editmgt/diffusion_pytorch_model.safetensors".into(), large(7));
    });
    stub.requests();
    assert_eq!(hub.pull(&PullRequest::new(NAME), &mut Quiet).unwrap().downloaded_bytes, 0);
    assert_eq!(stub.requests(), []);
    let request = PullRequest::new(NAME).refresh(true);
    assert_eq!(hub.plan(&request).unwrap().missing_files(), 1);
    assert_eq!(hub.pull(&request, &mut Quiet).unwrap().downloaded_bytes, 200_000);
    let location = hub.resolve(NAME).unwrap();
    assert!(matches!(location, ModelLocation::Folder(folder) if folder.ends_with("f".repeat(40))));
}

#[test]
fn a_plan_downloads_nothing() {
    let mut repository = model(NAME, "transformer");
    repository.licence = Some("mit".into());
    let stub = StubHub::new([repository]);
    let dir = tempfile::tempdir().unwrap();
    let plan = hub(&stub, dir.path()).plan(&PullRequest::new(NAME)).unwrap();
    assert_eq!((plan.missing_files(), plan.missing_bytes()), (NEEDED, plan.total_bytes()));
    let first = &plan.repositories[0];
    assert_eq!((first.licence.as_deref(), first.is_first), (Some("mit"), true));
    assert_eq!(stub.requests().len(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn variants_are_downloaded_in_the_place_of_the_plain_weights() {
    let repository = model(NAME, "transformer")
        .file("transformer/diffusion_pytorch_model.fp16.safetensors", large(4))
        .file("vqvae/diffusion_pytorch_model.fp16.safetensors", large(5));
    let stub = StubHub::new([repository]);
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(&stub, dir.path());
    let fp16 = PullRequest::new(NAME).variant("fp16");
    let mut watcher = Watcher::default();
    hub.pull(&fp16, &mut watcher).unwrap();
    let weights: Vec<_> =
        watcher.finished.iter().filter(|path| path.ends_with(".safetensors")).collect();
    assert_eq!(
        weights,
        [
            // It has no variant.
            "text_encoder/model.safetensors",
            "transformer/diffusion_pytorch_model.fp16.safetensors",
            "vqvae/diffusion_pytorch_model.fp16.safetensors",
        ]
    );
    // The folder is a model's, and offline it is the variant's.
    hub.resolve(NAME).unwrap();
    assert_eq!(offline(&stub, dir.path()).pull(&fp16, &mut Quiet).unwrap().downloaded_bytes, 0);
    // The plain weights come beside.
    let report = hub.pull(&PullRequest::new(NAME), &mut Quiet).unwrap();
    assert_eq!(report.downloaded_bytes, 400_000);
    let error = hub.pull(&PullRequest::new(NAME).variant("bf16"), &mut Quiet).unwrap_err();
    assert!(matches!(&error, HubError::NoVariant { found, .. } if found == &["fp16"]), "{error}");
}

#[test]
fn some_parts_alone() {
    let stub =
        StubHub::new([model("WeiChow/EditMGT", "editmgt").file("llm_encoder/config.json", "{}")]);
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(&stub, dir.path());
    let mut watcher = Watcher::default();
    let error = hub.pull(&PullRequest::new("editmgt"), &mut watcher).unwrap_err();
    assert!(matches!(&error, HubError::NotAModel { lacking, .. } if lacking.len() == 2), "{error}");
    stub.change("WeiChow/EditMGT", |repository| {
        repository.files.insert("llm_encoder/model.safetensors".into(), large(6));
        repository.files.insert("llm_encoder/tokenizer.json".into(), b"{}".to_vec());
    });
    hub.pull(&PullRequest::new("editmgt").only(["editmgt", "vqvae"]), &mut watcher).unwrap();
    assert_eq!(watcher.finished.len(), 4, "{:?}", watcher.finished);
    let error = hub.resolve("editmgt").unwrap_err().to_string();
    assert!(error.contains("llm_encoder/, ") || error.contains("llm_encoder/;"), "{error}");
    assert!(error.contains("editmgt pull editmgt"), "{error}");
    let known = hub.known().unwrap();
    let revision = &known[0].1[0].revisions[0];
    assert_eq!((revision.refs.as_slice(), revision.lacking.len()), (&["main".to_owned()][..], 4));
    let error = hub.plan(&PullRequest::new("editmgt").only(["unet"])).unwrap_err().to_string();
    assert!(error.contains("unet") && error.contains("llm_encoder"), "{error}");
}

#[test]
fn offline_without_the_model_says_what_is_missing() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    let hub = offline(&stub, dir.path());
    for error in
        [hub.pull(&PullRequest::new(NAME), &mut Quiet).unwrap_err(), hub.resolve(NAME).unwrap_err()]
    {
        let message = error.to_string();
        assert!(matches!(error, HubError::Offline { .. }), "{message}");
        assert!(message.contains("HF_HUB_OFFLINE") && message.contains("at main"), "{message}");
    }
    assert_eq!(stub.requests(), []);
}
