//! Limits and checks: whatever a client sends, the next request is answered.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use editmgt_server::{Server, ServerError, ServerOptions};
use serde_json::json;

use super::{INSTRUCTION, SCENE, assert_error, editor, metric, start, start_edit, upload};
use crate::client::{form, read};

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
    let description = with.get("/api/openapi.json").json();
    assert_eq!(description["security"], json!([{"token": []}]));
    let paths = &description["paths"];
    assert!(paths["/api/edits/{id}/result"]["get"]["responses"]["401"].is_object());
    assert_eq!(paths["/health"]["get"]["security"], json!([]));
    let (_server, open) = start(|_| {});
    assert_eq!(open.get("/api/openapi.json").json()["security"], json!(null));

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
fn idle_connections_make_room_for_a_request() {
    let (_server, client) = start(|options| options.limits.connections = 8);
    let photo = upload(&client);
    let body =
        json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": MANY_STEPS}});
    // The last of these still waits when room is needed, however fast the others are.
    let edits = [(); 8].map(|()| start_edit(&client, &body));
    let edit = &edits[7];
    let mut events = client.events(edit);
    assert!(events.next().is_some());
    // No request, a part of one, and one that was answered.
    let sent = [
        String::new(),
        "GET /hea".to_owned(),
        format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", client.address()),
    ];
    let idle: Vec<_> = (0..60)
        .map(|i| {
            let mut stream = TcpStream::connect(client.address()).unwrap();
            stream.write_all(sent[i % 3].as_bytes()).unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    assert_eq!(client.get("/health").status, 200);
    // Without room it would be 8 connections in 10 seconds.
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert!(metric(&client, "editmgt_connections") <= 9.0);
    drop(idle);
    client.post(&format!("/api/edits/{edit}/cancel"), "", b"");
    assert_eq!(events.last().unwrap().name, "stopped", "a connection with an answer stays");
}

#[test]
fn answers_that_are_not_taken_end() {
    let (_server, client) =
        start(|options| options.limits.answer_pause = Duration::from_millis(300));
    let mut photo = std::io::Cursor::new(Vec::new());
    // Noise, which PNG does not compress: more than the sockets' buffers take.
    let mut state = 1_u32;
    let noise = image::RgbImage::from_fn(3000, 2000, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb(state.to_be_bytes()[..3].try_into().unwrap())
    });
    noise.write_to(&mut photo, image::ImageFormat::Png).unwrap();
    let answer = client.post("/api/photos", "image/png", photo.get_ref());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    // A slow machine may begin to answer late.
    let mut taken = [1, 4, 16].map(Duration::from_secs).into_iter().map(|pause| {
        let untaken = client.send("GET", &format!("/api/photos/{id}/image"), &[], b"");
        std::thread::sleep(pause);
        let mut taken = Vec::new();
        // It may be reset.
        let _broken_off = BufReader::new(untaken).read_to_end(&mut taken);
        taken.len()
    });
    let half = photo.get_ref().len() / 2;
    assert!(taken.any(|taken| taken < half), "more than {half} bytes each time");
    let whole = client.get(&format!("/api/photos/{id}/image"));
    assert_eq!(image::load_from_memory(&whole.body).unwrap().to_rgb8(), noise);
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

#[test]
fn time_in_the_queue_is_counted_for_what_ran() {
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    let body =
        |steps| json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": steps}});
    let first = start_edit(&client, &body(MANY_STEPS));
    let second = start_edit(&client, &body(1));
    let never = start_edit(&client, &body(1));
    assert_eq!(client.post(&format!("/api/edits/{never}/cancel"), "", b"").status, 202);
    assert_eq!(metric(&client, "editmgt_edits_total{status=\"stopped\"}"), 1.0);
    assert_eq!(metric(&client, "editmgt_edit_seconds_count{status=\"stopped\"}"), 0.0);
    std::thread::sleep(Duration::from_millis(50));
    client.post(&format!("/api/edits/{first}/cancel"), "", b"");
    assert_eq!(client.events(&second).last().unwrap().name, "done");
    assert_eq!(metric(&client, "editmgt_queue_seconds_count"), 2.0);
    let waited = metric(&client, "editmgt_queue_seconds_sum");
    assert!(waited >= 0.05, "{waited}");
}

#[test]
fn strange_forms_are_refused_by_name() {
    let (_server, client) = start(|_| {});
    let image = ("image", "scene.png", SCENE);
    let wide = {
        let mut png = std::io::Cursor::new(Vec::new());
        image::GrayImage::from_pixel(64, 16, image::Luma([255]))
            .write_to(&mut png, image::ImageFormat::Png)
            .unwrap();
        png.into_inner()
    };
    let long = "9".repeat(40);
    for (text, code, param) in [
        (("prompt", "make the red\0 car blue"), "unknown_words", "instruction"),
        (("prompt", "make the \u{202e}red\u{200d} car blue"), "unknown_words", "instruction"),
        (("prompt", "r\u{338}\u{321}e\u{337}d"), "unknown_words", "instruction"),
        (("prompt", "\u{feff}"), "unknown_words", "instruction"),
        (("prompt", "\u{2003}\u{2028}\n"), "missing", "prompt"),
        (("n", "1000"), "option", "n"),
        (("n", &long), "option", "n"),
        (("size", "4294967296x4294967296"), "option", "size"),
        (("model_size", "100000"), "option", "size"),
        (("steps", "NaN"), "option", "steps"),
        (("guidance_scale", "1e39"), "option", "guidance_scale"),
        (("hold", "budget:nan"), "option", "hold"),
        (("task", "outpaint:18446744073709551615,18446744073709551615,1,1"), "option", "task"),
        (("seed", "-1"), "option", "seed"),
    ] {
        let others = [("prompt", INSTRUCTION)].into_iter().filter(|(name, _)| *name != text.0);
        let texts: Vec<_> = others.chain([text]).collect();
        let answer = client.post_form("/v1/images/edits", &[image], &texts);
        assert_error(&answer, 400, code, Some(param));
    }
    let texts = [("prompt", INSTRUCTION)];
    let mask = ("mask", "mask.png", &*wide);
    let answer = client.post_form("/v1/images/edits", &[image, mask], &texts);
    assert_error(&answer, 400, "mask", Some("mask"));
    let (kind, body) = form(&[image], &texts);
    for body in
        [&body[..body.len() / 2], &body[..body.len() - 8], b"", b"--boundary-of-a-test--\r\n"]
    {
        let answer = client.post("/v1/images/edits", &kind, body);
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    let other = "multipart/form-data; boundary=other";
    assert_error(&client.post("/v1/images/edits", other, &body), 400, "form", None);
    for path in ["/api/photos/..%2f..%2fetc%2fpasswd", "/api/photos/%00/image", "/api/edits/../x"] {
        assert_error(&client.get(path), 404, "not_found", None);
    }
    assert_eq!(client.post("/v1/images/edits", &kind, &body).status, 200);
    assert_eq!(metric(&client, "editmgt_photos"), 0.0, "what was refused is not kept");
}

#[test]
fn failures_of_the_layers_below_say_why() {
    let (_server, client) = start(|_| {});
    let answer = client.get("/api/photos/%ff%fe/image");
    assert_error(&answer, 400, "request", None);
    assert!(answer.text().contains("UTF-8"), "{}", answer.text());
    let both = client.with("Accept", "application/json, text/event-stream");
    let answer = both.post("/mcp", "application/json", b"{}");
    assert_error(&answer, 415, "request", None);
    assert!(answer.json()["error"]["message"].as_str().unwrap().len() > 30, "{}", answer.text());
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
