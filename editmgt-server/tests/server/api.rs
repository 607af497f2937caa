//! The page's endpoints.

use editmgt::{EditRequest, KeywordPolicy, Photo, Silent};
use serde_json::{Value, json};

use super::{INSTRUCTION, SCENE, assert_error, editor, metric, scene, start, start_edit, upload};
use crate::client::{Client, Event};
use crate::limits::until;

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn finish(client: &Client, edit: &str) -> Value {
    let last = client.events(edit).last().unwrap();
    assert_eq!(last.name, "done", "{}", last.data);
    last.data
}

#[test]
fn page_is_served_with_its_types_and_policy() {
    let (_server, client) = start(|_| {});
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{path}");
        assert!(
            answer.header("content-security-policy").unwrap().starts_with("default-src 'self';")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        let tag = answer.header("etag").unwrap().to_owned();
        assert_eq!(client.with("If-None-Match", &tag).get(path).status, 304);
    }
    for path in [
        "/nothing",
        "/../Cargo.toml",
        "/page/app.js",
        "/api/nothing",
        "/v1/nothing",
        "/%2e%2e/Cargo.toml",
    ] {
        assert_error(&client.get(path), 404, "not_found", None);
    }
    let answer = client.request("DELETE", "/api/edits", "", b"");
    assert_error(&answer, 405, "method", None);
    assert_eq!(answer.header("allow"), Some("POST"));
    assert_error(&client.request("POST", "/app.js", "", b""), 405, "method", None);
}

#[test]
fn an_edit_over_http_equals_the_librarys() {
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    let body =
        json!({"photo": photo, "instruction": INSTRUCTION, "options": {"seed": 7, "steps": "3"}});
    let edit = start_edit(&client, &body);
    let events: Vec<_> = client.events(&edit).collect();
    let last = events.last().unwrap();
    assert_eq!(last.name, "done", "{}", last.data);
    assert_eq!(
        names(&client.events(&edit).collect::<Vec<_>>()),
        ["done"],
        "an ended edit has its last event only"
    );
    let view = client.get(&format!("/api/edits/{edit}")).json();
    assert_eq!(view, last.data);
    for (key, expected) in [
        ("status", json!("done")),
        ("completed", json!(3)),
        ("total", json!(3)),
        ("photo", json!(photo)),
        ("instruction", json!(INSTRUCTION)),
        ("options", json!({"seed": "7", "steps": "3"})),
        ("error", json!(null)),
        ("look", json!(false)),
        ("base", json!(null)),
        ("notes", json!([])),
    ] {
        assert_eq!(view[key], expected, "{key}");
    }

    let expected = editor().edit(&scene(), EditRequest::new(INSTRUCTION).steps(3).seed(7)).unwrap();
    let got = client.get(&format!("/api/edits/{edit}/result"));
    assert_eq!(got.header("content-type"), Some("image/png"));
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert_eq!(Photo::from_bytes(&got.body).unwrap().rgb(), expected.image.rgb());
    // Through text, as numbers of 32 bits are written.
    let tokens_held = serde_json::to_string(&expected.report.tokens_held).unwrap();
    assert_eq!(view["report"]["tokens_held"].to_string(), tokens_held);
    let report = client.get(&format!("/api/edits/{edit}/report")).json();
    assert_eq!(report, view["report"]);
    let record = client.get(&format!("/api/edits/{edit}/record")).json();
    assert_eq!((&record["settings"]["seed"], &record["settings"]["steps"]), (&json!(7), &json!(3)));
    let map = Photo::from_bytes(&client.get(&format!("/api/edits/{edit}/map")).body).unwrap();
    assert_eq!(map.rgb(), expected.overlay(&scene()).unwrap().rgb());
    for (format, kind) in [("jpeg", "image/jpeg"), ("webp", "image/webp"), ("tiff", "image/tiff")] {
        let answer = client.get(&format!("/api/edits/{edit}/result?format={format}"));
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(Photo::from_bytes(&answer.body).unwrap().size(), scene().size(), "{format}");
    }
    assert_error(
        &client.get(&format!("/api/edits/{edit}/result?format=bmp2")),
        400,
        "option",
        Some("format"),
    );
    assert_error(&client.get(&format!("/api/edits/{edit}/mask")), 404, "not_found", None);
    let code = client.get(&format!("/api/edits/{edit}/code")).json();
    let command =
        format!("editmgt edit scene.png '{INSTRUCTION}' -o scene-edited.png --seed 7 --steps 3");
    assert_eq!(code["command"], command);

    // The history of the photo, and an edit of the result.
    let body = json!({"photo": photo, "base": edit, "instruction": "remove the green thing"});
    let second = start_edit(&client, &body);
    let view = finish(&client, &second);
    assert_eq!((&view["base"], &view["parent"]), (&json!(edit), &json!(edit)));
    let all = client.get(&format!("/api/photos/{photo}")).json();
    let ids: Vec<_> =
        all["edits"].as_array().unwrap().iter().map(|edit| edit["id"].clone()).collect();
    assert_eq!(ids, [json!(edit), json!(second)]);
    let chained = editor().edit(&expected.image, "remove the green thing").unwrap();
    let got = client.get(&format!("/api/edits/{second}/result"));
    assert_eq!(Photo::from_bytes(&got.body).unwrap().rgb(), chained.image.rgb());
    assert_eq!(client.request("DELETE", &format!("/api/photos/{photo}"), "", b"").status, 204);
    for path in [
        format!("/api/photos/{photo}"),
        format!("/api/edits/{edit}"),
        format!("/api/edits/{second}/result"),
    ] {
        assert_error(&client.get(&path), 404, "not_found", None);
    }
}

