//! `editmgt-lab eval ablate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_eval::{ABLATION_NAMES, AblateInput, ablate, ablations};
use editmgt_store::FileRoles;
use indicatif::ProgressBar;

use super::EditorArgs;
use super::world::SceneArgs;
use crate::Outcome;
use crate::lock::LockArgs;

#[derive(Args)]
pub(super) struct AblateArgs {
    #[command(flatten)]
    editor: EditorArgs,
    #[command(flatten)]
    scenes: SceneArgs,
    /// Output folder of tables, plots and runs; finished edits are not repeated
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    lock: LockArgs,
    /// Only these ablations: steps, hold, layers, filter, keyword, holding, composite, strength,
    /// guidance
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Option<Vec<String>>,
    /// Seed of the intervals and tests
    #[arg(long, default_value_t = 0)]
    interval_seed: u64,
}

pub(super) fn run(args: &AblateArgs) -> Outcome {
    let (world, split) = args.scenes.open()?;
    let request = args.editor.request()?;
    let mut roles = FileRoles::default();
    args.editor.declare(&mut roles);
    args.scenes.declare(&mut roles);
    roles.output_tree("runs", args.out.join("runs"))?;
    for name in ABLATION_NAMES {
        for suffix in [".md", ".svg", "-time.svg"] {
            roles.output("tables and plots", args.out.join(format!("{name}{suffix}")))?;
        }
    }
    let editor = args.editor.editor()?;
    let mut list = ablations(&editor, &request)?;
    if let Some(only) = &args.only {
        let names: Vec<&str> = list.iter().map(|ablation| ablation.name).collect();
        if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
            let names = names.join(", ");
            return Err(format!("--only: expected some of {names}, got {unknown}").into());
        }
        list.retain(|ablation| only.iter().any(|name| name == ablation.name));
    }
    let bar = ProgressBar::new(0);
    let mut progress = |name: &str, done, total| {
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(name.to_owned());
    };
    let input = AblateInput {
        editor: &editor,
        world: &world,
        split,
        n: args.scenes.n,
        ablations: &list,
        dir: &args.out,
        seed: args.interval_seed,
        locking: args.lock.locking(),
    };
    let made = ablate(&input, &mut progress)?;
    bar.finish_and_clear();
    let tables: Vec<String> = made.iter().map(|ablated| ablated.markdown()).collect();
    print!("{}", tables.join("\n"));
    Ok(ExitCode::SUCCESS)
}
