use std::path::{Path, PathBuf};

use burn::tensor::Device;
use editmgt::ModelFolder;
use editmgt::lora::LoraFile;
use editmgt::sampler::{SchedulerConfig, Timesteps};
use editmgt_checkpoint::WeightFiles;
use editmgt_core::{Flow, KeyMap};
use editmgt_store::RunAccess;
use editmgt_text::SmallTextConfig;
use editmgt_transformer::MgtConfig;
use editmgt_vq::CodecConfig;
use serde::{Deserialize, Serialize};

use super::export::{Tuned, export_tuned};
use super::file::check_source;
use super::start::{SmallStart, Start, StartText, f32_on};
use super::{
    ComputeOptions, EditData, EditModel, EditOptions, EditParts, EditTrainer, LoraOptions,
    TextSide, TimestepConvention, TrainingPlan, WorldEdits,
};
use crate::data::{DataOptions, DataReport, PairCodec, PairData};
use crate::run::{Draws, LearnerOptions, LoopOptions, RunFolder, TrainError, TrainEvent, run};
use editmgt_world::{Split, World, WorldConfig};

/// Config of `editmgt-lab train edit` for fine-tuning an existing model: all of it, a part, or a
/// low-rank adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneRun {
    /// Seed of all randomness.
    pub seed: u64,
    /// The initial model: its folder, or the folder of the run that made it.
    pub init_from: PathBuf,
    /// Regular expressions on the paths of parameters to freeze (`transformer.embed.conv`,
    /// `text.layers.0…`). Each must match.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// An adapter to train instead of the weights, which are then frozen.
    #[serde(default)]
    pub lora: Option<LoraOptions>,
    /// How the devices are used.
    #[serde(default, skip_serializing_if = "ComputeOptions::is_default")]
    pub compute: ComputeOptions,
    /// As in [`EditRun`](super::EditRun).
    #[serde(default)]
    pub examples: Option<u64>,
    /// As in [`EditRun`](super::EditRun).
    #[serde(default)]
    pub world: Option<WorldConfig>,
    /// Source of the edits; the world by default.
    #[serde(default, skip_serializing_if = "DataOptions::is_world")]
    pub data: DataOptions,
    /// Losses, masking and conditioning.
    pub training: EditOptions,
    /// Optimizer, learning rate and average of the weights.
    pub learner: LearnerOptions,
    /// Step count and logging, evaluation and checkpoint intervals.
    pub run: LoopOptions,
}

