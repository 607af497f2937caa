//! `editmgt-lab precision`.

use serde_json::Value;

use crate::program::{CAT, GOLDEN_MODEL, lab};

const SMALL: [&str; 7] = ["precision", "--model", GOLDEN_MODEL, "--steps", "2", "--size", "64"];

#[test]
fn reports_half_precision_errors() {
    let edits = ["-i", "make the cat black", "-i", "make the cat white", "--seed", "3", CAT];
    let args = || SMALL.into_iter().chain(edits);
    let json = lab(args().chain(["--json"])).done();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["model"].as_str().map(str::len), Some(64), "{json:#}");
    let dtypes = json["dtypes"].as_array().unwrap();
    let names: Vec<_> = dtypes.iter().map(|half| half["dtype"].as_str().unwrap()).collect();
    assert_eq!(names, ["f16", "bf16", "f32", "f32", "f32"]);
    let bits: Vec<_> = dtypes.iter().map(|dtype| dtype["quantize"].as_u64()).collect();
    assert_eq!(bits, [None, None, None, Some(8), Some(4)]);
    let compute: Vec<_> = dtypes.iter().map(|dtype| dtype["compute"].as_str()).collect();
    assert_eq!(compute, [None, None, Some("int8"), None, None]);
    let errors = ["text", "transformer"]
        .map(|stage| dtypes.iter().map(move |half| half[stage]["relative_rms"].as_f64().unwrap()));
    for mut error in errors {
        let (f16, bf16) = (error.next().unwrap(), error.next().unwrap());
        assert!(0.0 < f16 && f16 < bf16 && bf16 < 0.1, "{json:#}");
    }
    for half in dtypes {
        let edits = half["edits"].as_array().unwrap();
        let seeds: Vec<_> = edits.iter().map(|edit| edit["seed"].as_u64().unwrap()).collect();
        assert_eq!(seeds, [3, 4]);
        for edit in edits {
            let (tokens, differ) = (&edit["tokens"], &edit["tokens_differ"]);
            assert!(tokens.as_u64() > Some(0) && differ.as_u64() <= tokens.as_u64(), "{edit:#}");
        }
    }

    let table = lab(args()).done();
    for row in ["beside f32", "text features", "logits", "attention", "codec", "edit 2: make the"] {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row}: {table}");
    }
}

#[cfg(feature = "embedded")]
#[test]
fn the_small_model_is_measured_when_none_is_named() {
    let table = lab(["precision", "--steps", "1"]).done();
    let edits = table.lines().filter(|line| line.starts_with("edit ")).count();
    assert_eq!(edits, 5, "{table}");
}

#[test]
fn rejects_invalid_loads() {
    let args = |more: [&'static str; 2]| ["precision", "-m", GOLDEN_MODEL].into_iter().chain(more);
    for (more, named) in [
        (["--device", "gpu"], ["\"gpu\"", "flex"]),
        (["--steps", "0"], ["steps", "1"]),
        (["-i", ""], ["instruction", "got"]),
        (["--size", "20000"], ["size", "20000"]),
    ] {
        lab(args(more)).refused(more[0], &named);
    }
}
