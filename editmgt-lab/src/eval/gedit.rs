//! `editmgt-lab eval gedit`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_eval::{GeditData, GeditSuite};
use editmgt_store::FileRoles;

use super::encoders::EncoderArgs;
use super::{EditorArgs, SuiteArgs};
use crate::Outcome;

#[derive(Args)]
pub(super) struct GeditArgs {
    /// Folder with info.jsonl (key, task_type, instruction, instruction_language) and a
    /// KEY_SRCIMG.png per line
    data: PathBuf,
    #[command(flatten)]
    editor: EditorArgs,
    /// Only the instructions in this language: en or cn
    #[arg(long)]
    language: Option<String>,
    /// Number of instructions, from the first
    #[arg(long)]
    n: Option<u64>,
    #[command(flatten)]
    encoders: EncoderArgs,
    #[command(flatten)]
    run: SuiteArgs,
}

pub(super) fn run(args: &GeditArgs) -> Outcome {
    if args.n == Some(0) {
        return Err("--n: expected at least 1, got 0".into());
    }
    if args.run.out.is_none() {
        return Err("--out: expected a folder for the results, got none".into());
    }
    let request = args.editor.request()?;
    let mut inputs = FileRoles::default();
    args.editor.declare(&mut inputs);
    args.encoders.declare(&mut inputs);
    let data = GeditData::open(&args.data, args.language.as_deref())?;
    for file in data.files() {
        inputs.input("data", file);
    }
    args.run.check(inputs)?;
    let editor = args.editor.editor()?;
    let encoders = args.encoders.open(&editor, args.editor.model.unknown_keys())?;
    args.run.run(&GeditSuite { editor: &editor, request, data: &data, n: args.n }, &encoders)?;
    Ok(ExitCode::SUCCESS)
}
