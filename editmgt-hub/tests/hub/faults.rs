//! Connections that are cut, hosts without ranges, damage, limits.

use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use editmgt_hub::{Hub, HubError, PullEvent, PullObserver, PullRequest, Quiet};
use editmgt_tests::hub::{StubFault, StubHub};

use crate::{Watcher, hub, large, model, settings, with_token};

const NAME: &str = "some-one/Model";
const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

fn pull(stub: &StubHub, dir: &tempfile::TempDir) -> (Result<(), HubError>, Watcher) {
    let mut watcher = Watcher::default();
    let report = hub(stub, dir.path()).pull(&PullRequest::new(NAME), &mut watcher);
    (report.map(drop), watcher)
}

/// Ranges asked for, of the second port.
fn ranges(stub: &StubHub) -> Vec<Option<String>> {
    let requests = stub.requests().into_iter();
    requests.filter(|request| request.is_cdn).map(|request| request.range).collect()
}

#[test]
fn cut_connections_resume_where_they_were() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    stub.fault(&repository.hash(WEIGHTS), 1, StubFault::Cut(50_000));
    stub.fault(&repository.hash(WEIGHTS), 1, StubFault::Cut(0));
    stub.fault(&repository.hash(WEIGHTS), 1, StubFault::Cut(100_000));
    let (result, watcher) = pull(&stub, &dir);
    result.unwrap();
    assert!(watcher.waits.iter().any(|(_, reason)| reason.contains("cut")), "{:?}", watcher.waits);
    let range = |from: u32| Some(format!("bytes={from}-"));
    let expected = [None, None, range(50_000), range(50_000), range(150_000), None];
    assert_eq!(ranges(&stub), expected);
}

#[test]
fn stopped_download_is_continued_by_the_next() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let mut watcher = Watcher { stop_after: Some(300_000), ..Watcher::default() };
    let stopped = hub(&stub, dir.path()).pull(&PullRequest::new(NAME), &mut watcher);
    assert!(matches!(stopped, Err(HubError::Stopped)));
    let blobs = dir.path().join("models--some-one--Model/blobs");
    let incomplete = blobs.join(format!("{}.incomplete", repository.hash(WEIGHTS)));
    let there = fs::metadata(&incomplete).unwrap().len();
    assert!(there > 0 && !dir.path().join("models--some-one--Model/refs/main").exists());
    stub.requests();
    let plan = hub(&stub, dir.path()).plan(&PullRequest::new(NAME)).unwrap();
    assert_eq!(plan.total_bytes() - plan.missing_bytes(), *watcher.totals.last().unwrap());
    pull(&stub, &dir).0.unwrap();
    assert_eq!(ranges(&stub)[0], Some(format!("bytes={there}-")));
    assert!(!incomplete.exists());
}

#[test]
fn what_was_there_is_checked_too() {
    let repository = model(NAME, "transformer");
    let hash = repository.hash(WEIGHTS);
    for there in [vec![0; 1000], vec![0; 300_000], large(1)[..70_000].to_vec(), large(1)] {
        let stub = StubHub::new([repository.clone()]);
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("models--some-one--Model/blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{hash}.incomplete")), &there).unwrap();
        pull(&stub, &dir).0.unwrap();
        assert!(fs::read(blobs.join(&hash)).unwrap() == large(1), "{} bytes before", there.len());
    }
}

#[test]
fn downloads_at_the_same_time_share_the_work() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let pulls = [(); 3].map(|()| scope.spawn(|| pull(&stub, &dir).0));
        pulls.into_iter().for_each(|pull| pull.join().unwrap().unwrap());
    });
    assert_eq!(ranges(&stub), [None, None, None], "each large file once");
    hub(&stub, dir.path()).resolve(NAME).unwrap();
}

#[test]
fn a_host_without_ranges_sends_all_again() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    stub.fault(&repository.hash(WEIGHTS), 1, StubFault::Cut(60_000));
    stub.fault(&repository.hash(WEIGHTS), 1, StubFault::NoRanges);
    pull(&stub, &dir).0.unwrap();
}

#[test]
fn damage_is_found_by_the_hash_and_leaves_nothing() {
    for (fault, path) in [
        (StubFault::Damage, WEIGHTS),
        (StubFault::Damage, "vqvae/config.json"),
        (StubFault::TooLong, WEIGHTS),
        (StubFault::TooLong, "vqvae/config.json"),
    ] {
        let repository = model(NAME, "transformer");
        let stub = StubHub::new([repository.clone()]);
        let dir = tempfile::tempdir().unwrap();
        let part = if path == WEIGHTS {
            repository.hash(path)
        } else {
            format!("resolve-cache/{NAME}/{}/{path}", repository.commit)
        };
        stub.fault(&part, 1, fault.clone());
        let error = pull(&stub, &dir).0.unwrap_err();
        assert!(matches!(error, HubError::Damaged { .. }), "{fault:?}: {error}");
        let blobs = dir.path().join("models--some-one--Model/blobs");
        let hash = repository.hash(path);
        assert!(!blobs.join(&hash).exists() && !blobs.join(format!("{hash}.incomplete")).exists());
        pull(&stub, &dir).0.unwrap();
    }
}

#[test]
fn limits_and_server_errors_are_waited_for_a_few_times() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    stub.fault("api/models", 2, StubFault::rate_limit(0));
    stub.fault("api/models", 2, StubFault::Answer(503, String::new(), "<html>".into()));
    stub.fault("/resolve/", 1, StubFault::rate_limit(1));
    let (result, watcher) = pull(&stub, &dir);
    result.unwrap();
    assert!(watcher.waits.iter().any(|(left, _)| *left > Duration::from_millis(800)));

    let dir = tempfile::tempdir().unwrap();
    stub.requests();
    stub.fault("api/models", 100, StubFault::rate_limit(0));
    let error = pull(&stub, &dir).0.unwrap_err();
    assert!(matches!(error, HubError::RateLimited { seconds: Some(0), .. }), "{error}");
    assert_eq!(stub.requests().len(), 6, "once, and five times again");
}

