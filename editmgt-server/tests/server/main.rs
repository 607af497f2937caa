//! The server over HTTP, with the embedded model.
#![forbid(unsafe_code)]

mod api;
mod client;
mod data;
mod gone;
mod limits;
mod mcp;
mod models;
mod openai;

use editmgt::{Editor, Photo};
use editmgt_server::{Server, ServerOptions};

use client::{Answer, Client};

const SCENE: &[u8] = include_bytes!("../../scenes/scene.png");
const INSTRUCTION: &str = "make the red car blue";

fn editor() -> Editor {
    Editor::embedded().build().unwrap()
}

fn scene() -> Photo {
    Photo::from_bytes(SCENE).unwrap()
}

/// Starts a server on a free port.
fn start(change: impl FnOnce(&mut ServerOptions)) -> (Server, Client) {
    let mut options = ServerOptions::default();
    options.address = "127.0.0.1:0".parse().unwrap();
    change(&mut options);
    let server = Server::start(editor(), options).unwrap();
    let client = Client::new(server.address());
    (server, client)
}

/// Uploads the scene; gives its id.
fn upload(client: &Client) -> String {
    let answer = client.post("/api/photos?name=scene.png", "image/png", SCENE);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// Starts an edit of a photo; gives its id.
fn start_edit(client: &Client, body: &serde_json::Value) -> String {
    let answer = client.post_json("/api/edits", body);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(&*format!("/api/edits/{id}")));
    id
}

/// The number of a metric: of its first line, where it has several.
fn metric(client: &Client, name: &str) -> f64 {
    let text = client.get("/metrics").text();
    let is_it =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let line = text.lines().find(is_it);
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn assert_error(answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    let body = answer.json();
    let error = &body["error"];
    assert_eq!(answer.status, status, "{body}");
    assert_eq!((error["code"].as_str(), error["param"].as_str()), (Some(code), param), "{body}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(error["type"].is_string(), "{body}");
}
