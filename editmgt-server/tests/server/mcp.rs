//! `/mcp`, by JSON-RPC written by hand.

use std::io::BufReader;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Answer, Client, read};
use crate::{INSTRUCTION, SCENE, metric, start};

/// A client with a session.
struct Agent {
    client: Client,
    session: String,
}

fn post(client: &Client, message: &Value) -> Answer {
    let body = message.to_string();
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("Content-Length", &*length),
    ];
    read(&mut BufReader::new(client.send("POST", "/mcp", &headers, body.as_bytes())))
}

fn hello() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a test", "version": "1"}}})
}

/// The messages in an answer of events.
fn messages(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap()).collect()
}

impl Agent {
    fn new(client: &Client) -> Self {
        let answer = post(client, &hello());
        assert_eq!(messages(&answer).last().unwrap()["result"]["serverInfo"]["name"], "editmgt");
        let session = answer.header("mcp-session-id").unwrap().to_owned();
        let client =
            client.with("Mcp-Session-Id", &session).with("Mcp-Protocol-Version", "2025-06-18");
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(post(&client, &done).status, 202);
        Self { client, session }
    }

    /// Calls a tool; the notifications and the result.
    fn call(&self, tool: &str, arguments: Value) -> (Vec<Value>, Value) {
        let answer = post(
            &self.client,
            &json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {
                "name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}}),
        );
        let mut messages = messages(&answer);
        let last = messages.pop().unwrap();
        assert_eq!(last["id"], 5, "{last}");
        (messages, last["result"].clone())
    }
}

#[test]
fn tools_edit_an_image_of_the_message() {
    let (_server, client) = start(|_| {});
    let agent = Agent::new(&client);
    let given = json!({"photo": STANDARD.encode(SCENE), "instruction": INSTRUCTION, "options": {"seed": 3}});
    let (progress, result) = agent.call("edit_image", given);
    assert_eq!(result["isError"], false, "{result}");
    let steps =
        progress.iter().filter(|message| message["params"]["progress"].as_f64() >= Some(1.0));
    assert!(steps.count() > 0, "{progress:?}");
    let png = STANDARD.decode(result["content"][1]["data"].as_str().unwrap()).unwrap();
    let (_, record) = agent.call("show_record", json!({"image": STANDARD.encode(&png)}));
    assert_eq!(record["structuredContent"]["settings"]["seed"], 3, "{record}");
    // The photo is forgotten with the call.
    assert_eq!(metric(&client, "editmgt_photos "), 0.0);
    let (_, models) = agent.call("describe_models", json!({}));
    assert_eq!(models["structuredContent"]["models"][0]["name"], "embedded");
    assert_eq!(models["structuredContent"]["models"][0]["folders"], json!([]));
    // The session ends when the client says so.
    let ended = agent.client.request("DELETE", "/mcp", "", b"");
    assert_eq!(ended.status, 204, "{}", ended.text());
    let gone = post(&agent.client, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    assert_eq!(gone.status, 404, "{} {}", agent.session, gone.text());
}

#[test]
fn no_path_of_the_disk_can_be_named() {
    let (_server, client) = start(|_| {});
    let agent = Agent::new(&client);
    for path in ["/etc/passwd", "../scene.png", "file:///etc/passwd"] {
        for (tool, given) in [
            ("edit_image", json!({"photo": path, "instruction": INSTRUCTION})),
            (
                "edit_image",
                json!({"photo": STANDARD.encode(SCENE), "mask": path, "instruction": INSTRUCTION}),
            ),
            ("show_record", json!({"image": path})),
        ] {
            let (_, result) = agent.call(tool, given);
            assert_eq!(result["isError"], true, "{result}");
            let text = result["content"][0]["text"].as_str().unwrap();
            assert!(text.contains("base64") || text.contains("image"), "{text}");
        }
        let given =
            json!({"photo": STANDARD.encode(SCENE), "instruction": INSTRUCTION, "output": path});
        let (_, result) = agent.call("edit_image", given);
        assert_eq!(result["structuredContent"]["error"]["code"], "unknown_key", "{result}");
    }
}

#[test]
fn host_origin_and_token_are_checked_and_messages_are_bounded() {
    const TOKEN: &str = "0123456789abcdef";
    let (_server, client) = start(|options| {
        options.token = Some(TOKEN.into());
        options.limits.photo_bytes = 100_000;
    });
    assert_eq!(post(&client, &hello()).status, 401);
    let client = client.with("Authorization", &format!("Bearer {TOKEN}"));
    assert_eq!(post(&client.with("Host", "evil.example"), &hello()).status, 421);
    assert_eq!(post(&client.with("Origin", "http://evil.example"), &hello()).status, 403);
    assert_eq!(post(&client, &hello()).status, 200);
    let long = json!({"jsonrpc": "2.0", "id": 1, "method": "x".repeat(700_000)});
    assert_eq!(post(&client, &long).status, 413);
    let answer = client.post("/mcp", "application/json", b"{\"jsonrpc\": ");
    assert!((400..500).contains(&answer.status), "{}", answer.text());
    assert_eq!(client.request("PUT", "/mcp", "", b"").status, 405);
}

#[test]
fn cancelled_call_stops_its_edit() {
    let (_server, client) = start(|_| {});
    let agent = Agent::new(&client);
    let call = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {
        "name": "edit_image", "_meta": {"progressToken": "p"},
        "arguments": {"photo": STANDARD.encode(SCENE), "instruction": INSTRUCTION, "options": {"steps": 250}}}});
    let body = call.to_string();
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("Content-Length", &*length),
    ];
    let _open = agent.client.send("POST", "/mcp", &headers, body.as_bytes());
    let running = || metric(&client, "editmgt_queue");
    let wait = |until: f64| {
        for _ in 0..600 {
            if running() == until {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the queue has {} edits", running());
    };
    wait(1.0);
    let stop =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
    assert_eq!(post(&agent.client, &stop).status, 202);
    wait(0.0);
    assert_eq!(metric(&client, "editmgt_edits_total{status=\"stopped\"}"), 1.0);
    assert_eq!(metric(&client, "editmgt_edits_total{status=\"done\"}"), 0.0);
}
