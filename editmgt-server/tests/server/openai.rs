//! The endpoints as OpenAI's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::{EditRequest, GenerateRequest, Photo};
use serde_json::json;

use super::{INSTRUCTION, SCENE, assert_error, editor, metric, scene, start};
use crate::client::form;
use crate::limits::until;

const EDITS: &str = "/v1/images/edits";

fn photo_of(base64: &serde_json::Value) -> Photo {
    Photo::from_bytes(&STANDARD.decode(base64.as_str().unwrap()).unwrap()).unwrap()
}

#[test]
fn an_edit_answers_with_the_librarys_image() {
    let (_server, client) = start(|_| {});
    for field in ["image", "image[]"] {
        let texts =
            [("prompt", INSTRUCTION), ("model", "embedded"), ("seed", "7"), ("user", "someone")];
        let answer = client.post_form(EDITS, &[(field, "scene.png", SCENE)], &texts);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
        assert_eq!((&answer["output_format"], &answer["size"]), (&json!("png"), &json!("128x128")));
        assert_eq!(answer["usage"]["input_tokens"], 256);
        let expected = editor().edit(&scene(), EditRequest::new(INSTRUCTION).seed(7)).unwrap();
        assert_eq!(photo_of(&answer["data"][0]["b64_json"]).rgb(), expected.image.rgb());
    }
    assert_eq!(metric(&client, "editmgt_queue"), 0.0);
    // What was answered is not kept.
    assert_eq!(metric(&client, "editmgt_photos"), 0.0);
}

#[test]
fn transparent_parts_of_a_mask_are_edited() {
    let (_server, client) = start(|_| {});
    let mask = image::RgbaImage::from_fn(128, 128, |x, _| {
        image::Rgba([9, 9, 9, if x < 64 { 0 } else { 255 }])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    mask.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let files = [("image", "scene.png", SCENE), ("mask", "mask.png", png.get_ref())];
    let texts =
        [("prompt", "change the background to a beach"), ("n", "2"), ("output_format", "webp")];
    let answer = client.post_form(EDITS, &files, &texts).json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    assert_eq!(answer["data"][1]["editmgt"]["variation"], 1);
    let before = scene();
    let after = photo_of(&answer["data"][0]["b64_json"]);
    let mut differs = [false; 2];
    for (x, y, pixel) in after.rgb().enumerate_pixels() {
        differs[usize::from(x >= 64)] |= pixel != before.rgb().get_pixel(x, y);
    }
    assert_eq!(differs, [true, false]);
    let opaque = [("image", "scene.png", SCENE), ("mask", "mask.png", SCENE)];
    assert_error(&client.post_form(EDITS, &opaque, &texts), 400, "mask", Some("mask"));
}

#[test]
fn results_have_the_size_and_format_that_were_asked_for() {
    let (_server, client) = start(|_| {});
    let files = [("image", "scene.png", SCENE)];
    let texts = [
        ("prompt", INSTRUCTION),
        ("size", "160x160"),
        ("output_format", "jpeg"),
        ("output_compression", "50"),
    ];
    let answer = client.post_form(EDITS, &files, &texts).json();
    let bytes = STANDARD.decode(answer["data"][0]["b64_json"].as_str().unwrap()).unwrap();
    assert!(bytes.starts_with(&[0xff, 0xd8]));
    let size = Photo::from_bytes(&bytes).unwrap().size();
    assert_eq!((size.width, size.height), (160, 160));
    let wide = [("prompt", INSTRUCTION), ("size", "1536x1024")];
    assert_error(&client.post_form(EDITS, &files, &wide), 400, "option", Some("size"));

    let texts = [("prompt", INSTRUCTION), ("response_format", "url")];
    let answer = client.post_form(EDITS, &files, &texts).json();
    let url = answer["data"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix("http://").unwrap().split_once('/').unwrap().1;
    let got = client.get(&format!("/{path}"));
    let expected = editor().edit(&scene(), INSTRUCTION).unwrap();
    assert_eq!(Photo::from_bytes(&got.body).unwrap().rgb(), expected.image.rgb());
}

#[test]
fn a_stream_has_previews_and_ends_with_the_result() {
    let (_server, client) = start(|_| {});
    let texts =
        [("prompt", INSTRUCTION), ("stream", "true"), ("partial_images", "1"), ("steps", "3")];
    let (kind, body) = form(&[("image", "scene.png", SCENE)], &texts);
    let length = body.len().to_string();
    let headers = [("Content-Type", &*kind), ("Content-Length", &*length)];
    let events: Vec<_> = client.stream("POST", EDITS, &headers, &body).collect();
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["image_edit.partial_image", "image_edit.completed"]);
    let (partial, completed) = (&events[0].data, &events[1].data);
    assert_eq!((&partial["type"], &partial["partial_image_index"]), (&json!(names[0]), &json!(0)));
    assert_eq!(photo_of(&partial["b64_json"]).size(), scene().size());
    let expected = editor().edit(&scene(), EditRequest::new(INSTRUCTION).steps(3)).unwrap();
    assert_eq!(photo_of(&completed["b64_json"]).rgb(), expected.image.rgb());
    assert_eq!(completed["type"], names[1]);
}

#[test]
fn models_are_listed_and_others_refused() {
    let (_server, client) = start(|options| options.model_name = "little".into());
    let models = client.get("/v1/models").json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("little")));
    assert_eq!(client.get("/v1/models/little").json()["object"], "model");
    assert_error(&client.get("/v1/models/other"), 404, "model_not_found", Some("model"));
    let generation = json!({"prompt": "x", "model": "other"});
    let answer = client.post_json("/v1/images/generations", &generation);
    assert_error(&answer, 404, "model_not_found", Some("model"));
    let files = [("image", "scene.png", SCENE)];
    let texts = [("prompt", INSTRUCTION), ("model", "other")];
    assert_error(&client.post_form(EDITS, &files, &texts), 404, "model_not_found", Some("model"));
}