#[test]
fn a_running_edit_tells_its_steps_and_a_stopped_one_continues_to_the_same_result() {
    const STEPS: usize = 40;
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    let body = json!({"photo": photo, "instruction": INSTRUCTION, "options": {"steps": STEPS}});
    let edit = start_edit(&client, &body);
    let mut seen = Vec::new();
    let mut cancelled = false;
    for event in client.events(&edit) {
        if event.name == "preview" && !cancelled {
            let answer = client.post(&format!("/api/edits/{edit}/cancel"), "", b"");
            assert_eq!(answer.status, 202, "{}", answer.text());
            cancelled = true;
        }
        seen.push(event);
    }
    let stages: Vec<_> =
        seen.iter().filter(|event| event.name == "stage").map(|event| event.data.clone()).collect();
    assert_eq!(stages[0], json!({"stage": "encode_text", "state": "started"}));
    assert!(stages.contains(&json!({"stage": "sample", "state": "started"})), "{stages:?}");
    let step = seen.iter().find(|event| event.name == "step").unwrap();
    assert_eq!(step.data["total"], STEPS);
    let preview = seen.iter().find(|event| event.name == "preview").unwrap();
    assert!(preview.data["image"].as_str().unwrap().starts_with("data:image/png;base64,"));
    let last = seen.last().unwrap();
    assert_eq!((&*last.name, &last.data["status"]), ("stopped", &json!("stopped")));
    let completed = last.data["completed"].as_u64().unwrap();
    assert!((1..STEPS as u64).contains(&completed), "{completed}");
    let preview = client.get(&format!("/api/edits/{edit}/preview"));
    assert_eq!(Photo::from_bytes(&preview.body).unwrap().size(), scene().size());
    for what in ["result", "report", "map", "record"] {
        assert_error(&client.get(&format!("/api/edits/{edit}/{what}")), 409, "not_done", None);
    }

    let body = json!({"photo": photo, "resume": edit, "instruction": "other"});
    assert_error(&client.post_json("/api/edits", &body), 400, "json", Some("resume"));
    let again = start_edit(&client, &json!({"photo": photo, "resume": edit}));
    let view = finish(&client, &again);
    assert_eq!(view["report"]["resumed_after"], completed);
    let unbroken = editor().edit(&scene(), EditRequest::new(INSTRUCTION).steps(STEPS)).unwrap();
    let got = client.get(&format!("/api/edits/{again}/result"));
    assert_eq!(Photo::from_bytes(&got.body).unwrap().rgb(), unbroken.image.rgb());
    let resume = json!({"photo": photo, "resume": again});
    assert_error(&client.post_json("/api/edits", &resume), 409, "not_stopped", Some("resume"));
}

