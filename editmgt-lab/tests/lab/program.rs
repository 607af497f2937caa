//! Runs `editmgt-lab`.

use std::ffi::OsStr;

use editmgt_tests::program::Program;
pub(crate) use editmgt_tests::program::{CAT, GOLDEN_MODEL, Ran, Scratch, root};

const LAB: Program = Program::new("editmgt-lab", env!("CARGO_BIN_EXE_editmgt-lab"));

/// Runs the program.
pub(crate) fn lab<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    LAB.run(args)
}
