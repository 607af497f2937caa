//! `editmgt-lab eval pairs`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_eval::PairsSuite;
use editmgt_store::FileRoles;
use editmgt_train::data::{ColumnNames, Layout, MaskReading, PairFormat, PairPhotos};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::encoders::EncoderArgs;
use super::{EditorArgs, SuiteArgs};
use crate::Outcome;

#[derive(Args)]
pub(super) struct PairsArgs {
    /// A folder with a sub-folder per column, a JSON Lines file, or parquet files (in a build with
    /// the feature `parquet`)
    data: PathBuf,
    #[command(flatten)]
    editor: EditorArgs,
    /// Layout of the columns: plain, magic_brush, emu_edit or crisp_edit
    #[arg(long, default_value = "plain")]
    layout: String,
    /// Column names that replace those of the layout: before, after, instruction, mask, category,
    /// caption_before, caption_after, as NAME=COLUMN; an empty COLUMN removes an optional one
    #[arg(long, value_name = "NAME=COLUMN")]
    column: Vec<String>,
    /// Meaning of a mask: auto, white or transparent
    #[arg(long, default_value = "auto")]
    mask: String,
    /// Number of rows, from the first
    #[arg(long)]
    n: Option<u64>,
    #[command(flatten)]
    encoders: EncoderArgs,
    #[command(flatten)]
    run: SuiteArgs,
}

pub(super) fn run(args: &PairsArgs) -> Outcome {
    if args.n == Some(0) {
        return Err("--n: expected at least 1, got 0".into());
    }
    let layout: Layout = named("--layout", &args.layout)?;
    let columns = column_names(&args.column)?.over(layout)?;
    let mask: MaskReading = named("--mask", &args.mask)?;
    let request = args.editor.request()?;
    let mut inputs = FileRoles::default();
    args.editor.declare(&mut inputs);
    args.encoders.declare(&mut inputs);
    let format = PairFormat::of(&args.data);
    format.declare_inputs(&args.data, &columns, &mut inputs);
    args.run.check(inputs)?;
    let pairs = PairPhotos::open(format, &args.data, &columns, mask)?;
    if pairs.skips().total() > 0 {
        eprintln!("rows skipped: {}", pairs.skips());
    }
    let editor = args.editor.editor()?;
    let encoders = args.encoders.open(&editor, args.editor.model.unknown_keys())?;
    args.run.run(&PairsSuite { editor: &editor, request, pairs: &pairs, n: args.n }, &encoders)?;
    Ok(ExitCode::SUCCESS)
}

/// A value by its name in configs; the message lists the names.
fn named<T: DeserializeOwned>(option: &str, name: &str) -> Result<T, Box<dyn Error>> {
    let value = serde_json::from_value(Value::String(name.to_owned()));
    value.map_err(|e| format!("{option}: {e}").into())
}

fn column_names(arguments: &[String]) -> Result<ColumnNames, Box<dyn Error>> {
    let mut names = serde_json::Map::new();
    for argument in arguments {
        let (name, column) = argument
            .split_once('=')
            .ok_or_else(|| format!("--column: expected NAME=COLUMN, got {argument:?}"))?;
        names.insert(name.to_owned(), column.into());
    }
    serde_json::from_value(names.into()).map_err(|e| format!("--column: {e}").into())
}
