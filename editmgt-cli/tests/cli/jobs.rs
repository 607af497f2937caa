//! `editmgt generate`, `inpaint` and `outpaint`.

use std::path::{Path, PathBuf};

use editmgt_diagnostics::init::{InitRequest, Preset};
use serde_json::{Value, json};

use crate::batch::{batch, cat, job};
use crate::images::{equal, png, read};
use crate::program::{CAT, Edit, GOLDEN_MODEL, Ran, Scratch, editmgt, root};

/// A miniature model that was not trained to edit: 32 pixels per cell, random weights.
pub(crate) fn base(scratch: &Scratch) -> PathBuf {
    random(scratch, Preset::MeissonicTiny)
}

fn random(scratch: &Scratch, preset: Preset) -> PathBuf {
    let out = scratch.path(preset.name());
    if !out.is_dir() {
        let dtype = "f32".parse().unwrap();
        editmgt_diagnostics::init::init(&out, &InitRequest { preset, dtype, seed: 0 }).unwrap();
    }
    out
}

/// Runs a command with these words and paths, and options separated by spaces.
fn run(words: &[&str], model: &Path, output: &Path, options: &str) -> Ran {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let mut args: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    args.extend(["-q".into(), "-m".into(), path(model), "-o".into(), path(output)]);
    args.extend(options.split_whitespace().map(str::to_owned));
    editmgt(args)
}

fn generate(model: &Path, output: &Path, options: &str) -> Ran {
    run(&["generate", "a red fox"], model, output, options)
}

fn pixels(path: &Path) -> image::RgbImage {
    read(path).0
}

#[test]
fn images_are_generated_in_batches_and_repeated_from_their_records() {
    let scratch = Scratch::new();
    let model = base(&scratch);
    let quick = "--width 96 --height 64 --steps 2 --seed 7";
    let report = scratch.path("report.json");
    let options = format!("{quick} --count 3 --report {}", report.display());
    let lines = generate(&model, &scratch.out("fox.png"), &options).done();
    let out = |i: usize| scratch.out(&format!("fox-{i}.png"));
    assert_eq!(lines.lines().count(), 3);
    for (i, line) in lines.lines().enumerate() {
        let start = format!("{}: seed 7, variation {i}, ", out(i).display());
        assert!(line.starts_with(&start), "{line}");
        assert_eq!(image::image_dimensions(out(i)).unwrap(), (96, 64));
    }
    assert!(pixels(&out(0)) != pixels(&out(1)));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    for (pointer, expected) in [
        ("/settings/width", json!(96)),
        ("/settings/count", json!(3)),
        ("/settings/guidance_scale", json!(9.0)),
        ("/settings/masking_schedule", json!("cosine")),
        ("/request/seed", json!(7)),
        ("/grid/width", json!(6)),
    ] {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(report["request"].get("guidance_scale"), None, "the family's default");

    let shown = editmgt(["show".into(), out(2)]).done();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["settings"]["prompt"], "a red fox");
    assert_eq!(shown["settings"]["variation"], 2);
    let again = scratch.out("again.png");
    let like = out(2);
    run(&["generate", "--like", like.to_str().unwrap()], &model, &again, "").done();
    assert!(pixels(&again) == pixels(&like));
    // Another job's record is not one of an image from text.
    let mut edit = Edit::new(scratch.out("o.png")).with_path("--like", &like);
    edit.model = GOLDEN_MODEL.into();
    edit.run().refused("edit", &["record of `generate`", "repeats it"]);
}

