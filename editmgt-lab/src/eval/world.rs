//! `editmgt-lab eval world`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use editmgt_eval::WorldSuite;
use editmgt_store::FileRoles;
use editmgt_world::{Split, World, WorldConfig};

use super::encoders::EncoderArgs;
use super::{EditorArgs, SuiteArgs, read};
use crate::Outcome;

#[derive(Args)]
pub(super) struct WorldEvalArgs {
    #[command(flatten)]
    editor: EditorArgs,
    #[command(flatten)]
    scenes: SceneArgs,
    /// Make no edits: measure the true images after the codec's round trip, an upper bound for
    /// every edit
    #[arg(long, conflicts_with = "request")]
    codec_only: bool,
    /// Give each edit a user's mask: of the tokens that truly change
    #[arg(long, conflicts_with = "codec_only")]
    oracle_mask: bool,
    #[command(flatten)]
    encoders: EncoderArgs,
    #[command(flatten)]
    run: SuiteArgs,
}

/// Options that select scenes of a world.
#[derive(Args)]
pub(super) struct SceneArgs {
    /// Number of scenes
    #[arg(long, default_value_t = 512)]
    pub(super) n: u64,
    /// train, validation or test
    #[arg(long, default_value = "test")]
    split: String,
    /// A world's config in JSON, with defaults for missing keys [default: the embedded model's
    /// world]
    #[arg(long)]
    world: Option<PathBuf>,
}

impl SceneArgs {
    /// Declares the world's config as an input.
    pub(super) fn declare(&self, roles: &mut FileRoles) {
        if let Some(world) = &self.world {
            roles.input("world", world);
        }
    }

    pub(super) fn open(&self) -> Result<(World, Split), Box<dyn Error>> {
        if self.n == 0 {
            return Err("--n: expected at least 1, got 0".into());
        }
        let split: Split = self.split.parse().map_err(|e| format!("--split: {e}"))?;
        let config = match &self.world {
            Some(path) => read(path, |text| Ok(WorldConfig::from_json(text)?))?,
            None => WorldConfig::embedded(),
        };
        Ok((World::new(config)?, split))
    }
}

pub(super) fn run(args: &WorldEvalArgs) -> Outcome {
    let (world, split) = args.scenes.open()?;
    let request = args.editor.request()?;
    let mut inputs = FileRoles::default();
    args.editor.declare(&mut inputs);
    args.encoders.declare(&mut inputs);
    args.scenes.declare(&mut inputs);
    args.run.check(inputs)?;
    let editor = args.editor.editor()?;
    let encoders = args.encoders.open(&editor, args.editor.model.unknown_keys())?;
    let request = (!args.codec_only).then_some(request);
    let (n, oracle_mask) = (args.scenes.n, args.oracle_mask);
    let suite = WorldSuite { editor: &editor, request, world: &world, split, n, oracle_mask };
    args.run.run(&suite, &encoders)?;
    Ok(ExitCode::SUCCESS)
}
