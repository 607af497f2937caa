//! `editmgt quantize` and `--quantize`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::batch::{batch, cat, job};
use crate::models::init;
use crate::program::{CAT, Edit, GOLDEN_MODEL, Ran, Scratch, editmgt};
use crate::spoil::{change_json, weights};

fn quantize(model: &Path, out: &Path, options: &str) -> Ran {
    let mut args: Vec<OsString> = vec!["quantize".into(), model.into(), out.into()];
    args.extend(options.split_whitespace().map(Into::into));
    editmgt(args)
}

fn edit_of(model: &Path, output: &Path, options: &str) -> Edit {
    // The record would name the files.
    let mut edit = Edit::new(output.to_owned()).with("--steps 2 --size 128 --no-record");
    edit.model = model.to_owned();
    edit.with(options)
}

#[test]
fn a_quantised_folder_edits_as_the_original_quantised_at_load() {
    let scratch = Scratch::new();
    let original = scratch.path("original");
    init(&original, "bf16");
    fs::write(original.join("LICENSE"), "terms").unwrap();
    let output = scratch.out("o.png");
    let mut sizes = Vec::new();
    for bits in ["8", "4"] {
        let out = scratch.path(&format!("bits-{bits}"));
        let ran = quantize(&original, &out, &format!("--bits {bits} --json")).done();
        let report: Value = serde_json::from_str(&ran).unwrap();
        let named = |key: &str| {
            let parts = report["parts"].as_array().unwrap();
            parts.iter().map(|part| part[key].clone()).collect::<Vec<_>>()
        };
        let bits_of: u8 = bits.parse().unwrap();
        assert_eq!(named("name"), ["transformer", "vqvae", "text_encoder", "llm_encoder"]);
        assert_eq!(named("bits"), [json!(bits_of), Value::Null, json!(bits_of), json!(bits_of)]);
        let size = |dir: &Path| fs::metadata(weights(dir)).unwrap().len();
        for (part, index) in [("editmgt", 0), ("vqvae", 1), ("llm_encoder", 3)] {
            let part = out.join(part);
            assert_eq!(report["parts"][index]["bytes_after"], size(&part), "{}", part.display());
        }
        assert!(report["bytes_after"].as_u64() < report["bytes_before"].as_u64());
        sizes.push(report["bytes_after"].as_u64().unwrap());
        let text = fs::read_to_string(out.join("editmgt/config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "quant_method": "editmgt_blocks", "version": 1, "bits": bits_of, "block_size": 32,
        });
        assert_eq!(config["quantization_config"], expected);
        assert_eq!(fs::read_to_string(out.join("LICENSE")).unwrap(), "terms");

        let stored = edit_of(&out, &output, "").bytes();
        let at_load = format!("--quantize {bits}");
        for (model, options) in [
            (&original, at_load.as_str()),
            (&original, &format!("{at_load} --low-memory")),
            (&out, "--low-memory"),
            (&out, &at_load),
        ] {
            let bytes = edit_of(model, &output, options).bytes();
            assert!(bytes == stored, "{} {options}", model.display());
        }
        let inspected = editmgt(["inspect".into(), out.clone(), "--json".into()]).done();
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        let memory = |key: &str| inspected["total"][key].as_u64().unwrap();
        assert!(memory("memory_4_bits") < memory("memory_8_bits"));
        let dtype = if bits == "8" { "I8" } else { "U8" };
        assert!(inspected["total"]["dtypes"][dtype]["tensors"].as_u64().unwrap() > 50);
    }
    assert!(sizes[1] < sizes[0]);
}

#[test]
fn only_the_named_parts_are_quantised() {
    let scratch = Scratch::new();
    let original = scratch.path("original");
    init(&original, "f32");
    let out = scratch.path("quantised");
    let shown = quantize(&original, &out, "--bits 8 --parts llm_encoder,editmgt").done();
    for (part, weights) in [("transformer", "8 bits"), ("text_encoder", "copied")] {
        let line = shown.lines().find(|line| line.starts_with(part)).unwrap();
        assert!(line.contains(weights), "{shown}");
    }
    assert!(shown.lines().any(|line| line.starts_with("total")), "{shown}");
    let same = |part: &str| {
        let [a, b] = [&original, &out].map(|root| fs::read(weights(&root.join(part))).unwrap());
        a == b
    };
    assert_eq!(["editmgt", "text_encoder", "vqvae"].map(same), [false, true, true]);
    let report = |options: &str| {
        let mut edit = edit_of(&out, &scratch.out("o.png"), options);
        edit.options.retain(|option| option != "--no-record");
        edit.report()
    };
    let quantization = |report: &Value| report["model"]["quantization"].clone();
    assert_eq!(quantization(&report("")), json!({"transformer": 8, "llm_encoder": 8}));
    // The rest is quantised while it is read.
    let all = json!({"transformer": 8, "text_encoder": 8, "llm_encoder": 8});
    assert_eq!(quantization(&report("--quantize 8")), all);
    let shown = editmgt(["show".into(), scratch.out("o.png")]).done();
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["quantization"], all);
}

