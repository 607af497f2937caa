//! Several models side by side.

use editmgt_server::{ServedModel, Server, ServerError, ServerOptions};
use serde_json::{Value, json};

use super::{INSTRUCTION, assert_error, editor, metric, start_edit, upload};
use crate::client::Client;

fn options(budget: u64) -> ServerOptions {
    let mut options = ServerOptions::default();
    options.address = "127.0.0.1:0".parse().unwrap();
    options.memory_budget = Some(budget);
    options
}

fn model(name: &str, bytes: u64) -> ServedModel {
    ServedModel::new(name, bytes, || Ok(editor()))
}

fn done(client: &Client, body: &Value) -> Value {
    let edit = start_edit(client, body);
    let last = client.events(&edit).last().unwrap();
    assert_eq!(last.name, "done", "{}", last.data);
    last.data
}

#[test]
fn models_take_turns_in_a_memory_budget() {
    let models = vec![model("first", 60), model("second", 60)];
    let server = Server::start_models(models, options(100)).unwrap();
    let client = Client::new(server.address());
    let names = client.get("/v1/models").json();
    let names: Vec<_> = names["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(names, ["first", "second"]);
    let photo = upload(&client);
    let mut results = Vec::new();
    for (name, used) in [(None, "first"), (Some("second"), "second"), (Some("first"), "first")] {
        let body = json!({"photo": photo, "instruction": INSTRUCTION, "model": name});
        let edit = done(&client, &body);
        assert_eq!(edit["model"], used);
        assert_eq!(metric(&client, "editmgt_models"), 1.0, "two do not fit");
        let id = edit["id"].as_str().unwrap();
        results.push(client.get(&format!("/api/edits/{id}/result")).body);
        // Maps are there although the model was unloaded in between.
        assert_eq!(client.post_json("/api/maps", &json!({"edit": id})).status, 200);
    }
    assert_eq!(results[0], results[2]);
    assert_eq!(client.get("/api/model?model=second").json()["name"], "second");
    assert_error(&client.get("/api/model?model=x"), 404, "model_not_found", Some("model"));
    assert_error(&client.get("/api/model?name=x"), 400, "unknown_key", Some("name"));
    let body = json!({"photo": photo, "instruction": INSTRUCTION, "model": "x"});
    assert_error(&client.post_json("/api/edits", &body), 404, "model_not_found", Some("model"));
}

#[test]
fn model_that_does_not_fit_beside_the_running_one_is_refused_for_now() {
    let models = vec![model("first", 60), model("second", 60)];
    let server = Server::start_models(models, options(100)).unwrap();
    let client = Client::new(server.address());
    let photo = upload(&client);
    let body = json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": 256}});
    let edit = start_edit(&client, &body);
    let mut events = client.events(&edit);
    while events.next().is_some_and(|event| event.name != "step") {}
    let body = json!({"photo": photo, "instruction": INSTRUCTION, "model": "second"});
    let answer = client.post_json("/api/edits", &body);
    assert_error(&answer, 429, "model_busy", Some("model"));
    assert!(answer.header("retry-after").is_some());
    client.post(&format!("/api/edits/{edit}/cancel"), "", b"");
    assert_eq!(events.last().unwrap().name, "stopped");
    done(&client, &body);
}

#[test]
fn models_without_their_own_name_or_room_are_refused_at_the_start() {
    let start =
        |models: Vec<ServedModel>| Server::start_models(models, options(100)).err().unwrap();
    assert!(matches!(start(vec![]), ServerError::Models { .. }));
    let twice = start(vec![model("m", 1), model("m", 1)]).to_string();
    assert!(twice.contains("\"m\" twice"), "{twice}");
    let large = start(vec![model("m", 1), model("large", 101)]).to_string();
    assert!(large.contains("large") && large.contains("101") && large.contains("100"), "{large}");
    let broken = ServedModel::new("broken", 1, || editmgt::Editor::open("no such folder"));
    assert!(matches!(start(vec![broken]), ServerError::Load(_)));
}
