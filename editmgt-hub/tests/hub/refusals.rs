//! What the hub refuses, and the sentence for each.

use editmgt_hub::{Hub, HubError, PullRequest, Quiet};
use editmgt_tests::hub::{StubFault, StubHub};

use crate::{hub, model, with_token};

const NAME: &str = "some-one/Model";

fn refused(hub: &Hub, request: &PullRequest) -> HubError {
    hub.pull(request, &mut Quiet).unwrap_err()
}

#[track_caller]
fn says(error: &HubError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
}

#[test]
fn gated_repository_with_and_without_a_token() {
    let mut repository = model(NAME, "transformer");
    repository.is_gated = true;
    let stub = StubHub::new([repository]);
    let dir = tempfile::tempdir().unwrap();
    let request = PullRequest::new(NAME);
    assert!(hub(&stub, dir.path()).plan(&request).unwrap().repositories[0].is_gated);
    let terms = format!("{}/{NAME}", stub.endpoint());
    let error = refused(&hub(&stub, dir.path()), &request);
    assert!(matches!(error, HubError::Gated { has_token: false, .. }), "{error}");
    says(&error, &["gated", &terms, "HF_TOKEN"]);
    let error = refused(&with_token(&stub, dir.path(), StubHub::OTHER), &request);
    assert!(matches!(error, HubError::Gated { has_token: true, .. }), "{error}");
    says(&error, &["account of this token"]);
    with_token(&stub, dir.path(), StubHub::GRANTED).pull(&request, &mut Quiet).unwrap();
}

#[test]
fn missing_repository_with_and_without_a_token() {
    let stub = StubHub::new([]);
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    assert!(matches!(error, HubError::NotFound { has_token: false, .. }), "{error}");
    says(&error, &[NAME, "check the name", "set HF_TOKEN"]);
    let with_token = with_token(&stub, dir.path(), StubHub::GRANTED);
    let error = refused(&with_token, &PullRequest::new(NAME));
    assert!(matches!(error, HubError::NotFound { has_token: true, .. }), "{error}");
    says(&error, &["the token's account"]);
}

#[test]
fn dataset_and_space_are_named() {
    let stub = StubHub::new([]);
    let dir = tempfile::tempdir().unwrap();
    for (path, kind) in [("datasets/a/data", "dataset"), ("spaces/a/demo", "Space")] {
        stub.other(path);
        let (_, name) = path.split_once('/').unwrap();
        let error = refused(&hub(&stub, dir.path()), &PullRequest::new(name));
        says(&error, &[name, &format!("is a {kind}"), "expected a model"]);
    }
}

#[test]
fn wrong_token_is_named_and_not_shown() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    for token in ["hf_expired", "hf_with space", "hf_ü"] {
        let error = refused(&with_token(&stub, dir.path(), token), &PullRequest::new(NAME));
        assert!(matches!(error, HubError::WrongToken { .. }), "{error}");
        says(&error, &["/settings/tokens", "HF_TOKEN"]);
        assert!(!error.to_string().contains(token), "{error}");
    }
}

#[test]
fn token_is_refused_with_any_reason() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    let with_token = with_token(&stub, dir.path(), StubHub::GRANTED);
    for (code, reason) in
        [("", "User access token \"x\" is expired"), ("Unauthorized", ""), ("", "")]
    {
        stub.fault("api/models", 1, StubFault::refusal(401, code, reason));
        let error = refused(&with_token, &PullRequest::new(NAME));
        assert!(matches!(error, HubError::WrongToken { .. }), "{error}");
        says(&error, &["/settings/tokens", "`hf auth login`", "HF_TOKEN"]);
        says(&error, &[if reason.is_empty() { "(status 401)" } else { reason }]);
    }
    // Without a token it may be a repository that is not shown.
    stub.fault("api/models", 1, StubFault::refusal(401, "", "Invalid username or password."));
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    assert!(matches!(error, HubError::NotFound { .. }), "{error}");
}

#[test]
fn disabled_repository_is_not_the_tokens_fault() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    let reason = "Access to this resource is disabled.";
    stub.fault("api/models", 1, StubFault::refusal(403, "", reason));
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    assert!(matches!(error, HubError::Disabled { .. }), "{error}");
    says(&error, &[NAME, "disabled", "another model"]);
    assert!(!error.to_string().contains("token"), "{error}");
}

#[test]
fn revision_that_does_not_exist() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME).revision("v9"));
    says(&error, &["no revision \"v9\"", "branch", "/commits"]);
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME).revision("../x"));
    assert!(matches!(error, HubError::Option { option: "revision", .. }), "{error}");
    let two = PullRequest::new(format!("{NAME}@v1")).revision("v2");
    assert!(matches!(refused(&hub(&stub, dir.path()), &two), HubError::TwoRevisions { .. }));
    let empty = PullRequest::new(NAME).variant("");
    let error = refused(&hub(&stub, dir.path()), &empty);
    assert!(matches!(error, HubError::Option { option: "variant", .. }), "{error}");
}