#[test]
fn maps_of_a_look_answer_without_a_model_run() {
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    let look =
        start_edit(&client, &json!({"photo": photo, "instruction": INSTRUCTION, "look": true}));
    let view = finish(&client, &look);
    assert_eq!(view["words"], json!(["red", "car", "blue"]));
    assert_eq!((&view["report"], &view["total"]), (&json!(null), &json!(1)));
    assert_error(&client.get(&format!("/api/edits/{look}/result")), 409, "not_done", None);
    let ended = metric(&client, "editmgt_edits_total{status=\"done\"}");
    let maps =
        |options: Value| client.post_json("/api/maps", &json!({"edit": look, "options": options}));
    let car = maps(json!({"hold": "0.35", "keyword": "car"}));
    assert_eq!(car.status, 200, "{}", car.text());
    let car = car.json();
    assert_eq!(car["grid"], json!({"height": 16, "width": 16}));
    assert_eq!(car["area"], json!({"left": 0.0, "top": 0.0, "width": 128.0, "height": 128.0}));
    // A limit of 0.35, as 32 bits have it.
    assert!((car["threshold"].as_f64().unwrap() - 0.35).abs() < 1e-6, "{car}");
    let tighter = maps(json!({"hold": "0.8", "keyword": "car"})).json();
    assert!(tighter["tokens_held"].as_f64() > car["tokens_held"].as_f64(), "{tighter} {car}");
    for options in [
        json!({"keyword": "auto"}),
        json!({"keyword": "red car"}),
        json!({"map_filter": "gaussian"}),
    ] {
        assert_eq!(maps(options.clone()).status, 200, "{options}");
    }
    assert_error(&maps(json!({"keyword": "make"})), 409, "no_maps", Some("keyword"));
    assert_error(&maps(json!({"keyword": "zebra"})), 400, "option", Some("keyword"));
    assert_error(&maps(json!({"steps": "3"})), 400, "option", Some("option"));
    assert_error(&maps(json!({"hold": "2"})), 400, "option", Some("hold"));
    assert_eq!(metric(&client, "editmgt_edits_total{status=\"done\"}"), ended, "the model ran");

    // The map of a word is that of the library.
    for word in ["red", "car", "blue"] {
        let of_word = maps(json!({"keyword": word})).json();
        let request = EditRequest::new(INSTRUCTION).keyword(KeywordPolicy::phrase(word));
        let mut first = None;
        let mut visit = |step: editmgt::LoopStep| {
            first.get_or_insert(step.scores.unwrap().stats(0));
        };
        let request = request.score_map(true);
        editor().edit_visiting(&scene(), &request, &mut Silent, &mut visit).unwrap();
        let mean = f64::from(first.unwrap().mean);
        // Several maps of a pass are rounded otherwise than one.
        let difference = (of_word["mean"].as_f64().unwrap() - mean).abs();
        assert!(difference < 1e-4, "{word}: {of_word} {mean}");
    }

    // The region of a done edit is the one that it held at its last step.
    let edit = start_edit(
        &client,
        &json!({"photo": photo, "instruction": INSTRUCTION, "options": {"hold": "0.3"}}),
    );
    let report = finish(&client, &edit)["report"].clone();
    let maps = client.post_json("/api/maps", &json!({"edit": edit})).json();
    assert_eq!(maps["threshold"], report["scores"]["threshold"], "{maps} {report}");
    assert_eq!(maps["mean"], report["scores"]["mean"]);
    let words =
        client.post_json("/api/maps", &json!({"edit": edit, "options": {"keyword": "car"}}));
    assert_error(&words, 409, "no_maps", Some("keyword"));
}

