//! `editmgt edit` on a real photo.

use std::collections::HashMap;

use image::metadata::Orientation;
use image::{GrayImage, Luma};
use serde_json::json;

use crate::images::{equal, png, read};
use crate::program::{CAT, Edit, INSTRUCTION, Scratch, root};

#[test]
fn the_result_has_the_photos_size_and_stands_upright() {
    let scratch = Scratch::new();
    let (_, lying) = read(&root().join(CAT));
    assert_eq!(lying, Orientation::Rotate90, "the photo no longer tests anything");
    for name in ["o.png", "o.jpg", "o.JPEG", "o.webp", "o.bmp", "o.tiff"] {
        let output = scratch.out(name);
        let ran = Edit::new(output.clone()).with("--steps 1 --size 32 --guidance 1 --seed 5").run();
        let loss = format!("{CAT} loses its camera data (EXIF): BMP does not support it");
        let summary = if name == "o.bmp" { ran.done_with_notes(&[&loss]) } else { ran.done() };
        let (image, orientation) = read(&output);
        assert_eq!(image.dimensions(), (451, 300), "{name}");
        assert_eq!(orientation, Orientation::NoTransforms, "{name}");
        assert!(summary.contains(name) && summary.contains("seed 5, "), "{summary}");
        assert_eq!(summary.lines().count(), 1, "{summary}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let scratch = Scratch::new();
    let edit = |options| Edit::new(scratch.out("o.png")).quick().with(options).bytes();
    let first = edit("--seed 3");
    assert!(first == edit("--seed 3"), "the same command, other bytes");
    assert!(first != edit("--seed 4"), "another seed, the same bytes");
}

#[test]
fn every_option_has_an_effect() {
    let scratch = Scratch::new();
    let mut made = HashMap::new();
    let mut edit = |options| {
        // A PNG's record differs if its options do.
        let edit =
            || Edit::new(scratch.out("o.png")).quick().with("--no-record").with(options).bytes();
        made.entry(options).or_insert_with(edit).clone()
    };
    let half = "--hold 0.5";
    for (what, a, b, same) in [
        ("guidance", "", "--guidance 1", false),
        ("guidance of 1 and below is none", "--guidance 1", "--guidance 0", true),
        ("strength", "", "--strength 2", false),
        ("negative", "", "--negative grass", false),
        ("negative without guidance", "--guidance 1", "--guidance 1 --negative grass", true),
        ("hold", "", half, false),
        ("hold nothing", "", "--hold 0", true),
        // Random weights have random attention: no region is found.
        ("a map of noise holds nothing", "", "--hold auto", true),
        ("hold all but a budget", "", "--hold budget:0.3", false),
        ("a budget of everything", "", "--hold budget:1", true),
        ("hold margin", half, "--hold 0.5 --hold-margin 1", false),
        ("keyword", half, "--hold 0.5 --keyword cat", false),
        ("all words", half, "--hold 0.5 --no-keyword", true),
        ("content words", half, "--hold 0.5 --auto-keyword", false),
        (
            "two keywords",
            "--hold 0.5 --keyword cat",
            "--hold 0.5 --keyword cat --keyword make",
            false,
        ),
        (
            "the keyword maps' mean",
            "--hold 0.5 --keyword cat --keyword make",
            "--hold 0.5 --keyword cat --keyword make --keyword-maps mean",
            false,
        ),
        ("blocks", half, "--hold 0.5 --blocks 2", false),
        ("the default blocks", half, "--hold 0.5 --blocks 2,3,4", true),
        ("guidance early alone", "", "--guidance-until 0.5", false),
        ("guidance never", "--guidance 1", "--guidance-from 0.5 --guidance-until 0.5", true),
        ("guidance always", "", "--guidance-from 0 --guidance-until 1", true),
        ("temperature", "", "--temperature 0 0", false),
        ("the default temperature", "", "--temperature 2 0", true),
        ("variation", "", "--variation 1", false),
        ("parity", half, "--hold 0.5 --parity", false),
        ("composite", half, "--hold 0.5 --composite all", false),
        ("what is held alone", half, "--hold 0.5 --composite held", false),
        ("composite of nothing held", "--composite held", "--composite all", true),
        ("feather", half, "--hold 0.5 --feather 9", false),
        ("light", "--hold 0.5 --feather 9", "--hold 0.5 --feather 9 --blend linear", false),
        (
            "without a feather nothing is mixed",
            "--hold 0.5 --composite held",
            "--hold 0.5 --composite held --blend linear",
            true,
        ),
        (
            "the default composite",
            half,
            "--hold 0.5 --composite visible --blend srgb --feather 0",
            true,
        ),
        ("the default resize", "", "--resize fit", true),
        ("tiles", half, "--hold 0.5 --tile 16", true),
        ("the default tiles", "", "--tile auto", true),
        ("dtype", "", "--dtype bf16", false),
        ("the default dtype", "", "--dtype f32", true),
        ("the default device", "", "--device cpu", true),
    ] {
        assert_eq!(edit(a) == edit(b), same, "{what}: {a:?} against {b:?}");
    }
}

#[test]
fn the_report_says_how_the_photo_got_to_the_model() {
    let scratch = Scratch::new();
    // 100x44 becomes 28x12: rounding changes the aspect ratio.
    let photo = scratch.write("photo.png", png(100, 44, |x| x as u8));
    let edit = |resize: &str| {
        let mut edit = Edit::new(scratch.out("o.png")).with("--steps 1 --size 16 --resize");
        edit.options.push(resize.to_owned());
        edit.photo.clone_from(&photo);
        let report = edit.report();
        assert_eq!(read(&scratch.out("o.png")).0.dimensions(), (100, 44), "{resize}");
        assert_eq!(report["settings"]["resize"], json!(resize));
        assert_eq!(report["plan"]["model"], json!({"height": 12, "width": 28}), "{resize}");
        report["plan"].clone()
    };
    let (fit, pad, crop) = (edit("fit"), edit("pad"), edit("crop"));
    let area = |top, left, height, width| json!({"top": top, "left": left, "size": {"height": height, "width": width}});
    assert_eq!((&fit["area"], &fit["place"]), (&area(0, 0, 44, 100), &area(0, 0, 12, 28)));
    assert_eq!((&pad["area"], &pad["place"]), (&fit["area"], &area(0, 0, 12, 27)));
    assert_eq!((&crop["area"], &crop["place"]), (&area(0, 0, 43, 100), &fit["place"]));
}

#[test]
fn the_report_says_what_was_done() {
    let scratch = Scratch::new();
    let report = Edit::new(scratch.out("plain.png")).quick().report();
    for (pointer, expected) in [
        ("/request/instruction", json!(INSTRUCTION)),
        ("/settings/instruction", json!(INSTRUCTION)),
        ("/settings/steps", json!(2)),
        ("/settings/guidance_scale", json!(6.0)),
        ("/settings/hold", json!("off")),
        ("/settings/keyword", json!("all")),
        ("/settings/holding", json!("strict")),
        ("/settings/composite", json!("visible")),
        ("/photo", json!({"height": 300, "width": 451})),
        ("/blocks", json!([])),
        ("/tokens_held", json!(0.0)),
    ] {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer}");
    }
    // Unset options are not in the request.
    for unsaid in ["guidance_scale", "hold", "negative_prompt", "temperature", "blocks"] {
        assert_eq!(report["request"].get(unsaid), None, "{unsaid}");
    }
    // As many pixels as a square of 48, within 10% per side from rounding the aspect ratio.
    let side = |name| report["model_pixels"][name].as_f64().unwrap();
    let area = side("height") * side("width") / (48.0 * 48.0);
    assert!((0.8..1.25).contains(&area), "{area}");

    let options = "--seed 9 --guidance 2 --strength 1.5 --hold 0.5 --parity --keyword cat \
                   --negative grass --composite all";
    let report = Edit::new(scratch.out("options.png")).quick().with(options).report();
    for (pointer, expected) in [
        ("/request/seed", json!(9)),
        ("/request/guidance_scale", json!(2.0)),
        ("/request/reference_strength", json!(1.5)),
        ("/request/hold", json!({"threshold": 0.5})),
        ("/settings/hold", json!({"threshold": 0.5})),
        ("/request/holding", json!("parity")),
        ("/request/keyword", json!({"phrases": ["cat"]})),
        ("/request/negative_prompt", json!("grass")),
        ("/request/size", json!(48)),
        ("/request/composite", json!("all")),
        ("/composite/policy", json!("all")),
        // The single blocks of the miniature model.
        ("/blocks", json!([2, 3, 4])),
    ] {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer}");
    }
    let held = report["tokens_held"].as_f64().unwrap();
    let changed = report["tokens_changed"].as_f64().unwrap();
    // Both are rounded to f32.
    let rest = 1.0 - held - changed;
    assert!(0.0 < held && 0.0 < changed && rest > -1e-6, "{held} held, {changed} changed");
    let stages: Vec<_> = report["seconds"].as_array().unwrap().iter().map(|s| &s[0]).collect();
    assert_eq!(stages, ["encode_text", "encode_image", "sample", "decode"]);
    assert_eq!(report["model"]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(report["model"]["dtype"]["transformer"], json!("f32"));
    assert_eq!(report["scores"]["threshold"], json!(0.5));
    let kept = report["pixels_kept"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&kept), "{kept}");
}

