use std::path::{Path, PathBuf};

use burn::tensor::Device;
use editmgt_core::Flow;
use editmgt_store::RunAccess;
use serde::{Deserialize, Serialize};

use super::{CodecData, CodecReport, CodecTrainingConfig, train_codec};
use crate::run::{RunFolder, TrainError, TrainEvent};
use editmgt_world::{Split, World, WorldConfig};

/// Config of `editmgt-lab train codec`: the world to train on, and the training options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecRun {
    /// The world. Training uses its training split, evaluations the validation split.
    pub world: WorldConfig,
    /// How to train.
    pub training: CodecTrainingConfig,
}

impl CodecRun {
    /// Reads and checks a config.
    ///
    /// # Errors
    /// [`TrainError::Config`] for invalid TOML or an unknown key,
    /// [`TrainError::Option`] and [`TrainError::Component`] for a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let run: Self = toml::from_str(text).map_err(|e| TrainError::Config(e.to_string()))?;
        run.training.validate()?;
        Ok(run)
    }

    /// Trains into the folder `root`, or resumes the run there; see [`train_codec`].
    ///
    /// # Errors
    /// Those of [`RunFolder::open`] and [`train_codec`].
    pub fn train(
        &self,
        root: &Path,
        access: impl Into<RunAccess>,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<(PathBuf, CodecReport), TrainError> {
        let world = World::new(self.world.clone())?;
        let folder = RunFolder::open(root, self, access)?;
        let train = |index| Ok(world.pair(Split::Train, index).pair);
        let held_out = |index| Ok(world.pair(Split::Validation, index).pair);
        let data = CodecData { train: &train, held_out: &held_out };
        train_codec(&self.training, data, &folder, device, watch)
    }
}