#[test]
fn masks_limit_an_edit() {
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    let mut mask = image::GrayImage::new(128, 128);
    for (x, _, level) in mask.enumerate_pixels_mut() {
        level.0 = [if x < 64 { 255 } else { 0 }];
    }
    let mut png = std::io::Cursor::new(Vec::new());
    mask.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let answer = client.post(&format!("/api/photos/{photo}/masks"), "image/png", png.get_ref());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let view = answer.json();
    assert_eq!((&view["width"], &view["white"]), (&json!(128), &json!(0.5)));
    let id = view["id"].as_str().unwrap();
    let got = client.get(&format!("/api/masks/{id}"));
    assert_eq!(image::load_from_memory(&got.body).unwrap().into_luma8(), mask);
    let edit = start_edit(
        &client,
        &json!({"photo": photo, "instruction": "change the background to a beach", "mask": id}),
    );
    let view = finish(&client, &edit);
    assert_eq!((&view["mask"], &view["report"]["settings"]["hold"]), (&json!(id), &json!("mask")));
    let result = Photo::from_bytes(&client.get(&format!("/api/edits/{edit}/result")).body).unwrap();
    let before = scene();
    let mut differs = [false; 2];
    for (x, y, pixel) in result.rgb().enumerate_pixels() {
        differs[usize::from(x >= 64)] |= pixel != before.rgb().get_pixel(x, y);
    }
    assert_eq!(differs, [true, false]);
    assert_eq!(client.get(&format!("/api/edits/{edit}/mask")).body, got.body);
    let black = client.post(&format!("/api/photos/{photo}/masks"), "image/png", &{
        let mut png = std::io::Cursor::new(Vec::new());
        image::GrayImage::new(128, 128).write_to(&mut png, image::ImageFormat::Png).unwrap();
        png.into_inner()
    });
    assert_error(&black, 400, "mask", Some("mask"));
    let hold = json!({"photo": photo, "instruction": INSTRUCTION, "options": {"hold": "mask"}});
    assert_error(&client.post_json("/api/edits", &hold), 400, "option", Some("hold"));
}

#[test]
fn requests_that_cannot_be_edited_are_refused_by_name() {
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    for (body, status, code, param) in [
        (
            json!({"photo": photo, "instruction": "paint a zebra"}),
            400,
            "unknown_words",
            Some("instruction"),
        ),
        (json!({"photo": photo, "instruction": "  "}), 400, "instruction", Some("instruction")),
        (json!({"photo": photo}), 400, "instruction", Some("instruction")),
        (
            json!({"photo": photo, "instruction": "red ".repeat(600)}),
            400,
            "instruction",
            Some("instruction"),
        ),
        (json!({"instruction": INSTRUCTION}), 400, "missing", Some("photo")),
        (json!({"photo": "nothing", "instruction": INSTRUCTION}), 404, "not_found", Some("photo")),
        (
            json!({"photo": photo, "instruction": INSTRUCTION, "colour": 1}),
            400,
            "unknown_key",
            Some("colour"),
        ),
        (json!({"photo": photo, "instruction": 3}), 400, "json", Some("instruction")),
        (
            json!({"photo": photo, "instruction": INSTRUCTION, "base": "no"}),
            404,
            "not_found",
            Some("base"),
        ),
        (
            json!({"photo": photo, "instruction": INSTRUCTION, "mask": "no"}),
            404,
            "not_found",
            Some("mask"),
        ),
        (
            json!({"photo": photo, "instruction": INSTRUCTION, "parent": "no"}),
            404,
            "not_found",
            Some("parent"),
        ),
        (json!({"photo": photo, "resume": "no"}), 404, "not_found", Some("resume")),
    ] {
        assert_error(&client.post_json("/api/edits", &body), status, code, param);
    }
    for (name, value) in [
        ("steps", json!(0)),
        ("steps", json!(257)),
        ("size", json!(16384)),
        ("size", json!("big")),
        ("guidance_scale", json!([1])),
        ("keyword", json!("zebra")),
        ("blocks", json!("2,2")),
        ("blocks", json!("99")),
        ("hold", json!("7")),
        ("temperature", json!("1")),
        ("feather", json!(5000)),
    ] {
        let body = json!({"photo": photo, "instruction": INSTRUCTION, "options": {name: value}});
        assert_error(&client.post_json("/api/edits", &body), 400, "option", Some(name));
        assert_error(&client.post_json("/api/plan", &body), 400, "option", Some(name));
    }
    let unknown = client
        .post_json("/api/edits", &json!({"photo": photo, "instruction": "paint a zebra"}))
        .json();
    let details = &unknown["error"]["details"];
    assert_eq!(details["unknown"], json!(["zebra"]));
    assert!(details["words"].as_array().unwrap().contains(&json!("car")));
    assert_error(&client.post("/api/edits", "text/plain", b"{}"), 415, "content_type", None);
    assert_error(&client.post("/api/edits", "application/json", b"{"), 400, "json", None);
    assert_error(&client.post("/api/edits", "application/json", b"[]"), 400, "json", None);
    assert_error(
        &client.post("/api/photos", "image/png", b"no image"),
        400,
        "photo",
        Some("photo"),
    );
    assert_error(
        &client.post("/api/photos?colour=red", "image/png", SCENE),
        400,
        "unknown_key",
        Some("colour"),
    );
    assert_eq!(metric(&client, "editmgt_queue"), 0.0);
}

