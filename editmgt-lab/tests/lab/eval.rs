//! `editmgt-lab eval`.

use std::path::Path;

use serde_json::Value;

use crate::program::{GOLDEN_MODEL, Ran, Scratch, lab};

/// A small canvas and one step: the same code as a full evaluation, but fast.
fn world(scratch: &Scratch, options: &[&str]) -> Ran {
    let config = scratch.write("world.json", r#"{"canvas": 80}"#);
    let request = scratch.write("request.json", r#"{"steps": 1, "size": 80, "hold": "auto"}"#);
    let mut args = vec!["eval", "world", "--model", GOLDEN_MODEL];
    args.extend(["--world", config.to_str().unwrap()]);
    if !options.contains(&"--codec-only") && !options.contains(&"--request") {
        args.extend(["--request", request.to_str().unwrap()]);
    }
    args.extend(options);
    lab(args)
}

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn killed_run_resumes_with_equal_results() {
    let scratch = Scratch::new();
    let (whole, killed) = (scratch.out("whole"), scratch.out("killed"));
    let run =
        |out: &Path, n: &str| world(&scratch, &["--n", n, "--out", out.to_str().unwrap()]).done();
    let table = run(&whole, "7");
    assert!(table.contains("| all | 7 | "), "{table}");
    let text = std::fs::read_to_string(whole.join("trials.jsonl")).unwrap();
    let lines = records(&whole.join("trials.jsonl"));
    assert_eq!(lines.len(), 7);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index);
        for metric in ["success", "right", "l1", "psnr", "tokens_held", "score_iou"] {
            assert!(line["metrics"][metric].is_number(), "{metric}: {line}");
        }
    }

    run(&killed, "3");
    let path = killed.join("trials.jsonl");
    let half = std::fs::read_to_string(&path).unwrap() + "{\"index\":3,\"cat";
    std::fs::write(&path, half).unwrap();
    assert_eq!(run(&killed, "7"), table);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

    // Another request would mix its edits with these.
    let other = scratch.write("other.json", r#"{"steps": 2, "size": 80, "hold": "auto"}"#);
    let out = killed.to_str().unwrap();
    world(&scratch, &["--n", "7", "--out", out, "--request", other.to_str().unwrap()])
        .refused("another request", &["run.json", "edits.settings.steps"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn parts_make_the_whole_and_runs_are_compared() {
    let scratch = Scratch::new();
    let (whole, parts, codec) = (scratch.out("whole"), scratch.out("parts"), scratch.out("codec"));
    let run = |out: &Path, options: &[&str]| {
        let all = [&["--n", "4", "--out", out.to_str().unwrap()], options].concat();
        world(&scratch, &all).done()
    };
    let table = run(&whole, &["--pictures"]);
    let page = scratch.out("report.html");
    let report = [Path::new("eval"), Path::new("report"), &whole, Path::new("--out"), &page];
    lab(report).done();
    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!((html.matches("<article").count(), html.matches("<img").count()), (4, 20));
    run(&parts, &["--shard", "1/2"]);
    run(&parts, &["--shard", "2/2"]);
    run(&codec, &["--codec-only"]);
    let json = scratch.out("summary.json");
    let summary = |dir: &Path| {
        let args = [Path::new("eval"), Path::new("summary"), dir, Path::new("--summary"), &json];
        lab(args).done()
    };
    assert_eq!(summary(&parts), table);
    let rows: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(rows["rows"].as_array().unwrap().last().unwrap()["edits"], 4);

    let compare = |a: &Path, b: &Path| lab([Path::new("eval"), Path::new("compare"), a, b]).done();
    let same = compare(&whole, &parts);
    assert!(same.contains("| 1.0000 |  |") && !same.contains("B is"), "{same}");
    let other = compare(&whole, &codec);
    assert!(other.contains("| psnr | 4 | "), "{other}");

    let nothing = scratch.path("nothing");
    std::fs::create_dir(&nothing).unwrap();
    lab([Path::new("eval"), Path::new("summary"), &nothing])
        .refused("no run", &["nothing", "expected a run's folder"]);
    world(&scratch, &["--n", "0"]).refused("none", &["--n: expected at least 1"]);
    world(&scratch, &["--shard", "3/2", "--out", "x"]).misused("shard", &["3/2", "I/N"]);
}

/// Two pairs in folders, one of them without its image after.
fn pairs(root: &Path) {
    for column in ["before", "after", "instruction", "mask"] {
        std::fs::create_dir_all(root.join(column)).unwrap();
    }
    let picture =
        |red| image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([red, x as u8, y as u8]));
    picture(10).save(root.join("before/a.png")).unwrap();
    picture(90).save(root.join("after/a.png")).unwrap();
    let mask =
        image::GrayImage::from_fn(32, 24, |x, _| image::Luma([if x < 16 { 255 } else { 0 }]));
    mask.save(root.join("mask/a.png")).unwrap();
    picture(20).save(root.join("before/b.png")).unwrap();
    std::fs::write(root.join("after/b.png"), "no picture").unwrap();
    for stem in ["a", "b"] {
        std::fs::write(root.join(format!("instruction/{stem}.txt")), "make it red").unwrap();
    }
}

#[test]
fn image_pairs_are_edited_and_compared() {
    let scratch = Scratch::new();
    let (data, out) = (scratch.path("data"), scratch.out("run"));
    pairs(&data);
    let request = scratch.write("request.json", r#"{"steps": 1, "size": 48, "hold": "auto"}"#);
    let eval = |data: &Path, options: &[&str]| {
        let mut args = vec!["eval", "pairs", data.to_str().unwrap(), "--model", GOLDEN_MODEL];
        args.extend(["--request", request.to_str().unwrap()]);
        args.extend(options);
        lab(args)
    };
    let table = eval(&data, &["--out", out.to_str().unwrap()]).done();
    assert!(table.contains("| all | 1 | ") && table.contains("1 edits were skipped"), "{table}");
    let lines = records(&out.join("trials.jsonl"));
    assert_eq!((lines.len(), &lines[0]["name"], &lines[1]["name"]), (2, &"a".into(), &"b".into()));
    for metric in ["l1_inside", "l1_outside", "ssim", "pixels_changed_outside", "score_auc"] {
        assert!(lines[0]["metrics"][metric].is_number(), "{metric}: {}", lines[0]);
    }
    assert!(lines[1]["skipped"].as_str().unwrap().starts_with("corrupt image"), "{}", lines[1]);

    // With CLIP and DINO metrics; a run cannot be resumed with other encoders.
    std::fs::create_dir(data.join("caption_after")).unwrap();
    std::fs::write(data.join("caption_after/a.txt"), "a red car").unwrap();
    let (looked, encoders) = (scratch.out("looked"), "editmgt-eval/testdata/encoders");
    let (clip, dino) = (format!("{encoders}/clip"), format!("{encoders}/dinov2"));
    let eyes = ["--out", looked.to_str().unwrap(), "--clip", &clip, "--dino", &dino];
    let table = eval(&data, &eyes).done();
    assert!(table.contains("| clip_i | clip_t | dino_i |"), "{table}");
    let seen = &records(&looked.join("trials.jsonl"))[0]["metrics"];
    for metric in ["clip_i", "clip_i_from_photo", "clip_t", "dino_i", "dino_i_from_photo"] {
        assert!(seen[metric].is_number(), "{metric}: {seen}");
    }
    assert!(seen.get("clip_direction").is_none() && seen["l1"] == lines[0]["metrics"]["l1"]);
    eval(&data, &eyes[..4]).refused("one eye", &["run.json", "encoders.dino"]);
    eval(&data, &["--clip", &dino]).refused("DINO", &["model_type: expected clip", "dinov2"]);

    // The same pair, in a list with other names, without its mask.
    let list = scratch.write(
        "data/list.jsonl",
        r#"{"from": "before/a.png", "after": "after/a.png", "instruction": "make it red"}"#,
    );
    let out = scratch.out("list");
    eval(&list, &["--column", "before=from", "--out", out.to_str().unwrap()]).done();
    let line = &records(&out.join("trials.jsonl"))[0]["metrics"];
    assert_eq!(line["l1"], lines[0]["metrics"]["l1"]);
    assert!(line.get("l1_inside").is_none() && line.get("score_auc").is_none(), "{line}");

    for (options, named) in [
        (&["--layout", "pix2pix"][..], &["--layout", "magic_brush"][..]),
        (&["--column", "before"], &["--column", "NAME=COLUMN"]),
        (&["--column", "befor=a"], &["--column", "befor"]),
        (&["--mask", "black"], &["--mask", "transparent"]),
        (&["--n", "0"], &["--n: expected at least 1"]),
    ] {
        eval(&data, options).refused(options[0], named);
    }
    eval(&scratch.path("nothing"), &[]).refused("no data", &["nothing"]);
}

#[test]
fn one_option_after_the_other_is_varied() {
    let scratch = Scratch::new();
    let out = scratch.out("results");
    let config = scratch.write("world.json", r#"{"canvas": 80}"#);
    let request =
        scratch.write("request.json", r#"{"steps": 1, "size": 80, "hold": {"threshold": 0.5}}"#);
    let ablate = |options: &[&str]| {
        let mut args = vec!["eval", "ablate", "--model", GOLDEN_MODEL, "--n", "2"];
        args.extend(["--world", config.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        args.extend(["--request", request.to_str().unwrap()]);
        args.extend(options);
        lab(args)
    };
    let printed = ablate(&["--only", "composite,holding"]).done();
    let file = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(printed, format!("{}\n{}", file("holding.md"), file("composite.md")));
    assert!(
        printed.contains("| strict | 2 | ") && printed.contains("| parity | 2 | "),
        "{printed}"
    );
    // Holding by itself keeps tokens; only the composite keeps the photo's pixels.
    let (tokens, pixels) = ("tokens_changed_outside -", "pixels_changed_outside -");
    for (variation, metric, found) in [
        ("hold", tokens, true),
        ("hold", pixels, false),
        ("hold + held", pixels, true),
        ("hold + visible", pixels, true),
    ] {
        let found_it = printed.contains(&format!("- `{variation}`: {metric}"));
        assert_eq!(found_it, found, "{variation}: {metric}: {printed}");
    }
    assert!(file("composite.svg").contains("composite: pixels_changed_outside"));
    // Both baselines are the same edits, which were made once.
    let mut runs: Vec<_> = std::fs::read_dir(out.join("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    runs.sort();
    assert_eq!(
        runs,
        [
            "composite-hold",
            "composite-hold-held",
            "composite-neither",
            "composite-visible",
            "holding-parity",
            "holding-strict"
        ]
    );
    let before = file("runs/composite-hold/trials.jsonl");
    assert_eq!(ablate(&["--only", "composite,holding"]).done(), printed);
    assert_eq!(file("runs/composite-hold/trials.jsonl"), before);

    let names = editmgt_eval::ABLATION_NAMES.join(", ");
    ablate(&["--only", "colour"]).refused("an unknown one", &["--only", &names, "colour"]);

    // Without smoothing the map differs, and with it the held tokens.
    let filters = ablate(&["--only", "filter"]).done();
    let row = |name: &str| filters.lines().find(|line| line.starts_with(&format!("| {name} |")));
    assert!(row("adaptive").is_some() && filters.contains("from `adaptive`"), "{filters}");
    let numbers = |name: &str| row(name).unwrap().split_once("| 2 |").unwrap().1.to_owned();
    assert_ne!(numbers("off"), numbers("adaptive"));
}

#[test]
fn steps_are_weighed_against_time() {
    let scratch = Scratch::new();
    let out = scratch.out("results");
    let config = scratch.write("world.json", r#"{"canvas": 80}"#);
    let request = scratch.write("request.json", r#"{"steps": 1, "size": 16}"#);
    let ablate = || {
        let mut args = vec!["eval", "ablate", "--model", GOLDEN_MODEL, "--n", "1"];
        args.extend(["--only", "steps", "--world", config.to_str().unwrap()]);
        args.extend(["--request", request.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        lab(args).done()
    };
    let table = ablate();
    let times = table.split_once("| variation | ratio | seconds |").unwrap().1;
    let names: Vec<&str> =
        times.lines().skip(2).map(|line| line.split(" | ").next().unwrap()).collect();
    assert_eq!(names, ["| 1", "| 2", "| 4", "| 8", "| 16", "| 36"]);
    assert!(times.contains("| 1 | 1.00 | "), "{times}");
    let plot = std::fs::read_to_string(out.join("steps-time.svg")).unwrap();
    assert!(plot.contains("time, × that of 1"), "{plot}");
    // The times are the run's, not those of reading it again.
    assert_eq!(records(&out.join("runs/steps-8/seconds.jsonl")).len(), 1);
    assert_eq!(ablate(), table);
}

#[test]
fn a_summary_is_not_written_over_a_run() {
    let scratch = Scratch::new();
    let trials = scratch.write("trials.jsonl", "");
    let (dir, path) = (scratch.path("."), scratch.path("out/../trials.jsonl"));
    let ran = lab([
        "eval".as_ref(),
        "summary".as_ref(),
        dir.as_os_str(),
        "--summary".as_ref(),
        path.as_os_str(),
    ]);
    ran.refused("summary", &["this is the run"]);
    assert_eq!(std::fs::read(trials).unwrap(), b"");
}
