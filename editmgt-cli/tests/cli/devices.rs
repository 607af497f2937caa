//! `editmgt devices`.

use serde_json::Value;

use crate::program::{command, editmgt};

#[test]
fn devices_are_listed_with_what_they_can_do() {
    let json: Vec<Value> = serde_json::from_str(&editmgt(["devices", "--json"]).done()).unwrap();
    assert_eq!(json.iter().filter(|device| device["default"] == true).count(), 1, "{json:#?}");
    let flex = json.iter().find(|device| device["name"] == "flex").unwrap();
    let dtypes = flex["state"]["ready"]["dtypes"].as_array().unwrap();
    assert!(dtypes.iter().any(|dtype| dtype == "f32"), "{dtypes:?}");

    let own = editmgt(["devices", "--json", "--backend", "flex"]).done();
    let own: Vec<Value> = serde_json::from_str(&own).unwrap();
    assert_eq!(own.iter().collect::<Vec<_>>(), [flex]);
    editmgt(["devices", "--backend", "abacus"]).misused("abacus", &["no backend of this build"]);

    let table = editmgt(["devices"]).done();
    assert_eq!(table.lines().count(), json.len(), "{table}");
    for (line, device) in table.lines().zip(&json) {
        assert!(line.starts_with(device["name"].as_str().unwrap()), "{line}");
        let (marked, default) = (line.contains("(default)"), device["default"] == true);
        assert_eq!(marked, default, "{line}");
    }
}

#[test]
fn closed_pipe_is_not_an_error() {
    for args in [vec!["devices"], vec!["verify", "tests/golden/preproc"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command().args(&args).stdout(writer).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(!stderr.contains("internal error"), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}