#[test]
fn page_of_a_proxy_is_named_wherever_it_comes() {
    for (part, status) in
        [("api/models", 200), ("api/models", 403), ("/resolve/", 200), ("cdn/", 200), ("cdn/", 511)]
    {
        let stub = StubHub::new([model(NAME, "transformer")]);
        let dir = tempfile::tempdir().unwrap();
        stub.fault(part, 1, StubFault::page(status));
        let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
        assert!(matches!(error, HubError::WebPage { .. }), "{part} {status}: {error}");
        says(&error, &["web page", "Sign in to the network", "HTTPS_PROXY"]);
        hub(&stub, dir.path()).pull(&PullRequest::new(NAME), &mut Quiet).unwrap();
    }
}

#[test]
fn forbidden_and_other_statuses_give_the_hubs_reason() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    stub.fault("api/models", 1, StubFault::refusal(403, "", "Your token lacks the scope"));
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    assert!(matches!(error, HubError::Forbidden { .. }), "{error}");
    says(&error, &["lacks the scope"]);
    stub.fault("api/models", 1, StubFault::refusal(418, "", "teapot"));
    says(&refused(&hub(&stub, dir.path()), &PullRequest::new(NAME)), &["418", "teapot"]);
    stub.fault("/resolve/", 1, StubFault::refusal(404, "EntryNotFound", "Entry not found"));
    says(&refused(&hub(&stub, dir.path()), &PullRequest::new(NAME)), &["404", "Entry not found"]);
}

#[test]
fn answers_that_are_not_the_hubs() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    for body in [
        "",
        "{}",
        "nonsense",
        r#"{"sha": "../..", "siblings": []}"#,
        r#"{"sha": "", "siblings": []}"#,
    ] {
        stub.fault("api/models", 1, StubFault::Answer(200, String::new(), body.into()));
        let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
        assert!(matches!(error, HubError::Reply { .. }), "{body}: {error}");
    }
    let redirect = |to: &str| StubFault::Answer(302, format!("Location: {to}\r\n"), String::new());
    for to in ["", "ftp://x", "//elsewhere/x"] {
        stub.fault("api/models", 1, redirect(to));
        let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
        assert!(matches!(error, HubError::Reply { .. }), "{to}: {error}");
    }
    stub.fault("api/models", 100, redirect("/api/models"));
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    says(&error, &["redirected more than 10 times"]);
}

#[test]
fn paths_and_hashes_that_would_leave_the_cache() {
    let stub = StubHub::new([]);
    let dir = tempfile::tempdir().unwrap();
    let list = |name: &str, blob: &str| {
        let mut files: Vec<_> = model(NAME, "transformer").files.into_keys().collect();
        files.push(name.to_owned());
        let files: Vec<_> = files
            .iter()
            .map(|path| format!(r#"{{"rfilename": "{path}", "size": 1, "blobId": "{blob}"}}"#))
            .collect();
        format!(r#"{{"sha": "{}", "siblings": [{}]}}"#, "a".repeat(40), files.join(","))
    };
    let answer = |body: String| StubFault::Answer(200, String::new(), body);
    stub.fault("api/models", 1, answer(list("x", "../../../x")));
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    says(&error, &["length and hash"]);
    // Files of other names than those of a model are never written.
    stub.fault("api/models", 1, answer(list("../../x", &"a".repeat(40))));
    let plan = hub(&stub, dir.path()).plan(&PullRequest::new(NAME)).unwrap();
    assert!(plan.repositories[0].files.iter().all(|file| !file.path.contains("..")));
}

#[test]
fn repository_without_a_model_lists_what_it_lacks() {
    let stub = StubHub::new([model(NAME, "unet")]);
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    assert!(
        matches!(&error, HubError::NotAModel { lacking, .. } if lacking == &["editmgt/"]),
        "{error}"
    );
    let index = "vqvae/diffusion_pytorch_model.safetensors.index.json";
    stub.change(NAME, |repository| {
        let weights = repository.files.remove("unet/diffusion_pytorch_model.safetensors").unwrap();
        repository.files.insert("transformer/config.json".into(), b"{}".to_vec());
        repository.files.insert("transformer/diffusion_pytorch_model.safetensors".into(), weights);
        let weights = repository.files.remove("vqvae/diffusion_pytorch_model.safetensors").unwrap();
        let shard = "vqvae/diffusion_pytorch_model-00001-of-00002.safetensors";
        repository.files.insert(shard.into(), weights);
        repository.files.insert(index.into(), b"{}".to_vec());
    });
    let error = refused(&hub(&stub, dir.path()), &PullRequest::new(NAME));
    says(&error, &["vqvae/diffusion_pytorch_model-00002-of-00002.safetensors"]);
}
