//! The record of an edit in a PNG, and repeating the edit from it.

use serde_json::{Value, json};

use crate::images::png;
use crate::program::{CAT, Edit, INSTRUCTION, Scratch, editmgt};

/// An edit with the options recorded in a PNG.
fn like(scratch: &Scratch, name: &str, png: &str, options: &str) -> Vec<String> {
    let path = |name: &str| scratch.out(name).to_str().unwrap().to_owned();
    let (from, to) = (path(png), path(name));
    let args = ["edit", CAT, "--like", &from, "-o", &to, "--model", crate::program::GOLDEN_MODEL];
    args.into_iter().chain(options.split_whitespace()).chain(["-q"]).map(str::to_owned).collect()
}

#[test]
fn an_edit_is_repeated_from_its_png() {
    let scratch = Scratch::new();
    let options = "--hold 0.5 --keyword cat --seed 9 --variation 2 --feather 3 --resize pad \
                   --composite held --blend linear --strength 1.5 --map-filter gaussian";
    Edit::new(scratch.out("a.png")).quick().with(options).run().done();
    let shown = editmgt(["show".into(), scratch.out("a.png")]).done();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for (pointer, expected) in [
        ("/version", json!(env!("CARGO_PKG_VERSION"))),
        ("/request/instruction", json!(INSTRUCTION)),
        ("/request/seed", json!(9)),
        ("/request/resize", json!("pad")),
        ("/settings/keyword", json!({"phrases": ["cat"]})),
        ("/settings/map_filter", json!("gaussian")),
        ("/settings/guidance_scale", json!(6.0)),
    ] {
        assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(shown["model"].as_str().map(str::len), Some(64));

    let bytes = |name: &str| std::fs::read(scratch.out(name)).unwrap();
    editmgt(like(&scratch, "b.png", "a.png", "--no-record")).done();
    assert!(!bytes("b.png").windows(4).any(|part| part == b"iTXt"), "no record was wanted");
    Edit::new(scratch.out("c.png")).quick().with(options).with("--no-record").run().done();
    assert!(bytes("b.png") == bytes("c.png"), "the same edit");

    // Explicit options override the recorded ones.
    editmgt(like(&scratch, "d.png", "a.png", "--seed 1 --hold off --composite all --strict"))
        .done();
    let shown = editmgt(["show".into(), scratch.out("d.png")]).done();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for (pointer, expected) in [
        ("/settings/seed", json!(1)),
        ("/settings/hold", json!("off")),
        ("/settings/composite", json!("all")),
        ("/settings/variation", json!(2)),
        ("/settings/map_filter", json!("gaussian")),
        ("/settings/reference_strength", json!(1.5)),
    ] {
        assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer}");
    }
    let mut other = Edit::new(scratch.out("e.png")).with_path("--like", &scratch.out("a.png"));
    other.instruction = "make the dog black".into();
    other.run().refused("another instruction", &["\"cat\"", "make the dog black"]);
}

#[test]
fn files_without_a_record_say_so() {
    let scratch = Scratch::new();
    let plain = scratch.write("plain.png", png(16, 16, |_| 7));
    let text = scratch.write("text.png", "hello");
    for (file, named) in [
        (plain, vec!["plain.png", "does not say how it was edited", "editmgt"]),
        (text, vec!["text.png", "expected a PNG"]),
        (CAT.into(), vec![CAT, "expected a PNG"]),
        (scratch.path("nowhere.png"), vec!["can't read", "nowhere.png"]),
    ] {
        editmgt(["show".into(), file.clone()]).refused("show", &named);
        Edit::new(scratch.out("o.png")).with_path("--like", &file).run().refused("like", &named);
    }
    scratch.assert_nothing_written("record");
}

/// Changes that other programs make to the text when they save the PNG.
#[test]
fn a_record_with_a_byte_order_mark_or_other_types_is_read_or_names_the_key() {
    let scratch = Scratch::new();
    let out = scratch.out("o.png");
    Edit::new(out.clone()).quick().run().done();
    let (info, pixels) = {
        let decoder =
            png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&out).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (reader.info().clone(), pixels)
    };
    let text = info.utf8_text.iter().find(|text| text.keyword == "editmgt").unwrap();
    let plain = text.get_text().unwrap();
    let file = |text: &str| {
        let path = scratch.path("other.png");
        let file = std::fs::File::create(&path).unwrap();
        let mut encoder = png::Encoder::new(file, info.width, info.height);
        encoder.set_color(info.color_type);
        encoder.set_depth(info.bit_depth);
        encoder.add_itxt_chunk("editmgt".to_owned(), text.to_owned()).unwrap();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        path
    };
    assert!(plain.contains(r#""steps":2,"#), "{plain}");
    let expected = editmgt(["show".as_ref(), file(&plain).as_os_str()]).done();
    for text in [
        format!("\u{feff}{plain}\r\n"),
        plain.replace(r#""steps":2,"#, r#""steps":2.0,"#),
        plain.replace(r#""request":{"#, r#""request":{"hold_margin":null,"#),
    ] {
        assert_eq!(editmgt(["show".as_ref(), file(&text).as_os_str()]).done(), expected, "{text}");
    }
    for (value, named) in [("2.5", "steps"), ("\"2\"", "steps"), ("[2]", "steps")] {
        let path = file(&plain.replace(r#""steps":2,"#, &format!(r#""steps":{value},"#)));
        editmgt(["show".as_ref(), path.as_os_str()]).refused(value, &[named, "other.png"]);
    }
}