#[test]
fn inpaint_keeps_the_photo_outside_the_mask() {
    let scratch = Scratch::new();
    let model = base(&scratch);
    let mask = scratch.write("mask.png", png(451, 300, |x| if x < 200 { 255 } else { 0 }));
    let (mask, output) = (mask.to_str().unwrap(), scratch.out("o.png"));
    let words = ["inpaint", CAT, "a meadow", "--mask", mask];
    let record = run(&words, &model, &output, "--size 96 --steps 2 --feather 3");
    record.done();
    let (photo, made) = (pixels(&root().join(CAT)), pixels(&output));
    assert_eq!(equal(&photo, &made, 200..451), 1.0);
    assert!(equal(&photo, &made, 0..190) < 0.1);
    let shown = editmgt(["show".into(), output.clone()]).done();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for (pointer, expected) in [
        ("/settings/task", json!("inpaint")),
        ("/settings/guidance_scale", json!(9.0)),
        ("/settings/masking_schedule", json!("linear")),
        ("/settings/composite", json!("held")),
    ] {
        assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer}");
    }
    let again = scratch.out("again.png");
    let like = ["inpaint", CAT, "--mask", mask, "--like", output.to_str().unwrap()];
    run(&like, &model, &again, "").done();
    assert!(pixels(&again) == made);
}

#[test]
fn outpaint_grows_the_canvas_around_the_photo() {
    let scratch = Scratch::new();
    let model = base(&scratch);
    let output = scratch.out("o.png");
    let map = scratch.out("map.png");
    let options = format!("--left 100 --bottom 20 --size 96 --steps 2 --map {}", map.display());
    run(&["outpaint", CAT, "a room"], &model, &output, &options).done();
    let (photo, made) = (pixels(&root().join(CAT)), pixels(&output));
    assert_eq!((made.dimensions(), pixels(&map).dimensions()), ((551, 320), (551, 320)));
    let inside = image::imageops::crop_imm(&made, 100, 0, 451, 300).to_image();
    assert!(inside == photo);
    let again = scratch.out("again.png");
    let recorded = output.to_str().unwrap();
    run(&["outpaint", CAT, "--like", recorded], &model, &again, "").done();
    assert!(pixels(&again) == made);
    // The largest margin is refused, not added to the others.
    let huge = format!("--left {} --top 1", usize::MAX);
    let ran = run(&["outpaint", CAT, "--like", recorded], &model, &scratch.out("no.png"), &huge);
    ran.refused("huge", &["margins"]);
    // A record is of one command.
    let mut edit = Edit::new(scratch.out("no.png")).with_path("--like", &output);
    edit.model = GOLDEN_MODEL.into();
    edit.run().refused("edit", &["record of `outpaint`", "repeats it"]);
}

