//! Outputs that are inputs or other outputs, links, and arguments that begin with a hyphen.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::batch::{batch, cat, job};
use crate::program::{CAT, Edit, GOLDEN_MODEL, Scratch, root};

/// A scratch folder with a photo and links to it.
fn photo() -> Scratch {
    let scratch = Scratch::new();
    fs::copy(root().join(CAT), scratch.path("p.jpg")).unwrap();
    fs::hard_link(scratch.path("p.jpg"), scratch.path("hard.jpg")).unwrap();
    symlink("p.jpg", scratch.path("soft.jpg")).unwrap();
    scratch
}

fn edit(scratch: &Scratch, output: &Path) -> Edit {
    Edit { photo: scratch.path("p.jpg"), ..Edit::new(output.to_owned()).quick() }
}

#[test]
fn no_output_of_an_edit_is_an_input_or_another_output() {
    let scratch = photo();
    let before = fs::read(scratch.path("p.jpg")).unwrap();
    let model = scratch.path("model");
    fs::create_dir(&model).unwrap();
    fs::copy(root().join(GOLDEN_MODEL).join("pipeline.json"), model.join("pipeline.json")).unwrap();
    for name in ["p.jpg", "./p.jpg", "out/../p.jpg", "hard.jpg", "soft.jpg"] {
        let path = scratch.path(name);
        edit(&scratch, &path).run().refused(name, &["this is the photo", "--in-place"]);
        let out = scratch.out("o.png");
        for option in ["--report", "--map"] {
            let edit = edit(&scratch, &out).with_path(option, &path);
            edit.run().refused(name, &["this is the photo"]);
        }
        let mask = Edit { photo: CAT.into(), ..edit(&scratch, &out) };
        let mask = mask.with_path("--mask", &scratch.path("p.jpg")).with_path("--report", &path);
        mask.run().refused(name, &["this is the mask"]);
        let model = Edit { model: model.clone(), ..edit(&scratch, &out) };
        let model = model.with_path("--report", &scratch.path("model/pipeline.json"));
        model.run().refused(name, &["this is the model"]);
    }
    for name in ["out/o.png", "out/./o.png", "out/../out/o.png"] {
        let out = scratch.out("o.png");
        for option in ["--report", "--map"] {
            let edit = edit(&scratch, &out).with_path(option, &scratch.path(name));
            edit.run().refused(name, &["a separate file for the"]);
        }
    }
    let previews = scratch.path("previews");
    fs::create_dir(&previews).unwrap();
    symlink("../p.jpg", previews.join("step-0001.png")).unwrap();
    let edit = edit(&scratch, &scratch.out("o.png")).with_path("--preview", &previews);
    edit.run().refused("preview", &["this is the photo"]);
    assert!(fs::read(scratch.path("p.jpg")).unwrap() == before);
    scratch.assert_nothing_written("refused edits");
}

#[test]
fn the_photo_is_replaced_when_it_is_asked_for_and_links_are_written_through() {
    let scratch = photo();
    let other = edit(&scratch, &scratch.out("o.jpg")).bytes();
    let in_place = edit(&scratch, &scratch.path("soft.jpg")).with("--in-place");
    in_place
        .with_path("--report", &scratch.path("hard.jpg"))
        .run()
        .refused("report", &["a separate file for the report", "the result"]);
    edit(&scratch, &scratch.path("soft.jpg")).with("--in-place").run().done();
    assert!(scratch.path("soft.jpg").is_symlink());
    assert!(fs::read(scratch.path("p.jpg")).unwrap() == other);
    assert!(fs::read(scratch.path("hard.jpg")).unwrap() != other, "the other hard link stays");
}

#[test]
fn instruction_may_begin_with_a_hyphen() {
    let scratch = Scratch::new();
    let instruction = "-40 degrees: make it snow".to_owned();
    let edit = Edit { instruction, ..Edit::new(scratch.out("o.png")).quick() };
    let mut edit = edit.with("--seed 3 --guidance 2");
    edit.options.extend(["--negative", "--flat colours"].map(str::to_owned));
    let report = edit.report();
    assert_eq!(report["request"]["instruction"], "-40 degrees: make it snow");
    assert_eq!(report["request"]["negative_prompt"], "--flat colours");
    assert_eq!(report["request"]["seed"], 3);
}

#[test]
fn no_result_of_a_batch_is_an_input() {
    let scratch = photo();
    let before = fs::read(scratch.path("p.jpg")).unwrap();
    let all = scratch.path("out");
    for (more, named) in [
        (json!({"photo": "p.jpg", "name": "p"}), "photo of p"),
        (json!({"photo": "soft.jpg", "name": "hard"}), "photo of hard"),
        (json!({"photo": cat(), "mask": "p.jpg", "name": "soft"}), "mask of soft"),
    ] {
        let jobs = scratch.write("jobs.jsonl", job("p.jpg", more));
        batch(&jobs, &scratch.path("."), "--format jpg").refused(named, &[named]);
    }
    // The photo of a job is the result of another.
    let chain = [job(&cat(), json!({"name": "a"})), job("out/a.png", json!({"name": "b"}))];
    let jobs = scratch.write("jobs.jsonl", chain.concat());
    batch(&jobs, &all, "").refused("chain", &["photo of b"]);
    let manifest = scratch.out("manifest.jsonl");
    fs::write(&manifest, job(&cat(), json!({}))).unwrap();
    batch(&manifest, &all, "--resume").refused("manifest", &["file of jobs"]);
    fs::remove_file(&manifest).unwrap();
    assert!(fs::read(scratch.path("p.jpg")).unwrap() == before);
    scratch.assert_nothing_written("refused batches");
    // Files that exist before the batch are protected.
    let jobs = scratch.write("jobs.jsonl", job(&cat(), json!({"name": "a"})));
    fs::write(scratch.out("a.png"), "mine").unwrap();
    batch(&jobs, &all, "").refused("existing", &["there before the batch"]);
    assert_eq!(fs::read(scratch.out("a.png")).unwrap(), b"mine");
}

#[test]
fn a_batch_works_without_locks() {
    let scratch = Scratch::new();
    let jobs = scratch.write("jobs.jsonl", job(&cat(), json!({"name": "a"})));
    batch(&jobs, &scratch.path("out"), "--no-lock").done();
    assert!(!scratch.out("batch.lock").exists());
    batch(&jobs, &scratch.path("out"), "--no-lock --resume").done();
}