#[test]
fn generations_need_a_model_that_was_trained_for_them() {
    const GENERATIONS: &str = "/v1/images/generations";
    let (_server, client) = start(|_| {});
    let prompt = "a red car";
    let answer = client.post_json(GENERATIONS, &json!({"prompt": prompt}));
    assert_error(&answer, 400, "not_trained", Some("model"));
    // Asked for all the same: what comes is noise, in the right shape.
    let body = json!({
        "prompt": prompt, "anyway": true, "n": 2, "size": "80x64", "seed": 7, "steps": 2, "model": null, "user": "me",
        "output_format": "webp",
    });
    let answer = client.post_json(GENERATIONS, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let request = GenerateRequest::new(prompt).anyway(true).count(2).width(80).height(64);
    let expected = editor().generate(request.seed(7).steps(2)).unwrap();
    assert_eq!((&answer["size"], &answer["output_format"]), (&json!("80x64"), &json!("webp")));
    for (data, image) in answer["data"].as_array().unwrap().iter().zip(&expected.images) {
        assert_eq!(photo_of(&data["b64_json"]).rgb(), image.image.rgb());
        assert_eq!(data["editmgt"]["variation"], image.variation);
    }
    let url = json!({"prompt": prompt, "anyway": true, "steps": 1, "response_format": "url"});
    let url = client.post_json(GENERATIONS, &url).json()["data"][0]["url"].clone();
    let path = url.as_str().unwrap().strip_prefix("http://").unwrap().split_once('/').unwrap().1;
    assert_eq!(Photo::from_bytes(&client.get(&format!("/{path}")).body).unwrap().size().width, 128);
    for (extra, code, param) in [
        (json!({"size": "81x64"}), "option", "size"),
        (json!({"size": "8192x8192"}), "option", "size"),
        (json!({"steps": 5000}), "option", "steps"),
        (json!({"steps": 300}), "option", "steps"),
        (json!({"count": 3}), "unknown_key", "count"),
        (json!({"hold": "auto"}), "unknown_key", "hold"),
        (json!({"n": 11}), "option", "n"),
        (json!({"prompt": "a zebra"}), "unknown_words", "instruction"),
        (json!({"prompt": ""}), "missing", "prompt"),
        (json!({"prompt": ["x"]}), "option", "prompt"),
    ] {
        let mut body = json!({"prompt": prompt, "anyway": true});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert_error(&client.post_json(GENERATIONS, &body), 400, code, Some(param));
    }
    assert_error(&client.post(GENERATIONS, "text/plain", b"x"), 415, "content_type", None);
    assert_eq!(metric(&client, "editmgt_generations_total{status=\"done\"}"), 2.0);
    assert_eq!(metric(&client, "editmgt_queue"), 0.0);
}

#[test]
fn a_generation_streams_and_stops_with_its_client() {
    const GENERATIONS: &str = "/v1/images/generations";
    let (_server, client) = start(|_| {});
    let send = |steps: usize| {
        let body = json!({
            "prompt": "a red car", "anyway": true, "steps": steps, "stream": true, "partial_images": 1,
        });
        let body = body.to_string();
        let length = body.len().to_string();
        let headers = [("Content-Type", "application/json"), ("Content-Length", &*length)];
        client.stream("POST", GENERATIONS, &headers, body.as_bytes())
    };
    let events: Vec<_> = send(3).collect();
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["image_generation.partial_image", "image_generation.completed"]);
    assert_eq!(photo_of(&events[0].data["b64_json"]).size().width, 128);
    assert_eq!(photo_of(&events[1].data["b64_json"]).size().width, 128);
    let mut events = send(256);
    assert!(events.next().is_some());
    drop(events);
    until(|| metric(&client, "editmgt_queue") == 0.0);
    assert_eq!(metric(&client, "editmgt_generations_total{status=\"stopped\"}"), 1.0);
}