/// Another family behind the same commands, with its own defaults.
#[test]
fn amused_generates_inpaints_and_outpaints() {
    let scratch = Scratch::new();
    let model = random(&scratch, Preset::AmusedTiny);
    let report = scratch.path("report.json");
    let options = format!("--count 2 --report {}", report.display());
    generate(&model, &scratch.out("fox.png"), &options).done();
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    for (pointer, expected) in [
        ("/settings/width", json!(128)),
        ("/settings/steps", json!(12)),
        ("/settings/guidance_scale", json!(10.0)),
        ("/settings/negative_prompt", json!("")),
    ] {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(pixels(&scratch.out("fox-0.png")) != pixels(&scratch.out("fox-1.png")));
    generate(&model, &scratch.out("wide.png"), "--width 160 --height 96 --steps 2").done();
    generate(&model, &scratch.out("no.png"), "--width 16384 --height 16384")
        .refused("huge", &["width", "50000000 pixels", "16384x16384"]);

    let mask = scratch.write("mask.png", png(451, 300, |x| if x < 200 { 255 } else { 0 }));
    let words = ["inpaint", CAT, "a meadow", "--mask", mask.to_str().unwrap()];
    run(&words, &model, &scratch.out("in.png"), "--steps 2").done();
    let photo = pixels(&root().join(CAT));
    assert_eq!(equal(&photo, &pixels(&scratch.out("in.png")), 200..451), 1.0);
    run(&["outpaint", CAT, "a room"], &model, &scratch.out("o.png"), "--right 50 --steps 2").done();
    let inside =
        image::imageops::crop_imm(&pixels(&scratch.out("o.png")), 0, 0, 451, 300).to_image();
    assert!(inside == photo);

    let mut edit = Edit::new(scratch.out("e.png"));
    edit.model = model;
    edit.run().refused("edit", &["aMUSEd", "`generate`", "`inpaint`"]);
    edit.with("--anyway").run().refused("edit anyway", &["reference"]);
}

#[test]
fn a_base_that_does_not_edit_says_what_it_does() {
    let scratch = Scratch::new();
    let model = base(&scratch);
    let edit = |options: &str| {
        let mut edit = Edit::new(scratch.out("o.png")).with("--steps 1 --size 96").with(options);
        edit.model = model.clone();
        edit.run()
    };
    edit("").refused("edit", &["Meissonic", "`generate`", "`inpaint`", "--anyway"]);
    scratch.assert_nothing_written("edit");
    let table = editmgt([Path::new("inspect"), &model]).done();
    assert!(table.contains("Of the Meissonic family, for: generate, inpaint"), "{table}");
    edit("--anyway").done();
    std::fs::remove_file(scratch.out("o.png")).unwrap();
    // Its folder overrides what is known of its family.
    let defaults = model.join("edit_defaults.json");
    std::fs::write(&defaults, r#"{"version": 1, "trained_for": ["edit"]}"#).unwrap();
    edit("").done();
    std::fs::remove_file(scratch.out("o.png")).unwrap();
    generate(&model, &scratch.out("o.png"), "").refused("generate", &["`edit`", "--anyway"]);
    std::fs::remove_file(defaults).unwrap();

    let inside = ["generate", "a red car", "-q", "-o"].map(PathBuf::from);
    editmgt(inside.into_iter().chain([scratch.out("o.png")]))
        .refused("the model in the program", &["small family", "--model"]);
    scratch.assert_nothing_written("refused");
}

#[test]
fn invalid_jobs_are_refused_and_nothing_is_written() {
    let scratch = Scratch::new();
    let model = base(&scratch);
    let output = scratch.out("o.png");
    let other = scratch.write("other.png", png(300, 300, |_| 255));
    let black = scratch.write("black.png", png(451, 300, |_| 0));
    for (what, options, named) in [
        ("width", "--width 100", vec!["width: expected a multiple of 32", "96 or 128", "got 100"]),
        ("small", "--width 16", vec!["width: expected a multiple of 32", "got 16"]),
        ("height", "--height 7", vec!["height: expected 8 to 16384"]),
        ("count", "--count 0", vec!["count: expected 1 to 1024"]),
        ("steps", "--steps 0", vec!["steps: expected 1 to 4096"]),
        ("variation", "--variation 4294967295 --count 2", vec!["variation: expected below 2^32"]),
        ("preview", "--preview no/such", vec!["no/such", "does not exist"]),
        ("report", "--report no/such/r.json", vec!["no/such"]),
    ] {
        generate(&model, &output, options).refused(what, &named);
        scratch.assert_nothing_written(what);
    }
    run(&["generate", " "], &model, &output, "")
        .refused("prompt", &["prompt: expected some words"]);
    generate(&model, &scratch.out("o.xyz"), "").refused("format", &["ends in .png"]);

    let outpaint = |options: &str| run(&["outpaint", CAT, "a room"], &model, &output, options);
    for (what, options, named) in [
        ("none", "", vec!["task: expected margins", "at least one above 0"]),
        ("large", "--left 16385", vec!["task: expected margins of 0 to 16384"]),
        ("canvas", "--left 16000 --top 16000", vec!["16451x16300", "50000000"]),
        ("composite", "--left 8 --composite visible", vec!["composite: expected held or all"]),
    ] {
        outpaint(options).refused(what, &named);
        scratch.assert_nothing_written(what);
    }

    let inpaint = |mask: &Path, options: &str| {
        let words = ["inpaint", CAT, "a meadow", "--mask", mask.to_str().unwrap()];
        run(&words, &model, &output, options)
    };
    for (what, mask, options, named) in [
        ("aspect", &other, "", vec!["300x300", "451x300", "proportions"]),
        ("black", &black, "", vec!["brightest level is 0"]),
        ("strength", &other, "--strength 2", vec!["300x300"]),
    ] {
        inpaint(mask, options).refused(what, &named);
        scratch.assert_nothing_written(what);
    }
    let white = scratch.write("white.png", png(451, 300, |_| 255));
    inpaint(&white, "--strength 2 --steps 1 --size 96")
        .refused("strength", &["strength: expected 1", "not trained to edit"]);
    inpaint(&white, "--hold auto").misused("hold", &["--hold"]);
    editmgt(["inpaint", CAT, "a meadow", "-o", "o.png"]).misused("mask", &["--mask"]);
    scratch.assert_nothing_written("inpaint");
}

#[test]
fn a_prompt_that_is_cut_is_said() {
    let scratch = Scratch::new();
    let model = base(&scratch);
    let long = vec!["fox"; 60].join(" ");
    let ran = run(
        &["generate", &long],
        &model,
        &scratch.out("o.png"),
        "--width 64 --height 64 --steps 1",
    );
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(
        ran.stderr.starts_with("note: the prompt is too long: CLIP reads 77 tokens"),
        "{ran:?}"
    );
    let mask = scratch.write("mask.png", png(451, 300, |_| 255));
    let words = ["inpaint", CAT, &long, "--mask", mask.to_str().unwrap()];
    let ran = run(&words, &model, &scratch.out("p.png"), "--size 64 --steps 1");
    assert!(ran.stderr.starts_with("note: the instruction is too long: CLIP"), "{ran:?}");

    let jobs = scratch.write("jobs.jsonl", job(&cat(), json!({"instruction": long})));
    let ran = batch(&jobs, &scratch.out("batch"), "");
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let note = "note: 000001-cat: the instruction is too long: CLIP reads 77 tokens";
    assert!(ran.stderr.starts_with(note), "{ran:?}");
}

#[test]
fn jobs_of_a_batch_name_their_task() {
    let scratch = Scratch::new();
    let mask = scratch.write("mask.png", png(451, 300, |x| if x < 200 { 255 } else { 0 }));
    let lines = [
        job(&cat(), json!({"name": "in", "task": "inpaint", "mask": mask})),
        job(&cat(), json!({"name": "out", "task": {"outpaint": {"left": 40}}})),
    ];
    let jobs = scratch.write("jobs.jsonl", lines.concat());
    let printed = batch(&jobs, &scratch.out("batch"), "").done();
    assert_eq!(printed.lines().last(), Some("2 done, 0 failed"), "{printed}");
    let photo = pixels(&root().join(CAT));
    let made = pixels(&scratch.out("batch").join("in.png"));
    assert_eq!(equal(&photo, &made, 200..451), 1.0);
    let made = pixels(&scratch.out("batch").join("out.png"));
    assert_eq!(made.dimensions(), (491, 300));
    // Refused by the file of jobs alone: the model is not even there.
    for (bad, named) in [
        (json!({"task": "draw"}), "unknown variant `draw`"),
        (json!({"task": "inpaint"}), "mask: expected a mask"),
        (json!({"task": {"outpaint": {"left": 8}}, "mask": mask}), "mask: expected none"),
        (json!({"hold": "mask"}), "hold: expected a mask for this policy"),
        (json!({"task": "inpaint", "mask": mask, "hold": "auto"}), "hold: expected mask"),
    ] {
        let lines = [job(&cat(), json!({})), job(&cat(), bad)].concat();
        let jobs = scratch.write("bad.jsonl", lines);
        let out = scratch.path("bad");
        let words = ["batch", "--model", "/no/model", "--out"].map(PathBuf::from);
        let ran = editmgt(words.into_iter().chain([out.clone(), jobs]));
        ran.refused(named, &["line 2", named]);
        assert!(!out.exists(), "{named}");
    }
}

#[test]
fn image_to_image_keeps_the_shape_of_the_photo() {
    let scratch = Scratch::new();
    let model = scratch.path("amused");
    let (preset, dtype) = (Preset::AmusedTiny, "f32".parse().unwrap());
    editmgt_diagnostics::init::init(&model, &InitRequest { preset, dtype, seed: 0 }).unwrap();
    let words = ["image-to-image", CAT, "a red fox"];
    let quick = "--steps 4 --seed 7 --count 2";
    let report = scratch.path("report.json");
    let options = format!("{quick} --strength 0.75 --report {}", report.display());
    let lines = run(&words, &model, &scratch.out("fox.png"), &options).done();
    assert_eq!(lines.lines().count(), 2);
    let (one, two) = (pixels(&scratch.out("fox-0.png")), pixels(&scratch.out("fox-1.png")));
    assert!(one.width() > one.height() && one != two);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!((&report["first_step"], &report["strength"]), (&json!(1), &json!(0.75)));

    // The record repeats it, from the same photo.
    let second = scratch.out("fox-1.png");
    let shown = editmgt(["show".into(), second.clone()]).done();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["strength"], &shown["settings"]["variation"]), (&json!(0.75), &json!(1)));
    let again = scratch.out("again.png");
    let like = ["image-to-image", CAT, "--like", second.to_str().unwrap()];
    run(&like, &model, &again, "").done();
    assert!(pixels(&again) == two);
    run(&like, &model, &again, "--strength 0.5 --no-record").done();
    assert!(pixels(&again) != two);
    editmgt(["show".into(), again]).refused("no record", &["does not say how"]);
    let other = ["generate", "--like", second.to_str().unwrap()];
    run(&other, &model, &scratch.out("no.png"), "")
        .refused("generate", &["record of `image-to-image`", "repeats it"]);
    let previews = scratch.path("previews");
    std::fs::create_dir(&previews).unwrap();
    let options = format!("--steps 4 --preview {}", previews.display());
    run(&words, &model, &scratch.out("seen.png"), &options).done();
    assert!(previews.join("step-0004.png").exists());

    let out = scratch.out("none.png");
    for (options, named) in [("--strength 1.5", "--strength"), ("--strength 0.1", "strength")] {
        let options = format!("--steps 4 {options}");
        run(&words, &model, &out, &options).refused(&options, &[named]);
    }
    run(&["edit", CAT, "make it red"], &model, &out, "").refused("edit", &["generate"]);
}

