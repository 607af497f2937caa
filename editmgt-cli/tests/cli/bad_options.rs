//! Options out of range, and outputs that cannot be written.

use std::path::PathBuf;

use crate::images::png;
use crate::models::init;
use crate::program::{CAT, Edit, INSTRUCTION, Scratch, editmgt};
use crate::spoil::weights;

/// An existing backend that is not in this build.
fn missing_backend() -> &'static str {
    let gpus = [
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("ndarray", cfg!(feature = "ndarray")),
    ];
    gpus.iter().find(|(_, built)| !built).expect("not every backend at once").0
}

#[test]
fn rejects_options_out_of_range() {
    let scratch = Scratch::new();
    let device = format!("--device {}", missing_backend());
    let feature = format!("--features {}", missing_backend());
    for (options, named) in [
        ("--steps 0", vec!["steps: ", "1 to 4096", "got 0"]),
        ("--steps 4097", vec!["steps: ", "1 to 4096", "got 4097"]),
        ("--guidance nan", vec!["guidance: ", "0 to 100", "got NaN"]),
        ("--guidance inf", vec!["guidance: ", "0 to 100", "got inf"]),
        ("--guidance -0.5", vec!["guidance: ", "0 to 100", "got -0.5"]),
        ("--strength -1", vec!["strength: ", "0 to 100", "got -1"]),
        ("--hold 1.5", vec!["hold: ", "0 to 1", "got 1.5"]),
        ("--hold -0.1", vec!["hold: ", "0 to 1", "got -0.1"]),
        ("--hold nan", vec!["hold: ", "0 to 1", "got NaN"]),
        ("--hold budget:2", vec!["hold: ", "0 to 1", "got budget:2"]),
        ("--hold mask", vec!["hold: ", "a mask for this policy", "mask alone"]),
        ("--hold mask+auto", vec!["hold: ", "a mask for this policy", "mask+auto alone"]),
        ("--hold-margin 65", vec!["hold-margin: ", "0 to 64 tokens", "got 65"]),
        ("--keyword cat", vec!["keyword: ", "a hold policy that looks", "hold off"]),
        ("--auto-keyword --hold off", vec!["keyword: ", "a hold policy that looks", "hold off"]),
        ("--hold auto --blocks 2,5", vec!["blocks: ", "below 5", "got 5"]),
        ("--guidance-from 0.5 --guidance-until 0.2", vec!["guidance_interval: ", "got 0.5,0.2"]),
        ("--guidance-until 1.1", vec!["guidance_interval: ", "got 0,1.1"]),
        ("--temperature 0 -1", vec!["temperature: ", "0 to 100", "got 0,-1"]),
        ("--size 0", vec!["size: ", "1 to 16384", "got 0"]),
        ("--size 1000000", vec!["size: ", "1 to 16384", "got 1000000"]),
        // The minimum size depends on the model: one token here is 4 pixels.
        ("--size 3", vec!["size ", "4 to 16384", "got 3"]),
        ("--feather 4097", vec!["feather: ", "0 to 4096 pixels", "got 4097"]),
        ("--tile 15", vec!["tile: ", "auto, off or 16 to 16384 pixels", "got 15"]),
        ("--resize native", vec!["multiples of 4", "451x300"]),
        ("--hold 0.5 --keyword dog", vec!["\"dog\"", INSTRUCTION, "words of the instruction"]),
        ("--dtype f64", vec!["dtype \"f64\"", "f32, f16 or bf16"]),
        ("--compute int4", vec!["compute \"int4\"", "dtype, int8"]),
        ("--device abacus", vec!["device \"abacus\"", "flex", "cuda"]),
        ("--device cpu:9", vec!["device flex:9", "not found"]),
        (&device, vec!["this build has", &feature]),
    ] {
        Edit::new(scratch.out("o.png")).with(options).run().refused(options, &named);
        scratch.assert_nothing_written(options);
    }
}

/// Before the weights are read, which are broken here.
#[test]
fn photos_of_too_many_tokens_are_refused_before_the_model_is_loaded() {
    let scratch = Scratch::new();
    let model = scratch.path("model");
    init(&model, "f32");
    std::fs::write(weights(&model.join("editmgt")), "broken").unwrap();
    let photo = scratch.write("large.png", png(8192, 4096, |x| x as u8));
    let edit = |options: &str| {
        let mut edit = Edit::new(scratch.out("o.png")).with(options);
        edit.model = model.clone();
        edit.photo = photo.clone();
        edit.run()
    };
    let named = ["resize: ", "65536 tokens", "--resize mask", "8192x4096"];
    edit("--resize native").refused("native", &named);
    edit("").refused("fit", &["not a safetensors file"]);
    scratch.assert_nothing_written("native");
}

