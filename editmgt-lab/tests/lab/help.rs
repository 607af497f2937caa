//! The help text.

use crate::program::lab;

#[test]
fn every_command_explains_itself() {
    for (args, named) in [
        (
            vec!["--help"],
            vec![
                "bench",
                "conformance",
                "precision",
                "init",
                #[cfg(feature = "train")]
                "train",
                #[cfg(feature = "train")]
                "eval",
                #[cfg(feature = "train")]
                "world",
                #[cfg(feature = "train")]
                "cost",
                #[cfg(feature = "train")]
                "plans",
                "To edit: editmgt",
                "Exit status",
            ],
        ),
        (vec!["conformance", "--help"], vec!["--strict", "--json", "[default: cpu]"]),
        (vec!["precision", "--help"], vec!["--instruction", "--json", "[default: cpu]"]),
        (vec!["bench", "--help"], vec!["vq-encode", "all but load", "--threads"]),
        (vec!["init", "--help"], vec!["[default: full]", "[default: bf16]", "tiny"]),
        (vec!["--version"], vec!["editmgt-lab", env!("CARGO_PKG_VERSION")]),
    ] {
        let text = lab(&args).done();
        for part in named {
            assert!(text.contains(part), "{args:?}: expected {part:?} in {text}");
        }
    }
    // Without a command the help is printed, and the status is 2.
    let bare = lab([""; 0]);
    assert_eq!(bare.status, Some(2), "{bare:?}");
    assert!(bare.stderr.contains("Usage: editmgt-lab <COMMAND>"), "{bare:?}");
    lab(["edit"]).misused("a command of the other program", &["edit"]);
}