impl TuneRun {
    /// Reads a config.
    ///
    /// # Errors
    /// [`TrainError::Config`] for invalid TOML or an unknown key,
    /// [`TrainError::Option`] for a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let run: Self = toml::from_str(text).map_err(|e| TrainError::Config(e.to_string()))?;
        run.run.validate()?;
        run.data.validate()?;
        check_source(&run.data, run.world.is_some(), run.examples)?;
        run.lora.iter().try_for_each(LoraOptions::validate)?;
        Ok(run)
    }

    /// Trains into the folder `root`, or resumes the run there, and returns the folder of the
    /// result: `model`, in the official layout, or `adapter`, in PEFT's. `None` when `watch`
    /// stopped the run before its end.
    ///
    /// # Errors
    /// Those of [`RunFolder::open`] and [`run`]; a model that fails to load; patterns without a
    /// match.
    pub fn train(
        &self,
        root: &Path,
        access: impl Into<RunAccess>,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<Option<PathBuf>, TrainError> {
        let access = access.into();
        RunFolder::check(root, access.resume)?;
        let learning = self.compute.training(device);
        let draws = Draws::new(self.seed);
        let Start { folder, config, mut transformer, text } =
            Start::load(&self.init_from, &learning)?;
        self.training.validate([config.num_layers, config.num_single_layers])?;
        let mut frozen = self.freeze.clone();
        if let Some(lora) = &self.lora {
            self.check_timestep(&folder)?;
            transformer = lora.attach(transformer, &config.keys(), &draws)?;
            if matches!(text, StartText::Small(_)) {
                frozen.push(r"^text\.".to_owned());
            }
        }
        let (data, report) = if self.data.is_world() {
            (self.world_data(&folder, device)?, None)
        } else {
            let (data, report) = self.pair_data(&folder, &text, device, watch)?;
            (data, Some(report))
        };
        let (text, text_config, side) = match text {
            StartText::Small(small) => {
                let SmallStart { config, module, tokenizer } = *small;
                (Some(module), Some(config), TextSide::Trained(tokenizer))
            }
            StartText::Frozen(encoder) => (None, None, TextSide::Frozen(encoder)),
        };
        let parts = EditParts { transformer, text };
        let model = EditModel::new(parts, &self.training.loss, config.width(), &learning)
            .with_contents_head(&self.training.loss, &*data.train, config.width())?
            .with_drawn_heads(&draws);

        let out = RunFolder::open(root, self, access)?;
        if let Some(report) = &report {
            report.save(root)?;
            watch(&TrainEvent::Data { report });
        }
        let plan = TrainingPlan::new(self.learner.clone(), self.run.steps, self.seed);
        let plan = TrainingPlan {
            freeze: frozen,
            draws_on_device: self.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0),
            ..self.compute.plan(plan)?
        };
        let mut trainer = EditTrainer::new(model, side, data, self.training.clone(), plan)?;
        if run(&mut trainer, &out, &self.run, watch)? < self.run.steps {
            return Ok(None);
        }
        let trained = trainer.trained();
        self.export(root, &folder, (&trained, &config, text_config.as_ref())).map(Some)
    }

    fn world_data(&self, folder: &ModelFolder, device: &Device) -> Result<EditData, TrainError> {
        let edits = |split, len| -> Result<_, TrainError> {
            let world = World::new(self.world.clone().unwrap_or_default())?;
            let codec = folder.load_codec(&f32_on(device))?;
            Ok(Box::new(WorldEdits::new(world, codec, device.clone(), split, len)?))
        };
        Ok(EditData {
            train: edits(Split::Train, self.examples.unwrap_or(0))?,
            validation: edits(Split::Validation, self.training.evaluated as u64)?,
            curriculum: Vec::new(),
        })
    }

    fn pair_data(
        &self,
        folder: &ModelFolder,
        text: &StartText,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<(EditData, DataReport), TrainError> {
        let path = folder.vqvae.join("config.json");
        let config = editmgt_store::read_text(&path)?;
        let config = CodecConfig::from_json(&config)?;
        let weights = WeightFiles::open(&folder.vqvae)?;
        let codec = folder.load_codec(&f32_on(device))?;
        let codec = PairCodec { config: &config, weights: &weights, codec: &*codec, device };
        // A closed vocabulary lacks some words; a large encoder truncates.
        let readable = |instruction: &str| match text {
            StartText::Small(small) => {
                let rows = small.tokenizer.prompt_rows(instruction);
                rows.map(drop).map_err(|error| error.to_string())
            }
            StartText::Frozen(_) => Ok(()),
        };
        let evaluated = self.training.evaluated;
        let prepared = PairData::open(&self.data)?.prepare(
            codec,
            evaluated,
            &readable,
            &mut |completed, total| {
                watch(&TrainEvent::Encoding { completed, total });
            },
        )?;
        let (train, validation) = (Box::new(prepared.train), Box::new(prepared.validation));
        Ok((EditData { train, validation, curriculum: Vec::new() }, prepared.report))
    }

    /// An adapter cannot change the convention: the scheduler is the model's own.
    fn check_timestep(&self, folder: &ModelFolder) -> Result<(), TrainError> {
        let path = folder.scheduler.join("scheduler_config.json");
        let text = editmgt_store::read_text(&path)?;
        let expected = match SchedulerConfig::from_json(&text)?.timesteps {
            Timesteps::MaskRatio => TimestepConvention::MaskRatio,
            _ => TimestepConvention::Official,
        };
        if self.training.timestep == expected {
            return Ok(());
        }
        let got = format!("{:?}", self.training.timestep);
        Err(TrainError::option("timestep", format!("{expected:?}, like the model"), got))
    }

    fn export(
        &self,
        root: &Path,
        folder: &ModelFolder,
        (model, config, text): (&EditModel, &MgtConfig, Option<&SmallTextConfig>),
    ) -> Result<PathBuf, TrainError> {
        match &self.lora {
            Some(lora) => export_adapter(root, model, &config.keys(), lora),
            None => {
                let timestep = self.training.timestep;
                export_tuned(root, Tuned { model, transformer: config, text, folder, timestep })
            }
        }
    }
}

/// Folder of an adapter within the run folder.
const ADAPTER: &str = "adapter";

fn export_adapter(
    root: &Path,
    model: &EditModel,
    keys: &KeyMap,
    lora: &LoraOptions,
) -> Result<PathBuf, TrainError> {
    let adapter = LoraFile::of_model(model.transformer(), keys, lora.config(), lora.streams);
    let out = root.join(ADAPTER);
    if out.exists() {
        std::fs::remove_dir_all(&out).map_err(TrainError::io(&out))?;
    }
    adapter
        .and_then(|adapter| adapter.save(&out))
        .map_err(|error| TrainError::from(editmgt::ModelError::from(error)))?;
    Ok(out)
}

#[cfg(test)]
mod tests;
