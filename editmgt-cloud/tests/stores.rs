//! Objects of a local S3 server, of HTTP and of the file system.
#![forbid(unsafe_code)]

use std::time::Duration;

use editmgt_cloud::{Cloud, CloudError, Downloads, Location};
use editmgt_tests::s3::{BEARER, KEY_ID, S3, SECRET};

fn at(url: &str) -> Location {
    Location::parse(url).unwrap()
}

fn cloud(server: &S3) -> Cloud {
    let variables = server.variables().into_iter().chain(server.google_variables());
    Cloud::new(variables).unwrap().retries(3, Duration::from_millis(5))
}

#[test]
fn objects_are_put_whole_read_and_listed() {
    for scheme in ["s3", "gs"] {
        let server = S3::start();
        let cloud = cloud(&server);
        let at = |key: &str| at(&format!("{scheme}://bucket/{key}"));
        let photo = at("in/a b.png");
        assert_eq!(cloud.head(&photo).unwrap(), None);
        cloud.put(&photo, b"photo".to_vec(), false).unwrap();
        assert_eq!(cloud.get(&photo, 5).unwrap(), b"photo");
        assert_eq!(cloud.head(&photo).unwrap(), Some(5));
        let exists = cloud.put(&photo, b"other".to_vec(), false).unwrap_err();
        assert!(matches!(exists, CloudError::Exists { .. }), "{exists}");
        cloud.put(&photo, b"new".to_vec(), true).unwrap();
        assert_eq!(server.object("bucket/in/a%20b.png").unwrap(), b"new");
        // Several pages.
        for i in 0..5 {
            server.insert(&format!("bucket/out/{i}.json"), vec![0; i]);
        }
        server.insert("bucket/outside/x", "x");
        let mut listed = cloud.list(&at("out")).unwrap();
        listed.sort_by_key(|info| info.name.clone());
        let listed: Vec<_> = listed.iter().map(|info| (&*info.name, info.bytes)).collect();
        let names: Vec<_> = (0..5).map(|i| format!("{i}.json")).collect();
        let expected: Vec<_> =
            names.iter().enumerate().map(|(i, name)| (&**name, i as u64)).collect();
        assert_eq!(listed, expected);
        let both = [at("out/3.json"), at("out/9.json")];
        assert_eq!(cloud.get_all(&both, 9).unwrap(), [Some(vec![0; 3]), None]);
    }
}

