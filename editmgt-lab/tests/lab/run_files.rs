//! Runs of training and evaluation with outputs that are also inputs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::images::png;
use crate::program::{GOLDEN_MODEL, Ran, Scratch, lab, root};

/// A copy of a config with `keys` replaced; a run of it ends at its first missing file.
fn config(scratch: &Scratch, name: &str, replaced: &[(&str, &Path)]) -> PathBuf {
    let mut text = fs::read_to_string(root().join("configs").join(name)).unwrap();
    for (path, with) in replaced {
        assert!(text.contains(path), "{path}");
        text = text.replace(path, with.to_str().unwrap());
    }
    scratch.write(name, text)
}

fn train(what: &str, config: &Path, out: &Path, resume: bool) -> Ran {
    let mut args = vec!["train", what, config.to_str().unwrap(), "--out", out.to_str().unwrap()];
    if resume {
        args.push("--resume");
    }
    lab(args)
}

/// The folder of a run that was stopped, without a checkpoint.
fn started(scratch: &Scratch) -> PathBuf {
    let out = scratch.path("run");
    fs::create_dir_all(out.join("checkpoints")).unwrap();
    scratch.write("run/config.toml", "");
    out
}

/// Links one file under several names, and refuses a run to which each of them belongs.
fn each_name(photo: &Path, place: &Path, mut run: impl FnMut() -> Ran, named: &str) {
    let bytes = fs::read(photo).unwrap();
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    for link in [|a: &Path, b: &Path| symlink(a, b), |a: &Path, b: &Path| fs::hard_link(a, b)] {
        link(photo, place).unwrap();
        run().refused(&place.display().to_string(), &[named]);
        assert!(fs::read(photo).unwrap() == bytes);
        fs::remove_file(place).unwrap();
    }
}

#[test]
fn no_file_of_a_training_run_is_a_file_that_it_reads() {
    let scratch = Scratch::new();
    let codec = scratch.path("codec");
    fs::create_dir(&codec).unwrap();
    let weights = scratch.write("codec/diffusion_pytorch_model.safetensors", "weights");
    let edit = config(&scratch, "shapes-edit.toml", &[("runs/codec/codec", &codec)]);
    let out = started(&scratch);
    for name in ["metrics.jsonl", "data.json", "model/vqvae/x.safetensors", "checkpoints/a/b"] {
        let resume = || train("edit", &edit, &out, true);
        each_name(&weights, &out.join(name), resume, "this is the codec");
        let resume = || train("edit", &edit, &out, true);
        each_name(&edit, &out.join(name), resume, "this is the config");
    }
    let world = config(&scratch, "shapes-codec.toml", &[]);
    let resume = || train("codec", &world, &out, true);
    each_name(&world, &out.join("codec/config.json"), resume, "this is the config");
    let export = || train("export", &edit, &out, false);
    each_name(&weights, &out.join("model/vqvae/config.json"), export, "this is the codec");
}

#[test]
fn no_file_of_a_tuning_run_is_its_model_or_its_data() {
    let scratch = Scratch::new();
    let model = scratch.path("first/model");
    fs::create_dir_all(&model).unwrap();
    scratch.write("first/config.toml", "");
    let weights = scratch.write("first/model/weights.safetensors", "weights");
    scratch.write("before.png", png(8, 8, |x| x as u8));
    let line = json!({"input_img": "before.png", "output_img": "before.png", "instruction": "a"});
    let list = scratch.write("list.jsonl", line.to_string());
    let cache = scratch.path("cache");
    let tune = config(
        &scratch,
        "editmgt-stage1.toml",
        &[
            ("models/meissonic-gemma2", &scratch.path("first")),
            ("data/crispedit-2m/pairs.jsonl", &list),
            ("cache/tokens", &cache),
        ],
    );
    let out = started(&scratch);
    let resume = || train("edit", &tune, &out, true);
    each_name(&weights, &out.join("model/x"), resume, "this is the model to start from");
    each_name(&list, &out.join("samples/x"), resume, "this is the data");
    let photo = scratch.path("before.png");
    each_name(&photo, &out.join("adapter/x"), resume, "this is the data");
    let shard = cache.join("0123456789abcdef/tokens.safetensors");
    each_name(&photo, &shard, resume, "token cache");
    // The result would replace the initial model.
    train("edit", &tune, &scratch.path("first"), true)
        .refused("itself", &["this is the model to start from"]);
    assert_eq!(fs::read(&weights).unwrap(), b"weights");
}

