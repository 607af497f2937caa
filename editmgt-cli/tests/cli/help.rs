//! The help text.

use crate::program::{Edit, editmgt};

#[test]
fn every_command_explains_itself() {
    for (args, named) in [
        (
            vec!["--help"],
            vec![
                "edit",
                "generate",
                "image-to-image",
                "inpaint",
                "outpaint",
                "batch",
                "show",
                "verify",
                "devices",
                "inspect",
                "quantize",
                "pull",
                "models",
                "editmgt-lab",
                "Exit status",
            ],
        ),
        (
            vec!["edit", "--help"],
            vec![
                "officially 36]",
                "officially 6]",
                "officially 1.1]",
                "budget:SHARE",
                "[default: 50]",
                "[default: cpu]",
                "f32, f16 or bf16",
                "--low-memory",
                "--quantize",
            ],
        ),
        (
            vec!["generate", "--help"],
            vec![
                "--count <N>",
                "Image: ",
                "Sampling: ",
                "--negative-prompt",
                "[default: the model's]",
            ],
        ),
        (
            vec!["inpaint", "--help"],
            vec!["--mask <IMAGE>", "Where the photo may change: ", "--anyway"],
        ),
        (vec!["outpaint", "--help"], vec!["--left <PIXELS>", "--bottom <PIXELS>", "--feather"]),
        (vec!["batch", "--help"], vec!["--resume", "I/N", "manifest.jsonl", "[default: png]"]),
        (vec!["serve", "--help"], vec!["EDITMGT_TOKEN", "[default: 8420]", "[default: 127.0.0.1]"]),
        (vec!["show", "--help"], vec!["PNG"]),
        (vec!["verify", "--help"], vec!["golden.safetensors"]),
        (vec!["devices", "--help"], vec!["--json"]),
        (vec!["inspect", "--help"], vec!["--json", "--variant", "DIR|NAME"]),
        (
            vec!["pull", "--help"],
            vec!["--revision", "--variant", "--only", "--dry-run", "--refresh"],
        ),
        (vec!["models", "--help"], vec!["--json"]),
        (vec!["--version"], vec![env!("CARGO_PKG_VERSION")]),
    ] {
        let text = editmgt(&args).done();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in named {
            assert!(text.contains(part), "{args:?}: expected {part:?} in {text}");
        }
    }
    // Without a command the help is printed, and the status is 2.
    let bare = editmgt([""; 0]);
    assert_eq!(bare.status, Some(2), "{bare:?}");
    assert!(bare.stderr.contains("Usage: editmgt <COMMAND>"), "{bare:?}");
}

#[test]
fn parser_refuses_invalid_arguments() {
    let scratch = crate::program::Scratch::new();
    for (options, named) in [
        ("--steps many", vec!["--steps", "many"]),
        ("--steps -1", vec!["-1"]),
        ("--size 99999999999999999999", vec!["--size", "1 to 16384"]),
        ("--seed -1", vec!["-1"]),
        ("--hold maybe", vec!["--hold", "off, auto, mask, a number", "\"maybe\""]),
        ("--hold mask+mask+auto", vec!["--hold", "mask+POLICY"]),
        ("--guidance much", vec!["--guidance", "much"]),
        ("--keyword cat --auto-keyword", vec!["--keyword", "--auto-keyword"]),
        ("--keyword-maps max", vec!["--keyword"]),
        ("--keyword cat --keyword-maps sum", vec!["--keyword-maps", "sum"]),
        ("--preview-every 2", vec!["--preview <DIR>"]),
        ("--variations 0", vec!["--variations", "1..=9999"]),
        ("--temperature 2", vec!["--temperature", "2 values"]),
        ("--colour red", vec!["--colour"]),
        ("--resize shrink", vec!["--resize", "shrink", "native"]),
        ("--composite on", vec!["--composite", "visible"]),
        ("--blend on", vec!["--blend", "linear"]),
        ("--parity --strict", vec!["--parity", "--strict"]),
    ] {
        Edit::new(scratch.out("o.png")).with(options).run().misused(options, &named);
        scratch.assert_nothing_written(options);
    }
    editmgt(["edit", "cat.jpg"]).misused("edit", &["--output", "INSTRUCTION"]);
    editmgt(["repair"]).misused("command", &["repair"]);
    editmgt(["train"]).misused("a command of the other program", &["train"]);
}
