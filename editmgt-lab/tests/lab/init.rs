//! `editmgt-lab init`.

use std::path::Path;

use editmgt_tests::spoil::weights;

use crate::program::{Scratch, lab};

const COMPONENTS: [&str; 4] = ["editmgt", "vqvae", "text_encoder", "llm_encoder"];

/// Writes a miniature model with random weights.
fn init(out: &Path, options: &[&str]) {
    let args = ["init", out.to_str().unwrap(), "--preset", "tiny"];
    lab(args.iter().chain(options)).done();
}

fn all_weights(model: &Path) -> Vec<Vec<u8>> {
    let files = COMPONENTS.map(|component| weights(&model.join(component)));
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

#[test]
fn the_seed_decides_the_weights() {
    let scratch = Scratch::new();
    let model = |name: &str, seed| {
        init(&scratch.path(name), &["--seed", seed]);
        all_weights(&scratch.path(name))
    };
    let first = model("a", "1");
    assert!(first == model("b", "1"));
    assert!(first.iter().zip(model("c", "2")).all(|(one, two)| *one != two));
}

#[test]
fn init_refuses_existing_files() {
    let scratch = Scratch::new();
    let taken = scratch.path("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("diary"), "mine").unwrap();
    let file = scratch.write("file", "mine");
    let out = scratch.out("model").to_str().unwrap().to_owned();
    let (taken_arg, file_arg) = (taken.to_str().unwrap(), file.to_str().unwrap());
    let orphan = scratch.path("nowhere/model").to_str().unwrap().to_owned();
    for (args, named) in [
        ([taken_arg, "--preset", "tiny"], vec![taken_arg, "not empty"]),
        ([file_arg, "--preset", "tiny"], vec![file_arg]),
        ([&orphan, "--preset", "tiny"], vec![&orphan, "nowhere does not exist"]),
        ([&out, "--preset", "huge"], vec!["preset", "full, tiny", "huge"]),
        ([&out, "--dtype", "int8"], vec!["int8", "f32, f16 or bf16"]),
    ] {
        lab(["init"].iter().chain(&args)).refused(args[0], &named);
    }
    assert_eq!(std::fs::read(taken.join("diary")).unwrap(), b"mine");
    assert_eq!(std::fs::read_dir(&taken).unwrap().count(), 1);
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
    scratch.assert_nothing_written("init");
    // Only the test's files: no half-written model.
    let mut names: Vec<_> = std::fs::read_dir(scratch.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["file", "out", "taken"]);

    // An empty folder is accepted.
    std::fs::create_dir(scratch.path("empty")).unwrap();
    init(&scratch.path("empty"), &[]);
    assert_eq!(all_weights(&scratch.path("empty")).len(), COMPONENTS.len());
}
