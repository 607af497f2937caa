//! Runs the program and judges how it ended.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

/// A JPEG that lies on its side in the file (EXIF orientation 6) and is 451x300 upright.
pub(crate) const CAT: &str = "examples/photos/cat.jpg";
/// A model of miniature size with random weights.
pub(crate) const GOLDEN_MODEL: &str = "tests/golden/pipeline_edit_clip_nodown";
/// What every edit here asks for.
pub(crate) const INSTRUCTION: &str = "make the cat black";

/// The workspace's root, where paths such as [`CAT`] begin.
pub(crate) fn root() -> &'static Path {
    // Tests run in the folder of their package. Looked up when they do, since several checkouts may
    // share what was built.
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| std::fs::canonicalize("..").unwrap());
    &ROOT
}

/// The program, to be run in the workspace's root.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_editmgt"));
    // A panic must be told in one line without the help of this variable, and is with it.
    command.current_dir(root()).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

/// Runs the program.
pub(crate) fn editmgt<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    let output = command().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status, unless a signal ended it.
    pub(crate) status: Option<i32>,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

impl Ran {
    /// It did what it was asked to, and had nothing to complain about; what it printed.
    pub(crate) fn done(self) -> String {
        assert_eq!((self.status, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// It did what it was asked to, and noted `notes`, a line each; what it printed.
    pub(crate) fn done_with_notes(self, notes: &[&str]) -> String {
        let expected: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        assert_eq!((self.status, &*self.stderr), (Some(0), &*expected), "{}", self.stdout);
        self.stdout
    }

    /// It refused, in one line that has every part of `named`.
    pub(crate) fn refused(&self, what: &str, named: &[&str]) {
        assert_eq!(self.status, Some(2), "{what}: {self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        let [line] = lines[..] else { panic!("{what}: expected one line, got {lines:#?}") };
        assert!(line.starts_with("editmgt: "), "{what}: {line}");
        for bug in ["panicked", "internal error", "stack backtrace"] {
            assert!(!line.contains(bug), "{what}: {line}");
        }
        for part in named {
            assert!(line.contains(part), "{what}: expected {part:?} in: {line}");
        }
    }

    /// Its command line made no sense; the parser's message has every part of `named`.
    pub(crate) fn misused(&self, what: &str, named: &[&str]) {
        assert_eq!(self.status, Some(2), "{what}: {self:?}");
        assert!(self.stderr.starts_with("error: "), "{what}: {}", self.stderr);
        for part in named {
            assert!(self.stderr.contains(part), "{what}: expected {part:?} in: {}", self.stderr);
        }
    }
}

/// A place for the files of one test, with a folder `out` for what the program writes.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        Self(dir)
    }

    /// A path in the scratch folder itself.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path in the output folder.
    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.path("out").join(name)
    }

    /// Writes a file into the scratch folder.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The program left nothing in the output folder, not even a temporary file.
    pub(crate) fn assert_nothing_written(&self, what: &str) {
        let entries = std::fs::read_dir(self.path("out")).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.is_empty(), "{what}: left {names:?}");
    }
}

/// An edit of [`CAT`] with [`GOLDEN_MODEL`], unless told otherwise.
pub(crate) struct Edit {
    pub(crate) photo: PathBuf,
    pub(crate) instruction: String,
    pub(crate) output: PathBuf,
    pub(crate) model: PathBuf,
    pub(crate) options: Vec<String>,
}

impl Edit {
    pub(crate) fn new(output: PathBuf) -> Self {
        Self {
            photo: CAT.into(),
            instruction: INSTRUCTION.into(),
            output,
            model: GOLDEN_MODEL.into(),
            options: Vec::new(),
        }
    }

    /// Adds options, separated by spaces.
    pub(crate) fn with(mut self, options: &str) -> Self {
        self.options.extend(options.split_whitespace().map(str::to_owned));
        self
    }

    /// Adds an option whose value is a path.
    pub(crate) fn with_path(mut self, option: &str, path: &Path) -> Self {
        self.options.extend([option.to_owned(), path.to_str().unwrap().to_owned()]);
        self
    }

    /// Two steps on a small grid: the same code as an edit in earnest, in a fraction of a second.
    pub(crate) fn quick(self) -> Self {
        self.with("--steps 2 --size 48")
    }

    pub(crate) fn run(&self) -> Ran {
        let mut args: Vec<&OsStr> = vec![
            "edit".as_ref(),
            self.photo.as_ref(),
            self.instruction.as_ref(),
            "--output".as_ref(),
            self.output.as_ref(),
            "--model".as_ref(),
            self.model.as_ref(),
            // What is said along the way is tested where it is said.
            "--quiet".as_ref(),
        ];
        args.extend(self.options.iter().map(OsStr::new));
        editmgt(args)
    }

    /// Runs it and reads its report, which goes beside the output.
    pub(crate) fn report(self) -> Value {
        let path = self.output.with_extension("json");
        self.with_path("--report", &path).run().done();
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Runs it and reads the file that it wrote.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.run().done();
        std::fs::read(&self.output).unwrap()
    }
}