#[test]
fn plan_says_what_will_happen() {
    let (_server, client) = start(|_| {});
    let photo = upload(&client);
    let plan = || {
        let plan = client.post_json("/api/plan", &json!({"photo": photo}));
        assert_eq!(plan.status, 200, "{}", plan.text());
        plan.json()
    };
    // Before the first edit, as soon as the model's speed is measured.
    until(|| !plan()["seconds"].is_null());
    let mut plan = plan();
    let seconds = plan.as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    let expected = json!({
        "width": 128, "height": 128, "grid": {"height": 16, "width": 16}, "steps": 4, "passes": 4,
        "position": 0, "words": [],
    });
    assert_eq!(plan, expected);
    assert_eq!(metric(&client, "editmgt_edits_total"), 0.0, "a measurement is no edit");
    let edit = start_edit(&client, &json!({"photo": photo, "instruction": INSTRUCTION}));
    finish(&client, &edit);
    let options = json!({"steps": 4, "guidance_scale": 3, "guidance_interval": "0,0.5"});
    let plan = client.post_json(
        "/api/plan",
        &json!({"photo": photo, "instruction": INSTRUCTION, "options": options}),
    );
    let plan = plan.json();
    assert_eq!((&plan["passes"], &plan["words"]), (&json!(6), &json!(["red", "car", "blue"])));
    assert!(plan["seconds"].as_f64().unwrap() > 0.0, "{plan}");
    let body = json!({"photo": photo, "instruction": "paint a zebra"});
    assert_error(&client.post_json("/api/plan", &body), 400, "unknown_words", Some("instruction"));
}

#[test]
fn model_and_description_match_the_server() {
    let (_server, client) = start(|_| {});
    let model = client.get("/api/model").json();
    assert_eq!(model["options"].as_array().unwrap().len(), EditRequest::options().len());
    assert_eq!(model["limits"]["queue"], 8);
    assert!(model["known"]["words"].as_array().unwrap().contains(&json!("car")));
    let examples = client.get("/api/examples").json();
    let first = examples[0]["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/api/examples/{first}")).body, SCENE);
    assert_eq!(client.get("/health").json()["status"], "ok");
    assert_eq!(client.get("/ready").json()["status"], "ready");
    let description = client.get("/api/openapi.json").json();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 28, "{:?}", paths.keys().collect::<Vec<_>>());
    let mut names = std::collections::HashSet::new();
    for (path, methods) in paths {
        for operation in methods.as_object().unwrap().values() {
            assert!(names.insert(operation["operationId"].clone()), "{path}: {operation}");
        }
        for method in methods.as_object().unwrap().keys() {
            let answer =
                client.request(&method.to_uppercase(), &path.replace("{id}", "x"), "", b"");
            assert_ne!(answer.status, 405, "{method} {path}");
            let message = answer.text();
            assert!(!message.contains("there is no such path"), "{method} {path}: {message}");
        }
    }
}