#[test]
fn a_record_names_quantised_weights() {
    let scratch = Scratch::new();
    let made = scratch.out("a.png");
    Edit::new(made.clone()).quick().with("--quantize 4").run().done();
    let shown: Value =
        serde_json::from_str(&editmgt(["show".into(), made.clone()]).done()).unwrap();
    assert_eq!(shown["quantization"], json!({"transformer": 4, "text_encoder": 4}));
    let like = |options: &str| {
        let output = scratch.out("b.png");
        let args = ["edit", CAT, "--model", GOLDEN_MODEL, "--no-record", "--like"];
        let mut args: Vec<OsString> = args.map(Into::into).into();
        args.extend([made.clone().into(), "-qo".into(), output.clone().into()]);
        args.extend(options.split_whitespace().map(Into::into));
        (editmgt(args), output)
    };
    let (ran, again) = like("--quantize 4");
    ran.done();
    let plain = Edit::new(scratch.out("c.png")).quick().with("--quantize 4 --no-record").bytes();
    assert!(fs::read(again).unwrap() == plain);
    let (ran, _) = like("");
    assert!(ran.stderr.contains("transformer in 4 bits"), "{ran:?}");
}

#[test]
fn batches_are_done_with_quantised_weights_and_not_continued_with_others() {
    let scratch = Scratch::new();
    let jobs = scratch.write("jobs.jsonl", job(&cat(), json!({"seed": 3})));
    let out = scratch.out("results");
    batch(&jobs, &out, "--quantize 8").done();
    let edit = Edit::new(scratch.out("o.png")).quick().with("--seed 3 --quantize 8");
    assert!(fs::read(out.join("000001-cat.png")).unwrap() == edit.bytes());
    let lines = [job(&cat(), json!({"seed": 3})), job(&cat(), json!({"seed": 4}))];
    let jobs = scratch.write("jobs.jsonl", lines.concat());
    batch(&jobs, &out, "--resume").refused("other weights", &["8 bits"]);
    batch(&jobs, &out, "--resume --quantize 8").done();
}

#[test]
fn bad_requests_write_nothing() {
    let scratch = Scratch::new();
    let original = scratch.path("original");
    init(&original, "f32");
    let eight = scratch.path("eight");
    quantize(&original, &eight, "--bits 8").done();
    let out = scratch.out("out");
    for (what, options, named) in [
        ("other bits", "--bits 5", &["8 or 4", "5"][..]),
        ("no bits", "", &["--bits"]),
        ("the codec", "--bits 8 --parts vqvae", &["text_encoder", "vqvae"]),
    ] {
        quantize(&original, &out, options).misused(what, named);
        scratch.assert_nothing_written(what);
    }
    for (what, model, out, options, named) in [
        ("twice", &eight, &out, "--bits 4", &["8 bits already"][..]),
        ("no model", &scratch.path("nowhere"), &out, "--bits 8", &["nowhere"]),
        ("a folder with files", &original, &eight, "--bits 8", &["eight"]),
        ("over itself", &original, &original, "--bits 8", &["original"]),
    ] {
        quantize(model, out, options).refused(what, named);
        scratch.assert_nothing_written(what);
    }
    let output = scratch.out("o.png");
    edit_of(&eight, &output, "--quantize 4").run().refused("other bits", &["8 bits", "4 bits"]);
    // A key that says something else than the files, and one that a newer program wrote.
    let config = eight.join("llm_encoder/config.json");
    let text = fs::read_to_string(&config).unwrap();
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &[&str]); 4] = [
        ("4 bits", |key| key["bits"] = json!(4), &["4 bits", "I8"]),
        ("version", |key| key["version"] = json!(2), &["version", "expected 1"]),
        ("method", |key| key["quant_method"] = json!("gptq"), &["quantization_config"]),
        ("no key", |key| *key = Value::Null, &["_scale"]),
    ];
    for (what, change, named) in cases {
        change_json(&config, |config| change(&mut config["quantization_config"]));
        edit_of(&eight, &output, "").run().refused(what, named);
        scratch.assert_nothing_written(what);
        fs::write(&config, &text).unwrap();
    }
    edit_of(&eight, &output, "").run().done();
}

#[cfg(feature = "embedded")]
#[test]
fn the_model_in_the_program_is_quantised() {
    let scratch = Scratch::new();
    let edit = |name: &str, options: &str| {
        let output = scratch.out(name);
        let args = ["edit", "examples/scenes/scene.png", "make the red car blue", "-q"];
        let mut args: Vec<OsString> = args.map(Into::into).into();
        args.extend(["--no-record".into(), "-o".into(), output.clone().into()]);
        args.extend(options.split_whitespace().map(Into::into));
        editmgt(args).done();
        image::open(output).unwrap().to_rgb8()
    };
    let exact = edit("exact.png", "");
    for bits in ["8", "4"] {
        let quantised = edit(&format!("{bits}.png"), &format!("--quantize {bits}"));
        assert_eq!(quantised.dimensions(), exact.dimensions());
        let pixels = exact.pixels().zip(quantised.pixels());
        let differ = pixels.filter(|(a, b)| a != b).count();
        let share = differ as f64 / exact.pixels().len() as f64;
        // The car is edited, and little else differs from the edit in f32.
        assert!(share < 0.1, "{share} in {bits} bits");
    }
    let stepwise = edit("cached.png", "--quantize 8 --steps-plan cached");
    assert_eq!(stepwise.dimensions(), exact.dimensions());
}
