//! Runs a program of the workspace and checks its result.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

/// A JPEG that is stored on its side (EXIF orientation 6) and is 451x300 upright.
pub const CAT: &str = "examples/photos/cat.jpg";
/// A model of miniature size with random weights.
pub const GOLDEN_MODEL: &str = "tests/golden/pipeline_edit_clip_nodown";
/// The instruction of all edits here.
pub const INSTRUCTION: &str = "make the cat black";

/// The workspace's root, where paths such as [`CAT`] begin.
pub fn root() -> &'static Path {
    // Tests run in the folder of their package. Looked up at run time, since several checkouts may
    // share a target folder.
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| std::fs::canonicalize("..").unwrap());
    &ROOT
}

/// A program of the workspace.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Prefix of its messages.
    name: &'static str,
    path: &'static str,
}

impl Program {
    /// The program of this name at this path, which cargo provides to the tests of its package.
    pub const fn new(name: &'static str, path: &'static str) -> Self {
        Self { name, path }
    }

    /// The program, to be run in the workspace's root.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.path);
        // A panic must be reported in one line without this variable.
        command.current_dir(root()).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
        command
    }

    /// Runs the program.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command();
        command.args(args);
        self.finish(command)
    }

    /// Runs [`command`](Self::command) with what was added to it.
    pub fn finish(&self, mut command: Command) -> Ran {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran {
            program: self.name,
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Result of a program.
#[derive(Debug)]
pub struct Ran {
    /// The program's name.
    pub program: &'static str,
    /// Its exit status, unless it was ended by a signal.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ran {
    /// Asserts success without messages; returns its standard output.
    pub fn done(self) -> String {
        assert_eq!((self.status, &*self.stderr), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// Asserts success with the lines `notes` on standard error; returns its standard output.
    pub fn done_with_notes(self, notes: &[&str]) -> String {
        let expected: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        assert_eq!((self.status, &*self.stderr), (Some(0), &*expected), "{}", self.stdout);
        self.stdout
    }

    /// Asserts a refusal in one line that contains every part of `named`.
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

    /// Asserts invalid arguments; the parser's message contains every part of `named`.
    pub fn misused(&self, what: &str, named: &[&str]) {
        assert_eq!(self.status, Some(2), "{what}: {self:?}");
        assert!(self.stderr.starts_with("error: "), "{what}: {}", self.stderr);
        for part in named {
            assert!(self.stderr.contains(part), "{what}: expected {part:?} in: {}", self.stderr);
        }
    }
}

/// A temporary folder of one test, with a sub-folder `out` for outputs.
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

    /// Asserts that the output folder is empty, without temporary files.
    pub fn assert_nothing_written(&self, what: &str) {
        let entries = std::fs::read_dir(self.path("out")).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.is_empty(), "{what}: left {names:?}");
    }
}
