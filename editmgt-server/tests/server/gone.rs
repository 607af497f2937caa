//! Clients that go away, and a server that does.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{INSTRUCTION, SCENE, metric, start, start_edit, upload};
use crate::client::form;
use crate::limits::until;

const STEPS: &str = "256";

#[test]
fn a_client_that_goes_away_stops_its_edit() {
    let (_server, client) = start(|_| {});
    for stream in ["false", "true"] {
        let before = metric(&client, "editmgt_edits_total{status=\"stopped\"}");
        let texts = [("prompt", INSTRUCTION), ("steps", STEPS), ("stream", stream)];
        let (kind, body) = form(&[("image", "scene.png", SCENE)], &texts);
        let length = body.len().to_string();
        let headers = [("Content-Type", &*kind), ("Content-Length", &*length)];
        let connection = client.send("POST", "/v1/images/edits", &headers, &body);
        until(|| metric(&client, "editmgt_queue") == 1.0);
        drop(connection);
        // An edit leaves the queue before it is counted.
        until(|| metric(&client, "editmgt_edits_total{status=\"stopped\"}") == before + 1.0);
        assert_eq!(metric(&client, "editmgt_queue"), 0.0, "stream {stream}");
        assert_eq!(metric(&client, "editmgt_photos"), 0.0, "stream {stream}");
    }
    let answer = client.post_form(
        "/v1/images/edits",
        &[("image", "scene.png", SCENE)],
        &[("prompt", INSTRUCTION)],
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_subscriber_that_goes_away_stops_nothing() {
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    let edit = start_edit(
        &client,
        &json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": "20"}}),
    );
    let mut events = client.events(&edit);
    assert!(events.next().is_some());
    drop(events);
    assert_eq!(client.events(&edit).last().unwrap().name, "done");
}

#[test]
fn a_server_that_stops_ends_the_edits_and_tells_subscribers() {
    let (server, client) = start(|_| {});
    let photo = upload(&client);
    let body = json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": STEPS}});
    let edits = [start_edit(&client, &body), start_edit(&client, &body)];
    let subscribers = edits.each_ref().map(|edit| {
        let mut events = client.events(edit);
        assert!(events.next().is_some());
        std::thread::spawn(move || events.last().unwrap())
    });
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    for subscriber in subscribers {
        assert_eq!(subscriber.join().unwrap().name, "stopped");
    }
}
