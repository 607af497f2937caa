//! Progress, interruption, and variations of one seed.

use std::process::Stdio;

use crate::images::read;
use crate::program::{CAT, Edit, GOLDEN_MODEL, INSTRUCTION, Ran, Scratch, command, root};

#[test]
fn variations_equal_single_edits() {
    let scratch = Scratch::new();
    let edit = |name: &str| Edit::new(scratch.out(name)).quick().with("--seed 3");
    let report = scratch.out("o.json");
    let several = edit("o.png").with("--variation 4 --variations 3").with_path("--report", &report);
    let printed = several.run().done();
    assert_eq!(printed.lines().count(), 3, "{printed}");
    let mut pictures = Vec::new();
    for i in 4..7 {
        let bytes = std::fs::read(scratch.out(&format!("o-{i}.png"))).unwrap();
        let alone = edit("alone.png").with(&format!("--variation {i}")).bytes();
        assert!(bytes == alone, "variation {i}");
        assert!(!pictures.contains(&bytes), "variation {i} is like another");
        pictures.push(bytes);
        let report = std::fs::read(scratch.out(&format!("o-{i}.json"))).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["settings"]["variation"], i);
        let stages = report["seconds"].as_array().unwrap().len();
        assert_eq!(stages, if i == 4 { 4 } else { 2 }, "the photo and the words are read once");
    }
    assert!(!scratch.out("o.png").exists());
}

#[test]
fn previews_are_written_when_asked_for() {
    let scratch = Scratch::new();
    let folder = scratch.path("previews");
    std::fs::create_dir(&folder).unwrap();
    let names = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let edit = |options| {
        let edit = Edit::new(scratch.out("o.png")).with("--steps 5 --size 48").with(options);
        edit.with_path("--preview", &folder)
    };
    edit("--preview-every 2").run().done();
    assert_eq!(names(), ["step-0002.png", "step-0004.png", "step-0005.png"]);
    let size = read(&folder.join("step-0002.png")).0.dimensions();
    // As many pixels as a square of 48, with the photo's aspect ratio: the model's size.
    assert_eq!(size, (60, 40));

    edit("--preview-every 9 --preview-shrink 2").run().done();
    // 15x10 tokens become 7x5.
    assert_eq!(read(&folder.join("step-0005.png")).0.dimensions(), (28, 20));

    edit("--preview-every 9 --variations 2").run().done();
    assert_eq!(names()[..2], ["0-step-0005.png", "1-step-0005.png"]);
    let missing = scratch.path("nowhere");
    Edit::new(scratch.out("p.png"))
        .with_path("--preview", &missing)
        .run()
        .refused("preview", &["nowhere", "previews does not exist"]);
    assert!(!scratch.out("p.png").exists());
}

/// The program's messages, without the `--quiet` of the other tests.
fn loud(scratch: &Scratch, options: &str) -> std::process::Command {
    let mut command = command();
    command.args(["edit", CAT, INSTRUCTION, "--model", GOLDEN_MODEL, "--output"]);
    command.arg(scratch.out("o.png")).args(options.split_whitespace());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn without_a_terminal_there_are_plain_lines() {
    let scratch = Scratch::new();
    let output = loud(&scratch, "--steps 20 --size 32 --guidance 1").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    let before = ["loading model", "encoding text", "encoding photo", "editing", "step 2 of 20"];
    assert_eq!(lines[..5], before, "{stderr}");
    assert_eq!(lines[lines.len() - 2..], ["step 20 of 20", "decoding"], "{stderr}");
    assert_eq!(lines.len(), 4 + 10 + 1, "{stderr}");
    let quiet = loud(&scratch, "--steps 1 --size 32 --quiet").output().unwrap();
    assert!(quiet.stderr.is_empty() && !quiet.stdout.is_empty(), "{quiet:?}");
}

#[test]
fn animation_gives_a_note() {
    let scratch = Scratch::new();
    let report = scratch.out("o.json");
    let mut command = command();
    command.arg("edit").arg(root().join("editmgt/testdata/animation.gif"));
    command.args([INSTRUCTION, "--model", GOLDEN_MODEL, "--quiet", "--steps", "1", "--size", "32"]);
    command.arg("--report").arg(&report).arg("--output").arg(scratch.out("o.png"));
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let note = "animation.gif is an animation: only its first frame is edited\n";
    assert!(stderr.starts_with("note: ") && stderr.ends_with(note), "{stderr}");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["animation"], true);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_within_a_step_and_leaves_no_file() {
    use std::io::{BufRead, BufReader, Read};

    let scratch = Scratch::new();
    // More steps than any machine does before the signal arrives.
    let mut child = loud(&scratch, "--steps 4096 --size 32").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("editing") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let status = child.wait().unwrap().code();
    let last = rest.lines().last().unwrap_or_default().to_owned();
    let ran = Ran { program: "editmgt", status, stdout: String::new(), stderr: rest };
    assert_eq!(ran.status, Some(130), "{ran:?}");
    assert!(last.starts_with("editmgt: stopped by the caller after "), "{last}");
    assert!(last.ends_with(" of 4096 steps"), "{last}");
    scratch.assert_nothing_written("ctrl-c");
}

/// A step over 65,025 tokens takes minutes, unless it is interrupted.
#[cfg(unix)]
#[test]
fn ctrl_c_in_a_long_step_is_answered_and_a_second_one_ends_it() {
    use std::io::{BufRead, BufReader};
    use std::time::Duration;

    let scratch = Scratch::new();
    let photo = scratch.write("photo.png", crate::images::png(1020, 1020, |x| x as u8));
    let mut command = command();
    command.arg("edit").arg(photo).args([INSTRUCTION, "--model", GOLDEN_MODEL, "--output"]);
    command.arg(scratch.out("o.png")).args(["--resize", "native", "--tile", "16"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    let pid = child.id().to_string();
    for expected in ["editing", "editmgt: stopping after this step; Ctrl-C again ends it now"] {
        while !said.last().is_some_and(|line: &String| line.starts_with(expected)) {
            said.push(lines.next().unwrap_or_else(|| panic!("no {expected:?} after {said:?}")));
        }
        // Between the line and the step's start the first signal would end the edit.
        std::thread::sleep(Duration::from_secs(2));
        let sent = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    scratch.assert_nothing_written("ctrl-c");
}