#[test]
fn a_wait_that_is_too_long_is_an_error_at_once() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    stub.fault("api/models", 1, StubFault::rate_limit(86_400));
    let message = pull(&stub, &dir).0.unwrap_err().to_string();
    assert!(message.contains("86400 s") && message.contains("HF_TOKEN"), "{message}");
}

#[test]
fn a_limits_window_is_waited_for() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    stub.fault("api/models", 1, StubFault::window(0));
    let (result, watcher) = pull(&stub, &dir);
    result.unwrap();
    assert!(watcher.waits[0].0 > Duration::from_millis(800), "{:?}", watcher.waits);

    // The longest window of the hub is waited for: the observer stops it.
    struct Stop(Duration);
    impl PullObserver for Stop {
        fn event(&mut self, event: &PullEvent<'_>) -> ControlFlow<()> {
            let PullEvent::Waiting { left, .. } = event else { return ControlFlow::Continue(()) };
            self.0 = *left;
            ControlFlow::Break(())
        }
    }
    let mut stop = Stop(Duration::ZERO);
    stub.fault("api/models", 1, StubFault::window(300));
    let request = PullRequest::new(NAME).refresh(true);
    let error = hub(&stub, dir.path()).pull(&request, &mut stop).unwrap_err();
    assert!(matches!(error, HubError::Stopped), "{error}");
    assert!(stop.0 > Duration::from_secs(300), "{:?}", stop.0);
}

#[test]
fn refusal_in_the_first_file_leaves_what_pythons_client_reads() {
    let mut repository = model(NAME, "transformer");
    repository.is_gated = true;
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let error = pull(&stub, &dir).0.unwrap_err();
    assert!(matches!(error, HubError::Gated { .. }), "{error}");
    let folder = dir.path().join("models--some-one--Model");
    assert!(folder.join("snapshots").join(&repository.commit).is_dir());
    assert_eq!(fs::read_dir(folder.join("blobs")).unwrap().count(), 0);
    // The licence is shown again: there is no file yet.
    let plan = hub(&stub, dir.path()).plan(&PullRequest::new(NAME)).unwrap();
    assert!(plan.repositories[0].is_first);
    let granted = with_token(&stub, dir.path(), StubHub::GRANTED);
    let mut watcher = Watcher { stop_after: Some(10), ..Watcher::default() };
    granted.pull(&PullRequest::new(NAME), &mut watcher).unwrap_err();
    assert!(!granted.plan(&PullRequest::new(NAME)).unwrap().repositories[0].is_first);
}

#[test]
fn left_overs_of_pythons_downloads_are_removed_when_the_file_is_whole() {
    let repository = model(NAME, "transformer");
    let stub = StubHub::new([repository.clone()]);
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("models--some-one--Model/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let leave = || {
        for end in ["incomplete", "0a1b2c3d.incomplete"] {
            fs::write(blobs.join(format!("{}.{end}", repository.hash(WEIGHTS))), "left").unwrap();
        }
    };
    let other = blobs.join(format!("{}.0a1b2c3d.incomplete", "e".repeat(64)));
    fs::write(&other, "other").unwrap();
    let left = || {
        let names = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(".incomplete")).count()
    };
    leave();
    pull(&stub, &dir).0.unwrap();
    assert_eq!(left(), 1, "that of another file");
    leave();
    let unfinished = || hub(&stub, dir.path()).others().unwrap()[0].unfinished_bytes;
    assert_eq!((left(), unfinished()), (3, 5), "a whole file is not unfinished");
    let request = PullRequest::new(NAME).refresh(true);
    hub(&stub, dir.path()).pull(&request, &mut Quiet).unwrap();
    assert_eq!((left(), unfinished()), (1, 5));
}

#[test]
fn connection_that_is_always_cut_is_an_error_that_names_the_attempts() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    stub.fault("cdn/", 100, StubFault::Cut(0));
    let error = pull(&stub, &dir).0.unwrap_err();
    assert!(matches!(error, HubError::Connection { attempts: 6, .. }), "{error}");
    let gone = stub.endpoint();
    drop(stub);
    let mut settings = editmgt_hub::HubSettings::new(dir.path().join("new"));
    settings.endpoint = gone;
    let error = Hub::new(settings).plan(&PullRequest::new(NAME)).unwrap_err();
    assert!(matches!(error, HubError::Connection { attempts: 1, .. }), "{error}");
}

#[test]
fn full_disk_is_an_error_before_the_download() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&stub, dir.path());
    settings.free_space = |_| Some(1000);
    let error = Hub::new(settings).pull(&PullRequest::new(NAME), &mut Quiet).unwrap_err();
    assert!(matches!(error, HubError::DiskFull { free: 1000, .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_CACHE"), "{error}");
    assert_eq!(stub.requests().len(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn token_does_not_follow_to_another_port() {
    let stub = StubHub::new([model(NAME, "transformer")]);
    let dir = tempfile::tempdir().unwrap();
    let hub = with_token(&stub, dir.path(), StubHub::OTHER);
    hub.pull(&PullRequest::new(NAME), &mut Quiet).unwrap();
    let (cdn, own): (Vec<_>, Vec<_>) = stub.requests().into_iter().partition(|it| it.is_cdn);
    assert!(cdn.len() == 3 && cdn.iter().all(|request| request.authorization.is_none()));
    let expected = format!("Bearer {}", StubHub::OTHER);
    assert!(own.iter().all(|request| request.authorization.as_ref() == Some(&expected)));
}
