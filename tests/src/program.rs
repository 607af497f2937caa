//! Runs a program of the workspace and judges how it ended.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

/// A JPEG that lies on its side in the file (EXIF orientation 6) and is 451x300 upright.
pub const CAT: &str = "examples/photos/cat.jpg";
/// A model of miniature size with random weights.
pub const GOLDEN_MODEL: &str = "tests/golden/pipeline_edit_clip_nodown";
/// What every edit here asks for.
pub const INSTRUCTION: &str = "make the cat black";

/// The workspace's root, where paths such as [`CAT`] begin.
pub fn root() -> &'static Path {
    // Tests run in the folder of their package. Looked up when they do, since several checkouts may
    // share what was built.
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| std::fs::canonicalize("..").unwrap());
    &ROOT
}

/// A program of the workspace.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What its messages begin with.
    name: &'static str,
    path: &'static str,
}

impl Program {
    /// The program of this name at this path, which cargo tells the tests of its package.
    pub const fn new(name: &'static str, path: &'static str) -> Self {
        Self { name, path }
    }

    /// The program, to be run in the workspace's root.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.path);
        // A panic must be told in one line without the help of this variable, and is with it.
        command.current_dir(root()).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs the program.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let output = self.command().args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran {
            program: self.name,
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// How the program ended.
#[derive(Debug)]
pub struct Ran {
    /// The program's name.
    pub program: &'static str,
    /// Its exit status, unless a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// It did what it was asked to, and had nothing to complain about; what it printed.
    pub fn done(self) -> String {
        assert_eq!((self.status, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// It did what it was asked to, and noted `notes`, a line each; what it printed.
    pub fn done_with_notes(self, notes: &[&str]) -> String {
        let expected: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        assert_eq!((self.status, &*self.stderr), (Some(0), &*expected), "{}", self.stdout);
        self.stdout
    }

    /// It refused, in one line that has every part of `named`.
    pub fn refused(&self, what: &str, named: &[&str]) {
        assert_eq!(self.status, Some(2), "{what}: {self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        let [line] = lines[..] else { panic!("{what}: expected one line, got {lines:#?}") };
        assert!(line.starts_with(&format!("{}: ", self.program)), "{what}: {line}");
        for bug in ["panicked", "internal error", "stack backtrace"] {
            assert!(!line.contains(bug), "{what}: {line}");
        }
        for part in named {
            assert!(line.contains(part), "{what}: expected {part:?} in: {line}");
        }
    }

    /// Its command line made no sense; the parser's message has every part of `named`.
    pub fn misused(&self, what: &str, named: &[&str]) {
        assert_eq!(self.status, Some(2), "{what}: {self:?}");
        assert!(self.stderr.starts_with("error: "), "{what}: {}", self.stderr);
        for part in named {
            assert!(self.stderr.contains(part), "{what}: expected {part:?} in: {}", self.stderr);
        }
    }
}

/// A place for the files of one test, with a folder `out` for what the program writes.
pub struct Scratch(TempDir);

impl Scratch {
    /// An empty one.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        Self(dir)
    }

    /// A path in the scratch folder itself.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path in the output folder.
    pub fn out(&self, name: &str) -> PathBuf {
        self.path("out").join(name)
    }

    /// Writes a file into the scratch folder.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The program left nothing in the output folder, not even a temporary file.
    pub fn assert_nothing_written(&self, what: &str) {
        let entries = std::fs::read_dir(self.path("out")).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.is_empty(), "{what}: left {names:?}");
    }
}
