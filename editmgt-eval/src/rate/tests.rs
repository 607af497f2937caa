//! Against a server with scripted replies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use super::*;
use crate::{Measured, Panels, RunStore, Shard};

/// A received request.
struct Request {
    head: String,
    body: Value,
}

/// Answers one request per reply, each a status and a body.
struct Stub {
    url: String,
    thread: JoinHandle<Vec<Request>>,
}

impl Stub {
    fn new(replies: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let answer = move |(status, body): (u16, String)| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read(&stream);
            let length = body.len();
            let reply = format!(
                "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(reply.as_bytes()).unwrap();
            request
        };
        let thread = std::thread::spawn(move || replies.into_iter().map(answer).collect());
        Self { url, thread }
    }

    fn requests(self) -> Vec<Request> {
        self.thread.join().unwrap()
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the head has an end");
    }
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1).expect("a length");
    let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Request { head: lower, body: serde_json::from_slice(&body).unwrap() }
}

fn chat(content: &str) -> (u16, String) {
    (200, json!({"choices": [{"message": {"role": "assistant", "content": content}}]}).to_string())
}

/// A run of `count` edits, with images.
fn edits(dir: &Path, n: u64) {
    let mut store = RunStore::open(dir, &json!({}), Shard::default()).unwrap();
    for index in 0..n {
        let picture = |level| RgbImage::from_pixel(4, 4, Rgb([level; 3]));
        let (before, after) = (picture(1), picture(2));
        let panels = Panels { before, truth: None, map: None, held: None, after };
        panels.save(dir, index).unwrap();
        let record = Record {
            index,
            name: None,
            category: None,
            kind: None,
            instruction: format!("make it {index}"),
            metrics: Metrics::default().with("l1", 0.5),
            skipped: None,
        };
        store.add(&Measured { record, panels: None, seconds: None }).unwrap();
    }
}

fn rated(dir: &Path, model: &str, url: &str) -> Result<Rated, EvalError> {
    let endpoint = Endpoint::new(url, model, Some("secret".into()), Duration::from_secs(20));
    rate(dir, &dir.join("ratings"), &endpoint, &mut |_, _| ())
}

#[test]
fn every_edit_is_rated_once() {
    let dir = tempfile::tempdir().unwrap();
    edits(dir.path(), 3);
    let stub = Stub::new(vec![
        chat(r#"{"reason": "good", "followed": 8, "kept": 2}"#),
        chat("I'd rather not."),
        (200, "{}".into()),
    ]);
    let url = stub.url.clone();
    let first = rated(dir.path(), "judge", &url).unwrap();
    let requests = stub.requests();
    assert_eq!(requests.len(), 3);
    let Request { head, body } = &requests[1];
    assert!(head.starts_with("post /v1/chat/completions "), "{head}");
    assert!(head.contains("authorization: bearer secret\r\n"), "{head}");
    assert_eq!((&body["model"], &body["temperature"]), (&json!("judge"), &json!(0)));
    let content = &body["messages"][0]["content"];
    assert!(content[0]["text"].as_str().unwrap().ends_with("Instruction: make it 1"), "{content}");
    let picture = |i: usize| content[i]["image_url"]["url"].as_str().unwrap();
    assert!(picture(1).starts_with("data:image/png;base64,iVBOR"), "{content}");
    assert_ne!(picture(1), picture(2));

    assert_eq!(first.records.len(), 1);
    let metrics = &first.records[0].metrics;
    let scores = ["rated_followed", "rated_kept", "rated_overall"].map(|name| metrics.get(name));
    assert_eq!(scores, [Some(8.0), Some(2.0), Some(4.0)]);
    assert_eq!(metrics.get("l1"), None);
    let problems: Vec<u64> = first.problems.iter().map(|(index, _)| *index).collect();
    assert_eq!(problems, [1, 2]);
    assert!(first.problems[0].1.contains("I'd rather not."), "{:?}", first.problems);
    assert!(first.problems[1].1.contains("expected a chat's reply"), "{:?}", first.problems);

    let rater = std::fs::read_to_string(dir.path().join("ratings/rater.json")).unwrap();
    assert!(rater.contains("judge") && !rater.contains("secret"), "{rater}");

    // Only the two without scores are requested again, at any URL.
    let stub = Stub::new(vec![chat(r#"{"followed": 1, "kept": 1}"#), (500, "no memory".into())]);
    let url = stub.url.clone();
    let error = rated(dir.path(), "judge", &url).unwrap_err();
    let EvalError::Status { status: 500, reply, .. } = &error else { panic!("{error}") };
    assert_eq!(reply, "no memory");
    assert_eq!(stub.requests().len(), 2);
    let lines = std::fs::read_to_string(dir.path().join("ratings/ratings.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 4);
}

#[test]
fn failed_ratings_name_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    edits(dir.path(), 1);
    // A port that was free a moment ago and has no listener.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = format!("http://{port}/v1");
    let error = rated(dir.path(), "judge", &unreachable).unwrap_err();
    assert!(matches!(&error, EvalError::Endpoint { .. }), "{error}");
    assert!(error.to_string().starts_with(&unreachable), "{error}");
    // Another rater's scores are not mixed with these.
    let error = rated(dir.path(), "jury", &unreachable).unwrap_err().to_string();
    assert!(error.contains("rater.json") && error.contains("another model"), "{error}");

    let bare = tempfile::tempdir().unwrap();
    edits(bare.path(), 1);
    std::fs::remove_dir_all(bare.path().join("pictures")).unwrap();
    let error = rated(bare.path(), "judge", &unreachable).unwrap_err().to_string();
    assert!(error.contains("the images of edit 0") && error.contains("--pictures"), "{error}");
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_needs_a_feature() {
    let dir = tempfile::tempdir().unwrap();
    edits(dir.path(), 1);
    // There is a listener, so that the error is the missing TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let error = rated(dir.path(), "judge", &url).unwrap_err().to_string();
    assert!(error.contains("--features tls"), "{error}");
}

#[test]
fn asks_again_without_parameters_that_the_service_refuses() {
    let dir = tempfile::tempdir().unwrap();
    edits(dir.path(), 1);
    let refused = |text: &str| (400, json!({"error": {"message": text}}).to_string());
    let stub = Stub::new(vec![
        refused("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        refused("'temperature' does not support 0 with this model."),
        chat(r#"{"followed": 4, "kept": 9}"#),
    ]);
    let url = stub.url.clone();
    assert_eq!(rated(dir.path(), "judge", &url).unwrap().records.len(), 1);
    let requests = stub.requests();
    let has = |i: usize, key: &str| requests[i].body.get(key).is_some();
    let keys = ["max_tokens", "max_completion_tokens", "temperature"];
    let sent: Vec<_> = (0..3).map(|i| keys.map(|key| has(i, key))).collect();
    assert_eq!(sent, [[true, false, true], [false, true, true], [false, true, false]]);
}

#[test]
fn retries_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    edits(dir.path(), 1);
    let refused = |text: &str| (400, text.to_owned());
    let all = "no temperature, no max_tokens, no max_completion_tokens";
    let stub = Stub::new(vec![refused(all); 4]);
    let url = stub.url.clone();
    let error = rated(dir.path(), "judge", &url).unwrap_err();
    assert!(matches!(error, EvalError::Status { status: 400, .. }), "{error}");
    assert_eq!(stub.requests().len(), 4);

    let stub = Stub::new(vec![refused("no such model")]);
    let url = stub.url.clone();
    let error = rated(dir.path(), "judge", &url).unwrap_err();
    assert!(error.to_string().contains("no such model"), "{error}");
    assert_eq!(stub.requests().len(), 1);
}
