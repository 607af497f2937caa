//! `editmgt-lab eval gedit`, and `editmgt-lab eval rate` of what it wrote.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::images::{png, read};
use crate::program::{GOLDEN_MODEL, Ran, Scratch, lab};

/// Two instructions for one photo, in two languages, and one for an invalid photo.
fn benchmark(scratch: &Scratch) -> PathBuf {
    let line = |key: &str, task: &str, language: &str| {
        json!({
            "key": key, "task_type": task, "instruction": "add a hat",
            "instruction_language": language, "Intersection_exist": true,
        })
        .to_string()
    };
    let lines = [
        line("a", "subject-add", "en"),
        line("a", "subject-add", "cn"),
        line("b", "tone_transfer", "en"),
    ];
    std::fs::create_dir(scratch.path("data")).unwrap();
    scratch.write("data/a_SRCIMG.png", png(48, 40, |x| 5 * x as u8));
    scratch.write("data/b_SRCIMG.png", "no picture");
    scratch.write("data/info.jsonl", lines.join("\n")).parent().unwrap().to_owned()
}

fn gedit(scratch: &Scratch, data: &Path, options: &[&str]) -> Ran {
    let request = scratch.write("request.json", r#"{"steps": 1, "size": 48}"#);
    let mut args = vec!["eval", "gedit", data.to_str().unwrap(), "--model", GOLDEN_MODEL];
    args.extend(["--request", request.to_str().unwrap()]);
    args.extend(options);
    lab(args)
}

/// Gives every edit the same scores.
fn rater(answers: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let content = r#"{"reason": "fine", "followed": 4, "kept": 9}"#;
    let body = json!({"choices": [{"message": {"content": content}}]}).to_string();
    std::thread::spawn(move || {
        for _ in 0..answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).unwrap();
            }
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            reader.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n");
            write!(stream, "{head}connection: close\r\n\r\n{body}").unwrap();
        }
    });
    url
}

#[test]
fn results_have_the_official_layout_and_are_rated() {
    let scratch = Scratch::new();
    let data = benchmark(&scratch);
    let out = scratch.out("ours");
    let run = |shard: &str| {
        gedit(&scratch, &data, &["--out", out.to_str().unwrap(), "--shard", shard]).done()
    };
    run("1/2");
    let table = run("2/2");
    assert!(table.contains("| subject-add | 1 | ") && table.contains("| all | 1 | "), "{table}");
    let photo = read(&data.join("a_SRCIMG.png")).0;
    for language in ["en", "cn"] {
        let folder = out.join("fullset/subject-add").join(language);
        assert_eq!(read(&folder.join("a_SRCIMG.png")).0, photo);
        let result = read(&folder.join("a.png")).0;
        assert!(result.dimensions() == photo.dimensions() && result != photo, "{language}");
    }
    assert!(!out.join("fullset/tone_transfer").exists());
    let trials = std::fs::read_to_string(out.join("trials-1-of-2.jsonl")).unwrap();
    assert!(trials.contains(r#""skipped":"b_SRCIMG.png: expected a PNG"#), "{trials}");

    let rate = |url: &str, options: &[&str]| {
        let mut args = vec!["eval", "rate", out.to_str().unwrap(), "--endpoint", url];
        args.extend(["--rater-model", "judge"]);
        args.extend(options);
        lab(args)
    };
    let rated = rate(&rater(2), &[]).done();
    assert!(rated.contains("rated_followed | rated_kept | rated_overall"), "{rated}");
    assert!(rated.contains("| subject-add | 2 | 4.00 [4.00, 4.00] | 9.00 "), "{rated}");
    assert!(rated.contains("| all | 2 | ") && rated.contains(" 6.00 [6.00, 6.00] |"), "{rated}");
    // All is rated: no request is sent.
    assert_eq!(rate("http://127.0.0.1:9/v1", &[]).done(), rated);
    let other = scratch.out("other");
    rate("http://127.0.0.1:9/v1", &["--out", other.to_str().unwrap()])
        .refused("no listener", &["http://127.0.0.1:9/v1/chat/completions"]);
    rate("http://127.0.0.1:9/v1", &["--key-env", "EDITMGT_NO_SUCH_KEY"])
        .refused("no key", &["--key-env", "EDITMGT_NO_SUCH_KEY"]);
}

#[test]
fn rejects_invalid_benchmark_folders() {
    let scratch = Scratch::new();
    let data = benchmark(&scratch);
    let out = scratch.out("ours");
    let out = ["--out", out.to_str().unwrap()];
    gedit(&scratch, &data, &[]).refused("no folder", &["--out"]);
    gedit(&scratch, &scratch.path("nowhere"), &out).refused("no data", &["info.jsonl"]);
    for (options, named) in [
        (["--language", "fr"], vec!["expected instructions in fr", "info.jsonl"]),
        (["--n", "0"], vec!["--n: expected at least 1"]),
    ] {
        gedit(&scratch, &data, &[&out[..], &options[..]].concat()).refused(options[0], &named);
    }
}
