//! Disks and folders that fail during an edit, and concurrent edits with one output.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::program::{CAT, Edit, GOLDEN_MODEL, INSTRUCTION, Ran, Scratch, command};

fn edit(scratch: &Scratch, options: &str) -> Command {
    let mut command = command();
    command.args(["edit", CAT, INSTRUCTION, "--model", GOLDEN_MODEL, "--output"]);
    command.arg(scratch.out("o.png")).args(options.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A limit of a few kilobytes per file simulates a full disk.
#[test]
fn a_full_disk_leaves_no_file() {
    let scratch = Scratch::new();
    let quick = edit(&scratch, "--steps 1 --size 32 --quiet");
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    limited.arg(quick.get_program()).args(quick.get_args());
    limited.current_dir(crate::program::root()).env_remove("RUST_BACKTRACE");
    let output = limited.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let ran =
        Ran { program: "editmgt", status: output.status.code(), stdout: String::new(), stderr };
    ran.refused("a full disk", &["can't write", "o.png"]);
    scratch.assert_nothing_written("a full disk");
}

#[test]
fn an_output_folder_that_vanishes_is_an_error() {
    let scratch = Scratch::new();
    // Enough steps that the folder is gone before the last.
    let mut child = edit(&scratch, "--steps 300 --size 32").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("editing") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    fs::remove_dir_all(scratch.path("out")).unwrap();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let stderr = rest.lines().last().unwrap_or_default().to_owned();
    let ran = Ran {
        program: "editmgt",
        status: child.wait().unwrap().code(),
        stdout: String::new(),
        stderr,
    };
    ran.refused("vanished", &["o.png", "out does not exist"]);
    assert!(!scratch.path("out").exists());
}

#[test]
fn concurrent_edits_leave_one_complete_output() {
    let scratch = Scratch::new();
    let quick = |seed: u32| format!("--steps 2 --size 48 --quiet --seed {seed}");
    let both: Vec<_> = (0..2).map(|seed| edit(&scratch, &quick(seed)).spawn().unwrap()).collect();
    for child in both {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let there = fs::read(scratch.out("o.png")).unwrap();
    let alone = |seed: u32| {
        Edit::new(scratch.out("alone.png")).quick().with(&format!("--seed {seed}")).bytes()
    };
    assert!(there == alone(0) || there == alone(1));
    assert_eq!(fs::read_dir(scratch.path("out")).unwrap().count(), 2, "no temporary file is left");
}
