//! `editmgt-lab conformance`.

use serde_json::Value;

use crate::program::lab;

#[test]
fn the_cpu_conforms() {
    let json = lab(["conformance", "--device", "cpu", "--strict", "--json"]).done();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["device"], "cpu");
    let checks = json["operations"]["checks"].as_array().unwrap();
    for dtype in ["f32", "f16", "bf16"] {
        let of_type = checks.iter().filter(|check| check["dtype"] == dtype);
        assert!(of_type.count() > 10, "{dtype}: {json:#}");
    }
    let known = checks.iter().filter(|check| !check["known"].is_null()).count();
    for check in checks {
        let (error, tolerance) = (&check["max_error"], &check["tolerance"]);
        let within = error.as_f64().unwrap() <= tolerance.as_f64().unwrap();
        assert_eq!(within, check["verdict"]["verdict"] == "pass", "{check:#}");
        assert_eq!(within, check["known"].is_null(), "{check:#}");
    }

    let edits = json["edits"].as_array().unwrap();
    assert_eq!(edits.is_empty(), cfg!(not(feature = "embedded")));
    for edit in edits {
        let steps = edit["steps"].as_array().unwrap();
        assert!(steps.len() > 1 && edit["tokens"].as_u64() > Some(0), "{edit:#}");
        assert!(steps.iter().all(|step| step["differ"] == 0), "{edit:#}");
        assert_eq!((&edit["pass"], &edit["pixels_differ_by"]), (&true.into(), &0.into()));
    }

    let table = lab(["conformance"]).done();
    for check in checks {
        assert!(table.contains(check["name"].as_str().unwrap()), "{table}");
    }
    let (all, right) = (checks.len(), checks.len() - known);
    let summed_up = format!("{right} of {all} pass, 0 fail, {known} known to fail, 0 unsupported");
    assert!(table.lines().any(|line| line == summed_up), "{table}");
    for edit in edits {
        let row = table.lines().find(|line| line.starts_with(edit["name"].as_str().unwrap()));
        assert!(row.is_some_and(|row| !row.contains("FAIL")), "{table}");
    }
}

#[test]
fn rejects_missing_device() {
    lab(["conformance", "--device", "gpu"]).refused("gpu", &["\"gpu\"", "flex"]);
    lab(["conformance", "--device", "flex:7"]).refused("flex:7", &["not found"]);
}