#[test]
fn a_new_run_leaves_a_folder_with_files_alone() {
    let scratch = Scratch::new();
    let edit = config(&scratch, "shapes-edit.toml", &[]);
    let codec = config(&scratch, "shapes-codec.toml", &[]);
    for (what, config) in [("edit", &edit), ("codec", &codec)] {
        train(what, config, &scratch.path("."), false).refused(what, &["already there"]);
        train(what, config, &scratch.path("nowhere"), true).refused(what, &["no run to resume"]);
    }
    assert!(!scratch.path("run.lock").exists() && !scratch.path("nowhere").exists());
}

#[test]
fn no_file_of_an_evaluation_is_a_photo_or_an_option() {
    let scratch = Scratch::new();
    let request = scratch.write("request.json", r#"{"steps": 1, "size": 48}"#);
    let row = json!({
        "key": "a", "task_type": "subject-add", "instruction": "add a hat",
        "instruction_language": "en",
    });
    fs::create_dir(scratch.path("data")).unwrap();
    scratch.write("data/info.jsonl", row.to_string());
    let photo = scratch.write("data/a_SRCIMG.png", png(48, 40, |x| 5 * x as u8));
    let out = scratch.path("run");
    let eval = |args: &[&Path]| {
        let more = ["--out".as_ref(), &*out, "--request".as_ref(), &*request];
        let model = ["--model".as_ref(), Path::new(GOLDEN_MODEL)];
        lab([&["eval".as_ref()], args, &more, &model].concat())
    };
    let gedit = || eval(&["gedit".as_ref(), &scratch.path("data"), "--pictures".as_ref()]);
    let copy = out.join("fullset/subject-add/en/a_SRCIMG.png");
    each_name(&photo, &copy, gedit, "this is the data");
    each_name(&photo, &out.join("pictures/000000-after.png"), gedit, "this is the data");
    each_name(&request, &out.join("run.json"), gedit, "this is the request");

    let ablate = || eval(&["ablate".as_ref()]);
    for name in ["hold.md", "steps-time.svg", "filter.svg", "runs/hold-off/trials.jsonl"] {
        each_name(&request, &out.join(name), ablate, "this is the request");
    }

    scratch.write("run/trials.jsonl", "");
    let trials = out.join("trials.jsonl");
    let ratings = scratch.path("ratings");
    let rate = || {
        let words = ["rate", out.to_str().unwrap(), "--endpoint", "http://127.0.0.1:9/v1"];
        let more = ["--rater-model", "judge", "--out", ratings.to_str().unwrap()];
        lab([&["eval"], &words[..], &more].concat())
    };
    for name in ["ratings.jsonl", "rater.json", "ratings.lock"] {
        each_name(&trials, &ratings.join(name), rate, "this is the run");
    }
}

#[test]
fn finished_run_can_be_repeated_and_summarised() {
    let scratch = Scratch::new();
    let request = scratch.write("request.json", r#"{"steps": 1, "size": 16}"#);
    let world = scratch.write("world.json", r#"{"canvas": 80}"#);
    let out = scratch.path("run");
    let summary = out.join("summary.json");
    for _ in 0..2 {
        let [request, world, out] = [&request, &world, &out].map(|path| path.to_str().unwrap());
        let mut args = vec!["eval", "world", "--n", "1", "--model", GOLDEN_MODEL, "--no-lock"];
        args.extend(["--request", request, "--world", world, "--out", out, "--pictures"]);
        lab(args).done();
        let args = ["eval", "summary", out, "--summary", summary.to_str().unwrap()];
        lab(args).done();
    }
    assert!(!out.join("trials.lock").exists());
}

#[test]
fn every_command_that_locks_works_without_locks() {
    for command in ["eval world", "eval pairs", "eval gedit", "eval rate", "eval ablate"]
        .into_iter()
        .chain(["train edit", "train codec"])
    {
        let args = command.split(' ').chain(["--help"]);
        assert!(lab(args).done().contains("--no-lock"), "{command}");
    }
}