#[test]
fn busy_server_and_broken_connection_are_tried_again() {
    let server = S3::start();
    let cloud = cloud(&server);
    let photo = at("s3://bucket/a.png");
    server.insert("bucket/a.png", vec![7; 10_000]);
    server.fail(2);
    assert_eq!(cloud.get(&photo, 1 << 20).unwrap().len(), 10_000);
    assert_eq!(server.requests().len(), 3);
    server.fail(2);
    cloud.put(&at("s3://bucket/b.png"), vec![1], true).unwrap();
    server.break_off(1);
    let mut downloads = Downloads::new(1 << 20).unwrap();
    let file = downloads.fetch(&cloud, &photo).unwrap();
    assert_eq!(std::fs::read(file).unwrap(), vec![7; 10_000]);
    server.fail(1000);
    let error = cloud.get(&photo, 1 << 20).unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[test]
fn failures_name_the_object_and_no_credentials() {
    let server = S3::start();
    let with = |name: &str, value: &str| {
        let others = server.variables().into_iter().filter(|(other, _)| other != name);
        Cloud::new(others.chain([(name.to_owned(), value.to_owned())])).unwrap()
    };
    let photo = at("s3://bucket/a.png");
    server.insert("bucket/a.png", vec![0; 100]);
    let missing = cloud(&server).get(&at("s3://bucket/none.png"), 9).unwrap_err();
    assert_eq!(missing.to_string(), "s3://bucket/none.png: there is no such object");
    let large = cloud(&server).get(&photo, 99).unwrap_err();
    assert_eq!(large.to_string(), "s3://bucket/a.png: 100 bytes, the limit is 99");
    let denied = with("AWS_ACCESS_KEY_ID", "AKIAOTHER");
    for error in [
        denied.get(&photo, 999).unwrap_err(),
        denied.put(&photo, vec![1], true).unwrap_err(),
        denied.list(&at("s3://bucket/x")).unwrap_err(),
        with("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .retries(0, Duration::ZERO)
            .get(&photo, 9)
            .unwrap_err(),
    ] {
        let (text, debug) = (error.to_string(), format!("{error:?}"));
        for secret in [KEY_ID, "AKIAOTHER", SECRET] {
            assert!(!text.contains(secret) && !debug.contains(secret), "{text}\n{debug}");
        }
        assert!(text.contains("s3://bucket/"), "{text}");
    }
    let error = denied.get(&photo, 999).unwrap_err();
    assert!(matches!(error, CloudError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");

    let others = server.google_variables().into_iter().filter(|(name, _)| name.contains("URL"));
    let token = ("GOOGLE_BEARER_TOKEN".to_owned(), format!("other-{BEARER}"));
    let denied = Cloud::new(others.chain([token])).unwrap();
    let error = denied.get(&at("gs://bucket/a.png"), 999).unwrap_err();
    assert!(matches!(error, CloudError::Denied { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains(BEARER), "{error}");
    assert!(error.to_string().contains("GOOGLE_APPLICATION_CREDENTIALS"), "{error}");
}

#[test]
fn http_servers_are_read_and_never_written() {
    let server = S3::start();
    server.insert("open/a.png", "photo");
    let cloud = Cloud::new([]).unwrap().retries(0, Duration::ZERO);
    let photo = at(&format!("{}/open/a.png", server.url()));
    assert_eq!(cloud.get(&photo, 9).unwrap(), b"photo");
    let put = cloud.put(&photo, vec![1], true).unwrap_err();
    assert!(matches!(put, CloudError::ReadOnly { .. }), "{put}");
    assert!(matches!(cloud.list(&photo.parent()), Err(CloudError::ReadOnly { .. })));
    let missing = cloud.get(&at(&format!("{}/open/none.png", server.url())), 9).unwrap_err();
    assert!(matches!(missing, CloudError::NotFound { .. }), "{missing}");
}

#[test]
fn files_are_read_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.png");
    let cloud = Cloud::new([]).unwrap();
    let location = at(file.to_str().unwrap());
    cloud.put(&location, b"photo".to_vec(), false).unwrap();
    assert!(matches!(cloud.put(&location, vec![1], false), Err(CloudError::Exists { .. })));
    assert_eq!(cloud.get(&location, 9).unwrap(), b"photo");
    assert!(matches!(cloud.get(&location, 4), Err(CloudError::TooLarge { bytes: 5, .. })));
    let mut downloads = Downloads::new(9).unwrap();
    assert_eq!(downloads.fetch(&cloud, &location).unwrap(), file);
}

#[test]
fn downloaded_files_are_kept_until_they_are_not_needed() {
    let server = S3::start();
    server.insert("bucket/a.png", "a");
    server.insert("bucket/b", "b");
    let cloud = cloud(&server);
    let (a, b) = (at("s3://bucket/a.png"), at("s3://bucket/b"));
    let mut downloads = Downloads::new(9).unwrap();
    let first = downloads.fetch(&cloud, &a).unwrap();
    assert_eq!(first.extension().unwrap(), "png");
    assert_eq!(downloads.fetch(&cloud, &a).unwrap(), first);
    assert_eq!(server.requests().len(), 1);
    let second = downloads.fetch(&cloud, &b).unwrap();
    downloads.keep_only(&[&b]);
    assert!(!first.exists() && second.exists());
    let folder = downloads.folder().to_owned();
    drop(downloads);
    assert!(!folder.exists());
}
