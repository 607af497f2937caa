//! `editmgt mcp`, by JSON-RPC written by hand.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::program::{Scratch, command, editmgt, root};

/// A client of the program.
struct Agent {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Agent {
    /// Starts the program with a folder, and shakes hands.
    fn start(folder: Option<&Path>) -> Self {
        Self::start_with(folder, None)
    }

    fn start_with(folder: Option<&Path>, model: Option<&Path>) -> Self {
        let mut program = command();
        program.args(["mcp", "--log", "off"]);
        if let Some(model) = model {
            program.arg("--model").arg(model);
        }
        if let Some(folder) = folder {
            program.arg("--root").arg(folder);
        }
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = program.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut agent = Self { child, input, output, next: 0 };
        let hello = agent.request(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {},
                   "clientInfo": {"name": "a test", "version": "1"}}),
        );
        assert_eq!(hello["result"]["serverInfo"]["name"], "editmgt", "{hello}");
        assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
        agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        agent
    }

    fn send(&mut self, message: &Value) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{message}").unwrap();
        input.flush().unwrap();
    }

    /// Sends a request; gives its id.
    fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The next message: every line of standard output is one.
    fn message(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the program ended");
        let message: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    /// The answer to a request, and the notifications before it.
    fn answer(&mut self, id: u64) -> (Value, Vec<Value>) {
        let mut notifications = Vec::new();
        loop {
            let message = self.message();
            if message["id"] == json!(id) {
                return (message, notifications);
            }
            assert!(message.get("id").is_none(), "{message}");
            notifications.push(message);
        }
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        self.answer(id).0
    }

    /// Calls a tool; its result.
    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.request("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].clone()
    }

    /// Calls a tool that fails; its message and code.
    fn failure(&mut self, tool: &str, arguments: Value) -> (String, String) {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        let code = result["structuredContent"]["error"]["code"].as_str().unwrap();
        (text(&result), code.to_owned())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn text(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned()
}

/// A folder with a scene of the embedded model.
fn photos() -> Scratch {
    let scratch = Scratch::new();
    let scene = root().join("editmgt-server/scenes/scene.png");
    fs::copy(scene, scratch.out("scene.png")).unwrap();
    fs::write(scratch.path("secret.png"), "secret").unwrap();
    scratch
}

fn folder(scratch: &Scratch) -> std::path::PathBuf {
    scratch.path("out")
}

const INSTRUCTION: &str = "make the red car blue";

/// The values of the key `type` that are lists, at any depth.
fn lists_of_types(schema: &Value) -> Vec<&Value> {
    let own = schema.get("type").filter(|value| value.is_array());
    let inner: Vec<&Value> = match schema {
        Value::Object(object) => object.values().collect(),
        Value::Array(values) => values.iter().collect(),
        _ => Vec::new(),
    };
    own.into_iter().chain(inner.into_iter().flat_map(lists_of_types)).collect()
}

#[test]
fn tools_edit_a_photo_of_the_folder_and_tell_how() {
    let scratch = photos();
    let mut agent = Agent::start(Some(&folder(&scratch)));
    let tools = agent.request("tools/list", json!({}));
    let tools = tools["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["edit_image", "generate_image", "describe_models", "show_record"]);
    let edit = &tools[0]["inputSchema"];
    assert_eq!(edit["required"], json!(["photo", "instruction"]));
    assert!(edit["properties"]["options"]["properties"]["hold"].is_object(), "{edit}");
    let lists: Vec<_> = tools.iter().flat_map(lists_of_types).collect();
    assert!(lists.is_empty(), "clients may drop {lists:?}");
    assert_eq!(tools[0]["annotations"]["destructiveHint"], false);

    let models = agent.call("describe_models", json!({}));
    let model = &models["structuredContent"]["models"][0];
    assert_eq!(model["name"], "embedded");
    assert_eq!(model["trained_for"], json!(["edit", "inpaint"]));
    assert!(model["known"]["words"].as_array().unwrap().contains(&json!("red")), "{model}");

    let id = agent.begin(
        "tools/call",
        json!({
            "name": "edit_image",
            "arguments": {"photo": "scene.png", "instruction": INSTRUCTION, "options": {"seed": 7, "steps": 4}},
            "_meta": {"progressToken": "p"},
        }),
    );
    let (answer, notifications) = agent.answer(id);
    let result = &answer["result"];
    assert_eq!(result["isError"], false, "{answer}");
    let progress: Vec<_> = notifications
        .iter()
        .filter(|notification| notification["method"] == "notifications/progress")
        .map(|notification| &notification["params"])
        .collect();
    assert!(progress.iter().all(|progress| progress["progressToken"] == "p"), "{progress:?}");
    let numbers: Vec<_> = progress.iter().map(|p| p["progress"].as_f64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|before, after| before < after), "{numbers:?}");
    let last = progress.last().unwrap();
    assert_eq!((last["progress"].as_f64(), last["total"].as_f64()), (Some(4.0), Some(4.0)));

    let written = scratch.out("scene-edited.png");
    let message = text(result);
    assert!(message.starts_with("Wrote ") && message.contains("scene-edited.png"), "{message}");
    assert!(message.contains("seed 7"), "{message}");
    let image = &result["content"][1];
    assert_eq!(
        (image["type"].as_str(), image["mimeType"].as_str()),
        (Some("image"), Some("image/png"))
    );
    // As on the command line.
    let alone = scratch.path("alone.png");
    let scene = scratch.out("scene.png");
    let args = ["edit", scene.to_str().unwrap(), INSTRUCTION, "-o", alone.to_str().unwrap()];
    editmgt(args.into_iter().chain(["--seed", "7", "--steps", "4", "-q"])).done();
    assert!(fs::read(&written).unwrap() == fs::read(&alone).unwrap(), "other bytes");

    let record = agent.call("show_record", json!({"image": "scene-edited.png"}));
    assert_eq!(record["structuredContent"]["settings"]["seed"], 7, "{record}");
    assert_eq!(record["structuredContent"]["request"]["instruction"], INSTRUCTION);
    // Nothing is overwritten.
    let again = json!({"photo": "scene.png", "instruction": INSTRUCTION, "options": {"steps": 1}});
    assert!(text(&agent.call("edit_image", again)).contains("scene-edited-2.png"));
    // The client goes: the program ends by itself.
    agent.input = None;
    assert_eq!(agent.child.wait().unwrap().code(), Some(0));
}

#[test]
fn paths_outside_of_the_folder_and_bad_arguments_are_errors_that_say_what_to_do() {
    let scratch = photos();
    let mut agent = Agent::start(Some(&folder(&scratch)));
    let secret = scratch.path("secret.png");
    for photo in ["../secret.png", secret.to_str().unwrap(), "/etc/hostname"] {
        let (message, code) =
            agent.failure("edit_image", json!({"photo": photo, "instruction": INSTRUCTION}));
        assert!(code == "path" && message.contains("allowed folder"), "{message}");
        let (message, code) = agent.failure("show_record", json!({"image": photo}));
        assert!(code == "path" && message.contains("allowed folder"), "{message}");
        let given = json!({"photo": "scene.png", "instruction": INSTRUCTION, "output": photo});
        assert_eq!(agent.failure("edit_image", given).1, "path");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&secret, scratch.out("link.png")).unwrap();
        let given = json!({"photo": "link.png", "instruction": INSTRUCTION});
        assert!(agent.failure("edit_image", given).0.contains("allowed folder"));
    }
    let edit = |more: Value| {
        let mut given = json!({"photo": "scene.png", "instruction": INSTRUCTION});
        given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        given
    };
    for (given, code, named) in [
        (json!({"photo": "scene.png"}), "missing", "instruction: expected a value"),
        (edit(json!({"instruction": "paint a zebra"})), "unknown_words", "it knows these words"),
        (
            edit(json!({"foto": 1})),
            "unknown_key",
            "expected instruction, mask, options, output, photo",
        ),
        (edit(json!({"photo": 3})), "option", "photo: expected some text, got 3"),
        (edit(json!({"options": {"steps": 0}})), "option", "steps: expected 1 to 4096, got"),
        (edit(json!({"options": {"stpes": 3}})), "option", "stpes"),
        (edit(json!({"output": "scene.png"})), "path", "is not overwritten"),
        (edit(json!({"output": "scene.exe"})), "path", ".png, .jpg, .webp or .tiff"),
        (edit(json!({"mask": "none.png"})), "path", "mask: expected an image file"),
    ] {
        let (message, got) = agent.failure("edit_image", given);
        assert!(got == code && message.contains(named), "{got}: {message}: {named}");
    }
    // The embedded model only edits.
    let (message, _) = agent.failure("generate_image", json!({"prompt": "a red car"}));
    assert!(message.contains("trained"), "{message}");
    let (message, code) = agent.failure("show_record", json!({"image": "scene.png"}));
    assert!(code == "record" && message.contains("no record"), "{message}");
    // An unknown tool is an error of the protocol.
    let answer = agent.request("tools/call", json!({"name": "format_disk", "arguments": {}}));
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    let only = fs::read_dir(folder(&scratch)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut only: Vec<_> = only.map(|name| name.into_string().unwrap()).collect();
    only.sort();
    assert_eq!(only, if cfg!(unix) { vec!["link.png", "scene.png"] } else { vec!["scene.png"] });
    // Not a folder: refused before the program answers.
    editmgt(["mcp", "--root", "/nowhere/x"]).refused("a folder", &["/nowhere/x", "folder"]);
}

#[test]
fn images_are_generated_by_a_model_that_can() {
    let scratch = photos();
    let model = crate::jobs::base(&scratch);
    let mut agent = Agent::start_with(Some(&folder(&scratch)), Some(&model));
    let options = json!({"width": 96, "height": 64, "steps": 2, "seed": 7});
    let given = json!({"prompt": "a red fox", "count": 2, "options": options, "output": "fox.png"});
    let result = agent.call("generate_image", given.clone());
    assert_eq!(result["isError"], false, "{result}");
    assert_eq!(result["content"].as_array().unwrap().len(), 4);
    // As on the command line.
    let alone = scratch.path("fox.png");
    let args = [
        "generate",
        "a red fox",
        "-q",
        "-o",
        alone.to_str().unwrap(),
        "-m",
        model.to_str().unwrap(),
    ];
    let options_here = "--width 96 --height 64 --steps 2 --seed 7 --count 2".split(' ');
    editmgt(args.into_iter().chain(options_here)).done();
    for i in [0, 1] {
        let read = |path: std::path::PathBuf| fs::read(path).unwrap();
        let name = format!("fox-{i}.png");
        assert!(read(scratch.out(&name)) == read(scratch.path(&name)), "{name}");
    }
    let record = agent.call("show_record", json!({"image": "fox-1.png"}));
    assert_eq!(record["structuredContent"]["settings"]["variation"], 1, "{record}");
    let (message, code) = agent.failure("generate_image", given);
    assert!(code == "path" && message.contains("is not overwritten"), "{message}");
    // Without a name: free ones.
    for name in ["image.png", "image-2.png"] {
        let result =
            agent.call("generate_image", json!({"prompt": "a red fox", "options": options}));
        assert!(text(&result).contains(name), "{result}");
    }
    for (given, named) in [
        (json!({"prompt": "x", "count": 99}), "count: expected 1 to 8, got 99"),
        (json!({"prompt": "x", "options": {"width": 97}}), "width: expected a multiple"),
        (json!({"prompt": "x", "options": {"count": 3}}), "count: expected an option of this tool"),
        (json!({"prompt": "x", "options": {"width": 8192, "height": 4096}}), "size: "),
    ] {
        let (message, _) = agent.failure("generate_image", given);
        assert!(message.contains(named), "{message}: {named}");
    }
    // A model that was not trained to edit.
    let given = json!({"photo": "scene.png", "instruction": "make it red"});
    assert!(agent.failure("edit_image", given).0.contains("trained"));
}

#[test]
fn cancelled_calls_stop_and_the_next_one_works() {
    let scratch = photos();
    let mut agent = Agent::start(Some(&folder(&scratch)));
    let id = agent.begin(
        "tools/call",
        json!({
            "name": "edit_image",
            "arguments": {"photo": "scene.png", "instruction": INSTRUCTION, "options": {"steps": 200}},
            "_meta": {"progressToken": 1},
        }),
    );
    loop {
        let message = agent.message();
        assert!(message.get("id").is_none(), "it ended too soon: {message}");
        if message["params"]["progress"].as_f64() >= Some(1.0) {
            break;
        }
    }
    agent.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                       "params": {"requestId": id, "reason": "enough"}}));
    let next = agent.begin("tools/call", json!({"name": "edit_image", "arguments": {
        "photo": "scene.png", "instruction": INSTRUCTION, "options": {"steps": 1}, "output": "next.png"}}));
    let answer = loop {
        let message = agent.message();
        if message["id"] == json!(next) {
            break message;
        }
        // A cancelled call has no answer, or one that says so.
        assert!(message.get("id").is_none() || message["result"]["isError"] == true, "{message}");
    };
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    assert!(scratch.out("next.png").is_file());
    assert!(!scratch.out("scene-edited.png").exists());
}

#[test]
fn without_a_folder_images_travel_in_the_messages() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let scratch = photos();
    let scene = fs::read(scratch.out("scene.png")).unwrap();
    let mut agent = Agent::start(None);
    let given = json!({"photo": STANDARD.encode(&scene), "instruction": INSTRUCTION, "options": {"seed": 1}});
    let result = agent.call("edit_image", given);
    let png = STANDARD.decode(result["content"][1]["data"].as_str().unwrap()).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let record = agent.call("show_record", json!({"image": STANDARD.encode(&png)}));
    assert_eq!(record["structuredContent"]["settings"]["seed"], 1, "{record}");
    let path = scratch.out("scene.png");
    let given = json!({"photo": path.to_str().unwrap(), "instruction": INSTRUCTION});
    assert!(agent.failure("edit_image", given).0.contains("base64"));
    let given =
        json!({"photo": STANDARD.encode(&scene), "instruction": INSTRUCTION, "output": "x.png"});
    assert_eq!(agent.failure("edit_image", given).1, "unknown_key");
}
