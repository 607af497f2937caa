//! Outputs that are inputs, or other outputs.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;

use editmgt_store::{FileRoles, StoreError};

#[test]
fn output_is_identified_by_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("photo"), "").unwrap();
    fs::hard_link(at("photo"), at("hard")).unwrap();
    symlink("photo", at("soft")).unwrap();
    symlink("soft", at("softer")).unwrap();
    symlink(dir.path(), at("sub/up")).unwrap();
    for name in ["photo", "./photo", "sub/../photo", "hard", "soft", "softer", "sub/up/photo"] {
        let mut roles = FileRoles::default();
        roles.input_with_hint("photo", at("soft"), "result", "use --in-place");
        for (output, has_hint) in [("report", false), ("result", true)] {
            let error = roles.output(output, at(name)).unwrap_err();
            assert!(matches!(error, StoreError::OverInput { .. }), "{name}");
            let text = error.to_string();
            assert!(text.contains("photo"), "{text}");
            assert_eq!(text.ends_with("or use --in-place"), has_hint, "{text}");
        }
    }
    symlink("new", at("dangling")).unwrap();
    for name in ["new", "./new", "sub/../new", "sub/up/new", "dangling"] {
        let mut roles = FileRoles::default();
        roles.input("photo", at("photo"));
        roles.output("result", at("new")).unwrap();
        let error = roles.output("map", at(name)).unwrap_err();
        assert!(matches!(error, StoreError::SameOutput { .. }), "{name}: {error}");
    }
    let mut roles = FileRoles::default();
    roles.input("photo", at("photo"));
    roles.output("result", at("new")).unwrap();
    roles.output("report", at("sub/new")).unwrap();
    // Names that differ by case are two files where the file system says so.
    let other = roles.output("map", at("NEW"));
    fs::write(at("case"), "").unwrap();
    assert_eq!(other.is_err(), at("CASE").exists());
    roles.output("other", "/dev/null").unwrap();
    roles.output("another", "/dev/null").unwrap();
}

#[test]
fn files_of_an_input_folder_are_inputs_also_behind_links() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("model/part")).unwrap();
    fs::write(at("blob"), "").unwrap();
    symlink("../../blob", at("model/part/weights")).unwrap();
    symlink("..", at("model/part/round")).unwrap();
    let mut roles = FileRoles::default();
    roles.input_tree("model", at("model"));
    for name in ["blob", "model/part/weights"] {
        assert!(roles.output("report", at(name)).is_err(), "{name}");
    }
    roles.output("report", at("model/new")).unwrap();
}

#[test]
fn files_that_a_folder_gets_are_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("previews")).unwrap();
    fs::write(at("photo"), "").unwrap();
    let step = |name: &str| name.starts_with("step-");
    let mut roles = FileRoles::default();
    roles.input("photo", at("photo"));
    roles.output("result", at("previews/result")).unwrap();
    roles.clone().outputs_in("preview", at("previews"), step).unwrap();
    symlink("../photo", at("previews/step-2")).unwrap();
    let error = roles.clone().outputs_in("preview", at("previews"), step).unwrap_err();
    assert!(matches!(error, StoreError::OverInput { .. }), "{error}");
    roles.output("report", at("previews/step-9")).unwrap();
    let error = roles.outputs_in("preview", at("previews/."), step).unwrap_err();
    assert!(matches!(error, StoreError::SameOutput { .. }), "{error}");
}

#[test]
fn files_of_an_output_folder_are_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("run/part")).unwrap();
    fs::write(at("photo"), "").unwrap();
    let declared = || {
        let mut roles = FileRoles::default();
        roles.input("photo", at("photo"));
        roles.output_tree("run's files", at("run"))
    };
    declared().unwrap();
    fs::write(at("run/part/other"), "").unwrap();
    declared().unwrap();
    fs::hard_link(at("photo"), at("run/part/hard")).unwrap();
    let error = declared().unwrap_err().to_string();
    assert!(error.contains("this is the photo") && error.contains("run/part/hard"), "{error}");
    fs::remove_file(at("run/part/hard")).unwrap();
    symlink("../photo", at("run/soft")).unwrap();
    assert!(declared().is_err());
    FileRoles::default().output_tree("nothing", at("nowhere")).unwrap();
}
