//! Runs `editmgt`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use editmgt_tests::program::Program;
pub(crate) use editmgt_tests::program::{CAT, GOLDEN_MODEL, INSTRUCTION, Ran, Scratch, root};
use serde_json::Value;

const EDITMGT: Program = Program::new("editmgt", env!("CARGO_BIN_EXE_editmgt"));

/// The program, to be run in the workspace's root.
pub(crate) fn command() -> Command {
    EDITMGT.command()
}

/// Runs the program.
pub(crate) fn editmgt<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    EDITMGT.run(args)
}

/// Runs [`command`] with what was added to it.
pub(crate) fn finish(command: Command) -> Ran {
    EDITMGT.finish(command)
}

/// An edit of [`CAT`] with [`GOLDEN_MODEL`] by default.
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

    /// Two steps on a small grid: the same code as a full edit, in a fraction of a second.
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
            // Standard output is tested elsewhere.
            "--quiet".as_ref(),
        ];
        args.extend(self.options.iter().map(OsStr::new));
        editmgt(args)
    }

    /// Runs it and reads its report, which is written beside the output.
    pub(crate) fn report(self) -> Value {
        let path = self.output.with_extension("json");
        self.with_path("--report", &path).run().done();
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Runs it and reads its output.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.run().done();
        std::fs::read(&self.output).unwrap()
    }
}