#[test]
fn held_tokens_are_the_photos_own_pixels() {
    let scratch = Scratch::new();
    let output = scratch.out("o.png");
    let report = Edit::new(output.clone()).quick().with("--hold 0.5").report();
    let held = report["tokens_held"].as_f64().unwrap();
    let (photo, image) = (read(&root().join(CAT)).0, read(&output).0);
    let kept = equal(&photo, &image, 0..451);
    // A pixel on the border of two cells belongs to one of them: shares of area, not of cells.
    assert!((kept - held).abs() < 0.05, "{held} of the tokens held, {kept} of the pixels kept");
    assert!((0.1..1.0).contains(&held), "{held}: nothing to compare");
}

#[test]
fn black_mask_area_keeps_the_photos_pixels() {
    let scratch = Scratch::new();
    let photo = read(&root().join(CAT)).0;
    // Any size with the photo's aspect ratio works.
    for ((width, height), options) in [
        ((451, 300), ""),
        ((902, 600), "--parity"),
        ((226, 150), "--hold 0.1"),
        ((451, 300), "--guidance 1"),
    ] {
        let half = png(width, height, |x| if x < width / 2 { 0 } else { 255 });
        let mask = scratch.write("mask.png", half);
        let output = scratch.out("o.png");
        let edit = Edit::new(output.clone()).quick().with(options).with_path("--mask", &mask);
        let columns = edit.report()["grid"]["width"].as_u64().unwrap() as u32;
        // The column of tokens on the mask's border is ambiguous.
        let cell = 451u32.div_ceil(columns);
        let image = read(&output).0;
        assert_eq!(equal(&photo, &image, 0..225 - cell), 1.0, "{options:?}");
        let changed = 1.0 - equal(&photo, &image, 225 + cell..451);
        assert!(changed > 0.1, "{options:?}: only {changed} of the white half changed");
    }
}