#[test]
fn inpainting_and_outpainting_are_tasks() {
    let (_server, client) = start(|_| {});
    let files = [("image", "scene.png", SCENE)];
    let texts = [("prompt", "a red car"), ("task", "outpaint:16,0,0,8"), ("steps", "1")];
    let answer = client.post_form(EDITS, &files, &texts);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["size"], "144x136");
    let wide = photo_of(&answer["data"][0]["b64_json"]);
    let before = scene();
    for (x, y, pixel) in before.rgb().enumerate_pixels() {
        assert_eq!(wide.rgb().get_pixel(x + 16, y), pixel, "the photo's own bytes");
    }
    let texts = [("prompt", "a red car"), ("task", "inpaint"), ("steps", "1")];
    assert_error(&client.post_form(EDITS, &files, &texts), 400, "option", Some("mask"));
    let texts = [("prompt", "a red car"), ("task", "outpaint:9000,9000,0,0")];
    let answer = client.post_form(EDITS, &files, &texts);
    assert_error(&answer, 413, "too_large", Some("photo_megapixels"));
}

#[test]
fn forms_that_cannot_be_edited_are_refused_by_name() {
    let (_server, client) = start(|_| {});
    let scene = ("image", "scene.png", SCENE);
    let prompt = ("prompt", INSTRUCTION);
    for (files, texts, code, param) in [
        (&[][..], &[prompt][..], "missing", Some("image")),
        (&[scene], &[], "missing", Some("prompt")),
        (&[scene, scene], &[prompt], "form", Some("image")),
        (&[scene], &[prompt, prompt], "form", Some("prompt")),
        (&[scene], &[("prompt", "paint a zebra")], "unknown_words", Some("instruction")),
        (&[scene], &[prompt, ("steps", "0")], "option", Some("steps")),
        (&[scene], &[prompt, ("n", "9")], "option", Some("n")),
        (&[scene], &[prompt, ("colour", "red")], "unknown_key", Some("colour")),
        (&[("image", "x.png", &b"no image"[..])], &[prompt], "photo", Some("photo")),
    ] {
        assert_error(&client.post_form(EDITS, files, texts), 400, code, param);
    }
    assert_error(&client.post_json(EDITS, &json!({})), 415, "content_type", None);
    assert_error(&client.post(EDITS, "multipart/form-data", b""), 400, "form", None);
    let (kind, body) = form(&[scene], &[prompt]);
    assert_error(&client.post(EDITS, &kind, &body[..body.len() / 2]), 400, "form", None);
    let texts: Vec<_> = (0..70).map(|_| ("user", "x")).collect();
    assert_error(&client.post_form(EDITS, &[scene], &texts), 400, "form", Some("user"));
    assert_eq!(metric(&client, "editmgt_photos"), 0.0);
}