#[test]
fn numbers_are_refused_with_what_is_expected() {
    for (words, named) in [
        (
            &["outpaint", CAT, "a room", "-o", "o.png", "--left=-1"][..],
            "a number of pixels, 0 or more",
        ),
        (
            &["outpaint", CAT, "a room", "-o", "o.png", "--top", "-1"],
            "a number of pixels, 0 or more",
        ),
        (&["outpaint", CAT, "a room", "-o", "o.png", "--right", "1.5"], "a number of pixels, 0"),
        (&["edit", CAT, "x", "-o", "o.png", "--max-megapixels", "0"], "megapixels above 0"),
        (&["edit", CAT, "x", "-o", "o.png", "--max-megapixels", "-2"], "megapixels above 0"),
        (&["generate", "x", "-o", "o.png", "--count", "-1"], "a number of images, 1 to 1024"),
        (&["image-to-image", CAT, "x", "-o", "o.png", "--strength", "half"], "up to 1"),
    ] {
        editmgt(words.iter().copied()).misused(&words.join(" "), &["expected ", named]);
    }
}

#[test]
fn rejects_empty_instruction_and_keyword() {
    let scratch = Scratch::new();
    for words in ["", " \t "] {
        let mut edit = Edit::new(scratch.out("o.png"));
        edit.instruction = words.into();
        edit.run().refused("instruction", &["instruction: ", "some words", "nothing"]);
        let mut edit = Edit::new(scratch.out("o.png")).with("--hold 0.5 --keyword");
        edit.options.push(words.into());
        edit.run().refused("keyword", &["keyword: ", "words of the instruction", "nothing"]);
    }
    scratch.assert_nothing_written("words");
}

#[test]
fn rejects_unwritable_outputs() {
    let scratch = Scratch::new();
    let formats = "ends in .png, .jpg, .webp, .bmp or .tiff";
    std::fs::create_dir(scratch.path("folder.png")).unwrap();
    for (output, named) in [
        (scratch.out("o"), vec![formats]),
        (scratch.out("o.xyz"), vec![formats]),
        (scratch.out("o.gif"), vec![formats]),
        (scratch.out(".png"), vec![formats]),
        (scratch.path("nowhere/o.png"), vec!["nowhere does not exist"]),
        (scratch.path("folder.png"), vec!["expected a file", "a folder"]),
        (PathBuf::from(CAT).join("o.png"), vec![CAT, "does not exist"]),
    ] {
        let what = output.to_string_lossy().into_owned();
        Edit::new(output).run().refused(&what, &[&[&*what], &*named].concat());
        scratch.assert_nothing_written(&what);
    }
    for (report, named) in [
        (scratch.path("nowhere/r.json"), "nowhere does not exist"),
        (scratch.path("folder.png"), "expected a file"),
        (scratch.out("o.png"), "a separate file"),
    ] {
        let edit = Edit::new(scratch.out("o.png")).with_path("--report", &report);
        edit.run().refused("report", &[&report.to_string_lossy(), named]);
        scratch.assert_nothing_written("report");
    }
}

/// The previous file at the output's path survives a refused edit.
#[test]
fn an_older_output_stays() {
    let scratch = Scratch::new();
    let output = scratch.write("o.png", "old");
    let black = scratch.write("black.png", png(451, 300, |_| 0));
    Edit::new(output.clone())
        .quick()
        .with_path("--mask", &black)
        .run()
        .refused("mask", &["brightest level is 0 of 255"]);
    assert_eq!(std::fs::read(output).unwrap(), b"old");
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_read_only() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new();
    let folder = scratch.path("read-only");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o555)).unwrap();
    // The administrator may write everywhere.
    if tempfile::tempfile_in(&folder).is_err() {
        let output = folder.join("o.png");
        Edit::new(output.clone()).run().refused("photo", &["can't write", "o.png", "denied"]);
        Edit::new(scratch.out("o.png"))
            .with_path("--report", &folder.join("r.json"))
            .run()
            .refused("report", &["can't write", "r.json", "denied"]);
        scratch.assert_nothing_written("read-only");
    }
}
