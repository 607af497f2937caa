//! Limits and checks: whatever a client sends, the next request is answered.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use editmgt_server::{Server, ServerError, ServerOptions};
use serde_json::json;

use super::{INSTRUCTION, SCENE, assert_error, editor, metric, start, start_edit, upload};
use crate::client::read;

const TOKEN: &str = "0123456789abcdef-token";
/// More steps than a test waits for.
const MANY_STEPS: usize = 256;

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let (_server, client) = start(|_| {});
    let own = format!("http://{}", client.address());
    assert_eq!(client.with("Origin", &own).get("/api/model").status, 200);
    assert_error(&client.with("Host", "evil.example").get("/"), 421, "host", None);
    assert_error(&client.with("Host", "evil.example").get("/health"), 421, "host", None);
    let origin = client.with("Origin", "http://evil.example");
    assert_error(&origin.post("/api/photos", "image/png", SCENE), 403, "origin", None);
    assert_error(&client.with("Origin", "null").get("/api/model"), 403, "origin", None);
    assert_error(
        &client.with("Sec-Fetch-Site", "cross-site").get("/api/model"),
        403,
        "origin",
        None,
    );
    let answer = client.with("Origin", &own).get("/api/model");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(metric(&client, "editmgt_photos"), 0.0);
}

#[test]
fn a_token_is_needed_for_all_but_page_and_health() {
    let (_server, client) = start(|options| options.token = Some(TOKEN.into()));
    for path in ["/api/model", "/metrics", "/v1/models", "/api/openapi.json", "/api/edits/x/events"]
    {
        let answer = client.get(path);
        assert_error(&answer, 401, "token", None);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    assert_error(&client.post("/api/photos", "image/png", SCENE), 401, "token", None);
    assert_error(
        &client.with("Authorization", "Bearer wrong").get("/api/model"),
        401,
        "token",
        None,
    );
    assert_error(&client.get(&format!("/api/model?token={TOKEN}")), 401, "token", None);
    for path in ["/", "/app.js", "/health", "/ready"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    let with = client.with("Authorization", &format!("Bearer {TOKEN}"));
    assert_eq!(with.get("/api/model").status, 200);

    let mut options = ServerOptions::default();
    options.address = "0.0.0.0:0".parse().unwrap();
    let refused = Server::start(editor(), options).err();
    assert!(matches!(refused, Some(ServerError::TokenNeeded { .. })), "{refused:?}");
}

/// A PNG that says it is this large.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    for (name, data) in [(b"IHDR", header), (b"IDAT", vec![0x78, 0x9c]), (b"IEND", Vec::new())] {
        png.extend((data.len() as u32).to_be_bytes());
        let chunk = [&name[..], &data].concat();
        png.extend(&chunk);
        png.extend(crc(&chunk).to_be_bytes());
    }
    png
}

#[test]
fn large_bodies_bombs_and_stripes_are_refused() {
    let (_server, client) = start(|options| options.limits.photo_bytes = 100_000);
    let answer = client.post("/api/photos", "image/png", &vec![0; 100_001]);
    assert_error(&answer, 413, "too_large", Some("photo_bytes"));
    // Without a length, and without all of it.
    let stream = client.send("POST", "/api/photos", &[("Transfer-Encoding", "chunked")], b"");
    drop(stream);
    let answer = client.post("/api/photos", "image/png", &png_of(60_000, 60_000));
    assert_error(&answer, 413, "too_large", Some("photo_megapixels"));
    let mut stripe = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(8, 400).write_to(&mut stripe, image::ImageFormat::Png).unwrap();
    let answer = client.post("/api/photos", "image/png", stripe.get_ref());
    assert_error(&answer, 413, "too_large", Some("photo_ratio"));
    let form = client.post_form(
        "/v1/images/edits",
        &[("image", "x.png", &vec![0; 100_001])],
        &[("prompt", "x")],
    );
    assert_error(&form, 413, "too_large", Some("photo_bytes"));
    let form = client.post_form(
        "/v1/images/edits",
        &[("image", "x.png", &png_of(60_000, 60_000))],
        &[("prompt", "x")],
    );
    assert_error(&form, 413, "too_large", Some("photo_megapixels"));
    let long = format!("{{\"photo\": \"{}\"}}", "x".repeat(300_000));
    let answer = client.post("/api/edits", "application/json", long.as_bytes());
    assert_error(&answer, 413, "too_large", Some("json_bytes"));
    upload(&client);
}

