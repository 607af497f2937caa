//! `editmgt eval world`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt::EditRequest;
use editmgt_eval::WorldSuite;
use editmgt_train::world::{Split, World, WorldConfig};

use super::{RunArgs, read};
use crate::Outcome;
use crate::model::ModelArg;

#[derive(Args)]
pub(super) struct WorldEvalArgs {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    scenes: SceneArgs,
    /// Options of the edits, as in a report's `request`, JSON; what it leaves out keeps its default
    #[arg(long, value_name = "JSON")]
    request: Option<PathBuf>,
    /// Make no edits: judge the true pictures as the codec gives them back, which is the best that
    /// any edit can do
    #[arg(long, conflicts_with = "request")]
    codec_only: bool,
    #[command(flatten)]
    run: RunArgs,
    /// Where to compute: see `editmgt devices`
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Which scenes of which world.
#[derive(Args)]
pub(super) struct SceneArgs {
    /// How many scenes
    #[arg(long, default_value_t = 512)]
    pub(super) n: u64,
    /// train, validation or test
    #[arg(long, default_value = "test")]
    split: String,
    /// A world's config in JSON, where what it leaves out keeps its default; the embedded model's
    /// world if none is given
    #[arg(long)]
    world: Option<PathBuf>,
}

impl SceneArgs {
    pub(super) fn open(&self) -> Result<(World, Split), Box<dyn Error>> {
        if self.n == 0 {
            return Err("--n: expected at least 1, got 0".into());
        }
        let split: Split = self.split.parse().map_err(|e| format!("--split: {e}"))?;
        let config = match &self.world {
            Some(path) => read(path, |text| Ok(WorldConfig::from_json(text)?))?,
            None => WorldConfig::small(),
        };
        Ok((World::new(config)?, split))
    }
}

pub(super) fn run(args: &WorldEvalArgs) -> Outcome {
    let (world, split) = args.scenes.open()?;
    let request = match &args.request {
        Some(path) => read(path, |text| Ok(serde_json::from_str(text)?))?,
        None => EditRequest::default(),
    };
    args.run.check()?;
    let device = editmgt::open_device(&args.device)?;
    let editor = args.model.builder().device(device).build()?;
    let request = (!args.codec_only).then_some(request);
    let suite = WorldSuite { editor: &editor, request, world: &world, split, n: args.scenes.n };
    args.run.run(&suite)?;
    Ok(ExitCode::SUCCESS)
}