/// The messages of a run of several images, and the images that a stop leaves.
#[cfg(unix)]
#[test]
fn images_are_written_as_they_are_made() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let scratch = Scratch::new();
    let model = random(&scratch, Preset::AmusedTiny);
    let start = |count: &str, steps: &str| {
        let mut command = crate::program::command();
        command.args(["generate", "a red fox", "--count", count, "--steps", steps, "-m"]);
        command.arg(&model).arg("-o").arg(scratch.out("fox.png"));
        command.args(["--width", "64", "--height", "64"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ended = start("5", "2").wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    for line in ["images 1 to 4 of 5", "decoding 4 of 5", "image 5 of 5", "decoding 5 of 5"] {
        assert!(lines.contains(&line), "{line} in {lines:#?}");
    }
    for i in 0..5 {
        std::fs::remove_file(scratch.out(&format!("fox-{i}.png"))).unwrap();
    }

    // Stopped after the first pass: its images are there, and no part of an unfinished one.
    let mut child = start("1024", "3");
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("images 5 to 8") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    for i in 0..4 {
        assert_eq!(pixels(&scratch.out(&format!("fox-{i}.png"))).dimensions(), (64, 64));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let last = lines.lines().map(Result::unwrap).last().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{last}");
    let written = std::fs::read_dir(scratch.path("out")).unwrap().count();
    assert!(last.ends_with(&format!("; {written} of 1024 images are written")), "{last}");
    assert!((4..1024).contains(&written), "{written}");
}