#[test]
fn resize_mask_edits_around_the_mask_at_the_photos_resolution() {
    let scratch = Scratch::new();
    let white = |x: u32| if (300..310).contains(&x) { 255 } else { 0 };
    let mask = scratch.write("mask.png", png(451, 300, white));
    let output = scratch.out("o.png");
    let around = "--steps 1 --size 480 --resize mask";
    let edit = Edit::new(output.clone()).with(around).with_path("--mask", &mask);
    let report = edit.report();
    // The mask is as high as the photo: a part of all rows, no wider than the model's image.
    assert_eq!(report["plan"]["area"]["size"]["height"], json!(300));
    let photo = read(&root().join(CAT)).0;
    assert_eq!(equal(&photo, &read(&output).0, 0..290), 1.0);

    let narrow = "--steps 1 --size 64 --resize mask";
    let square = |x: u32| if (300..310).contains(&x) { 255 } else { 0 };
    let mask = GrayImage::from_fn(451, 300, |x, y| Luma([square(x).min(square(y + 200))]));
    let path = scratch.out("square.png");
    mask.save(&path).unwrap();
    let report = Edit::new(output.clone()).with(narrow).with_path("--mask", &path).report();
    let (area, model) = (&report["plan"]["area"], &report["plan"]["model"]);
    assert_eq!(&area["size"], model, "not resized");
    let image = read(&output).0;
    let inside = |x: u32, y: u32| {
        let range = |start: &str, length: &str| {
            let start = area[start].as_u64().unwrap() as u32;
            start..start + area["size"][length].as_u64().unwrap() as u32
        };
        range("left", "width").contains(&x) && range("top", "height").contains(&y)
    };
    assert!(inside(305, 105));
    let outside = photo.enumerate_pixels().filter(|&(x, y, _)| !inside(x, y));
    assert!(outside.clone().count() > 0);
    assert!(outside.clone().all(|(x, y, pixel)| pixel == image.get_pixel(x, y)));

    Edit::new(scratch.out("none.png"))
        .with(narrow)
        .run()
        .refused("no mask", &["resize mask", "no mask"]);
}

#[test]
fn the_report_names_the_tiles() {
    let scratch = Scratch::new();
    for (options, tile) in
        [("", json!(null)), ("--tile 16", json!(16)), ("--tile off", json!(null))]
    {
        let report = Edit::new(scratch.out("o.png")).quick().with(options).report();
        assert_eq!(report["tile"], tile, "{options:?}");
    }
}

#[cfg(unix)]
#[test]
fn output_has_the_umasks_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new();
    Edit::new(scratch.out("o.png")).quick().report();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let usual = mode(scratch.write("usual", ""));
    for name in ["o.png", "o.json"] {
        assert_eq!(mode(scratch.out(name)), usual, "{name}");
    }
}