#[test]
fn slow_and_broken_requests_end() {
    let (_server, client) = start(|options| options.limits.pause = Duration::from_millis(300));
    let stream = client.send("POST", "/api/photos", &[("Content-Length", "1000")], b"part");
    assert_error(&read(&mut BufReader::new(stream)), 408, "timeout", None);
    // A connection without a request, or with a head that never ends, is closed.
    for sent in [&b""[..], b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let mut stream = TcpStream::connect(client.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(sent).unwrap();
        let start = Instant::now();
        // It may be reset.
        let _answer = stream.read_to_end(&mut Vec::new());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    for broken in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"POST /api/photos HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ] {
        TcpStream::connect(client.address()).unwrap().write_all(broken).unwrap();
    }
    drop(client.send("POST", "/api/photos", &[("Content-Length", "1000")], b"part"));
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let (_server, client) = start(|options| options.limits.queue = 2);
    let photo = upload(&client);
    let body =
        json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": MANY_STEPS}});
    let running = start_edit(&client, &body);
    let waiting = start_edit(&client, &body);
    let answer = client.post_json("/api/edits", &body);
    assert_error(&answer, 429, "queue_full", None);
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    let start = Instant::now();
    assert_eq!(client.get("/health").status, 200);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "health waited for the edit: {:?}",
        start.elapsed()
    );
    // One that waits ends at once.
    let cancelled = client.post(&format!("/api/edits/{waiting}/cancel"), "", b"").json();
    assert_eq!((&cancelled["status"], &cancelled["completed"]), (&json!("stopped"), &json!(0)));
    let next = start_edit(&client, &body);
    let first = client.events(&next).next().unwrap();
    assert_eq!((&*first.name, &first.data), ("queued", &json!({"position": 1})));
    // A photo that is forgotten stops its edits.
    assert_eq!(client.request("DELETE", &format!("/api/photos/{photo}"), "", b"").status, 204);
    until(|| metric(&client, "editmgt_queue") == 0.0);
    assert_error(&client.get(&format!("/api/edits/{running}")), 404, "not_found", None);
}

/// Waits until it is so.
pub(crate) fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn edits_end_at_the_time_limit() {
    let (_server, client) = start(|options| options.limits.edit_time = Duration::from_millis(50));
    let photo = upload(&client);
    let body =
        json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": MANY_STEPS}});
    let edit = start_edit(&client, &body);
    let last = client.events(&edit).last().unwrap();
    assert_eq!((&*last.name, &last.data["error"]["code"]), ("failed", &json!("time_limit")));
}

#[test]
fn photos_are_bounded_in_number_and_age() {
    let (_server, client) = start(|options| options.limits.photos = 2);
    let photos = [upload(&client), upload(&client)];
    assert_eq!(client.get(&format!("/api/photos/{}", photos[0])).status, 200);
    let third = upload(&client);
    assert_error(&client.get(&format!("/api/photos/{}", photos[1])), 404, "not_found", None);
    for photo in [&photos[0], &third] {
        assert_eq!(client.get(&format!("/api/photos/{photo}")).status, 200, "used last");
    }
    let (_server, client) = start(|options| options.keep = Duration::from_millis(200));
    let photo = upload(&client);
    until(|| metric(&client, "editmgt_photos") == 0.0);
    assert_error(&client.get(&format!("/api/photos/{photo}")), 404, "not_found", None);
}
