use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};
use editmgt::{EditDefaults, Job, ModelFolder};
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_core::{Flow, VqCodec};
use editmgt_store::{FileRoles, RunAccess};
use editmgt_text::{SmallTextConfig, WordTokenizer};
use editmgt_transformer::MgtConfig;
use editmgt_vq::CodecConfig;
use serde::{Deserialize, Serialize};

use super::codes::embed_codes;
use super::export::{Export, export};
use super::probe::WorldProbe;
use super::source::Source;
use super::start::model_to_start_from;
use super::{
    ComputeOptions, EditModel, EditOptions, EditParts, EditTrainer, Lessons, SmallModelOptions,
    TextSide, TrainingPlan, TuneRun,
};
use crate::data::{DataOptions, DataReport};
use crate::run::{
    Draws, LearnerOptions, LoopOptions, RunFolder, TrainError, TrainEvent, Trainee, initialise, run,
};
use editmgt_world::{Split, World, WorldConfig};

/// A trained codec.
pub(super) struct Codec {
    pub(super) config: CodecConfig,
    pub(super) codec: Box<dyn VqCodec>,
    /// `[codes, channels]`.
    pub(super) codes: Tensor<2>,
}

/// Everything that a run needs, before its first step.
struct Prepared {
    trainer: EditTrainer,
    codec_config: CodecConfig,
    transformer: MgtConfig,
    text: SmallTextConfig,
    tokenizer: WordTokenizer,
    /// Report of the data set; `None` for the world.
    report: Option<DataReport>,
}

impl Prepared {
    /// Exports the current model.
    fn export(&self, run: &EditRun, root: &Path) -> Result<PathBuf, TrainError> {
        let what = Export {
            model: self.trainer.trained(),
            transformer: &self.transformer,
            text: &self.text,
            vocabulary: self.tokenizer.vocabulary(),
            codec: &run.codec,
            codec_config: &self.codec_config,
            timestep: run.training.timestep,
            defaults: &run.defaults(),
        };
        export(root, what)
    }
}

/// The instructions of the training split.
struct WorldLessons(World);

impl Lessons for WorldLessons {
    fn classes(&self) -> Vec<usize> {
        self.0.lesson_classes()
    }

    fn lesson(&self, index: u64) -> Result<(String, Vec<u32>), TrainError> {
        Ok(self.0.lesson(Split::Train, index))
    }
}

/// A config of `editmgt-lab train edit`.
#[derive(Debug, Clone, PartialEq)]
pub enum EditFile {
    /// A small model from scratch.
    New(Box<EditRun>),
    /// A run that starts from an existing model: its config has `init_from`.
    Tune(Box<TuneRun>),
}

impl EditFile {
    /// Reads a config of either kind.
    ///
    /// # Errors
    /// Those of [`EditRun::from_toml`] and [`TuneRun::from_toml`].
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let table: toml::Table = text.parse().map_err(|e| {
            let error: toml::de::Error = e;
            TrainError::Config(error.to_string())
        })?;
        Ok(if table.contains_key("init_from") {
            Self::Tune(Box::new(TuneRun::from_toml(text)?))
        } else {
            Self::New(Box::new(EditRun::from_toml(text)?))
        })
    }

    /// Declares the files that the run reads as inputs: the codec or the initial model, and the
    /// data.
    pub fn declare_inputs(&self, roles: &mut FileRoles) {
        match self {
            Self::New(run) => roles.input_tree("codec", &run.codec),
            Self::Tune(run) => {
                let folder = model_to_start_from(&run.init_from);
                ModelFolder::declare_inputs(&folder, "model to start from", roles);
            }
        }
        self.data().declare_inputs(roles);
    }

    /// The source of the edits.
    pub fn data(&self) -> &DataOptions {
        match self {
            Self::New(run) => &run.data,
            Self::Tune(run) => &run.data,
        }
    }

    /// Step count and logging, evaluation and checkpoint intervals.
    pub fn loop_options(&self) -> &LoopOptions {
        match self {
            Self::New(run) => &run.run,
            Self::Tune(run) => &run.run,
        }
    }

    /// Trains: see [`EditRun::train`] and [`TuneRun::train`].
    ///
    /// # Errors
    /// Those of either.
    pub fn train(
        &self,
        root: &Path,
        access: impl Into<RunAccess>,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<Option<PathBuf>, TrainError> {
        match self {
            Self::New(run) => run.train(root, access, device, watch),
            Self::Tune(run) => run.train(root, access, device, watch),
        }
    }
}

/// Steps with edits of a simpler world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurriculumStage {
    /// Number of steps.
    pub steps: u64,
    /// Keys of the world's config, in the place of the run's.
    pub world: serde_json::Map<String, serde_json::Value>,
}

/// Config of `editmgt-lab train edit` for a new model: data, model and training options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditRun {
    /// Seed of all randomness.
    pub seed: u64,
    /// The folder of the codec.
    pub codec: PathBuf,
    /// Number of distinct examples drawn from the world's training split. Required for the world,
    /// an error for other data.
    pub examples: Option<u64>,
    /// The world; the default one if omitted. Training uses its training split, evaluations the
    /// validation split. An error for other data.
    pub world: Option<WorldConfig>,
    /// Simpler edits for the first steps after the text lessons. Only for a world's data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curriculum: Vec<CurriculumStage>,
    /// Source of the edits; the world by default.
    #[serde(default, skip_serializing_if = "DataOptions::is_world")]
    pub data: DataOptions,
    /// The model.
    pub model: SmallModelOptions,
    /// Default options of an edit with the trained model. The size is the world's, and the negative
    /// prompt is empty unless set.
    #[serde(default)]
    pub edit_defaults: EditDefaults,
    /// Losses, masking and conditioning.
    pub training: EditOptions,
    /// Optimizer, learning rate and average of the weights.
    pub learner: LearnerOptions,
    /// Step count and logging, evaluation and checkpoint intervals.
    pub run: LoopOptions,
    /// How the devices are used.
    #[serde(default, skip_serializing_if = "ComputeOptions::is_default")]
    pub compute: ComputeOptions,
}

impl EditRun {
    /// Reads a config.
    ///
    /// # Errors
    /// [`TrainError::Config`] for invalid TOML or an unknown key,
    /// [`TrainError::Option`] for a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let mut run: Self = toml::from_str(text).map_err(|e| TrainError::Config(e.to_string()))?;
        run.training.validate([run.model.double_blocks, run.model.single_blocks])?;
        run.model.structured_init.validate(run.model.heads)?;
        run.run.validate()?;
        run.edit_defaults.check()?;
        run.data.validate()?;
        check_source(&run.data, run.world.is_some(), run.examples)?;
        run.check_world_options()?;
        if run.data.is_world() {
            // The run's copy of the config records the world.
            run.world.get_or_insert_default();
        }
        Ok(run)
    }

    /// Text lessons, a curriculum and judged edits need ground truth, which only the world has.
    fn check_world_options(&self) -> Result<(), TrainError> {
        if self.data.is_world() {
            return Ok(());
        }
        if self.training.text_lessons.is_some() {
            return Err(TrainError::option("text_lessons", "none beside other data", "some"));
        }
        if !self.curriculum.is_empty() {
            let got = self.curriculum.len();
            return Err(TrainError::option("curriculum", "none beside other data", got));
        }
        match self.training.edited {
            0 => Ok(()),
            got => Err(TrainError::option("edited", "0 beside other data", got)),
        }
    }

    /// Trains into the folder `root`, or resumes the run there, and returns the folder of the
    /// model, in the official layout; `None` when `watch` stopped the run before its end.
    ///
    /// # Errors
    /// Those of [`RunFolder::open`] and [`run`]; a codec that fails to load; incompatible configs.
    pub fn train(
        &self,
        root: &Path,
        access: impl Into<RunAccess>,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<Option<PathBuf>, TrainError> {
        let access = access.into();
        RunFolder::check(root, access.resume)?;
        let mut prepared = self.prepare(root, device, watch)?;
        let folder = RunFolder::open(root, self, access)?;
        if let Some(report) = &prepared.report {
            report.save(root)?;
            watch(&TrainEvent::Data { report });
        }
        if run(&mut prepared.trainer, &folder, &self.run, watch)? < self.run.steps {
            return Ok(None);
        }
        prepared.export(self, root).map(Some)
    }

    /// Exports the newest checkpoint of the run in `root`, which may still be running, and returns
    /// the folder and the number of steps trained.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] without a checkpoint; a checkpoint of another config.
    pub fn export(&self, root: &Path, device: &Device) -> Result<(PathBuf, u64), TrainError> {
        let newest = RunFolder::newest_checkpoint(root)?;
        let newest = newest.ok_or_else(|| TrainError::NoRun { dir: root.to_owned() })?;
        let mut prepared = self.prepare(root, device, &mut |_| Flow::Continue)?;
        prepared.trainer.load(&newest)?;
        Ok((prepared.export(self, root)?, newest.step()))
    }

    /// Default options of an edit with this model.
    fn defaults(&self) -> EditDefaults {
        let mut defaults = self.edit_defaults.clone();
        let canvas = self.world.as_ref().map(|world| world.canvas() as usize);
        defaults.size = defaults.size.or(canvas);
        // A closed vocabulary cannot encode the official negative prompt.
        defaults.negative_prompt.get_or_insert_default();
        // Its config alone does not tell where the base has no connector.
        defaults.trained_for.get_or_insert_with(|| vec![Job::Edit, Job::Inpaint]);
        defaults
    }

    fn prepare(
        &self,
        root: &Path,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<Prepared, TrainError> {
        let Codec { config: codec_config, codec, codes } = self.codec(device)?;
        let spec = codec.spec().clone();
        let Source { data, tokenizer, report, world } = if self.data.is_world() {
            self.world_source(codec, device)?
        } else {
            self.pair_source((&codec_config, &*codec), device, watch)?
        };
        let text = self.model.text(tokenizer.vocabulary().words.len());
        let transformer = self.model.transformer(spec.codebook_size);
        let learning = self.compute.training(device);
        let parts = EditParts {
            transformer: transformer.init(&learning)?,
            text: Some(text.init(&learning)?),
        };
        let model = EditModel::new(parts, &self.training.loss, transformer.width(), &learning);
        let model = match (&world, self.training.text_lessons) {
            (Some(world), Some(_)) => model.with_slot_head(&world.lesson_classes()),
            _ => model,
        };
        let model =
            model.with_contents_head(&self.training.loss, &*data.train, transformer.width())?;
        let draws = Draws::new(self.seed);
        let mut model =
            self.model.structured_init.apply(initialise(model, &draws), self.model.axes);
        if self.model.embed_codes {
            model = embed_codes(model, codes, &draws)?;
        }

        let side = TextSide::Trained(tokenizer.clone());
        let plan = TrainingPlan::new(self.learner.clone(), self.run.steps, self.seed);
        let plan = self.compute.plan(plan)?;
        let trainer = EditTrainer::new(model, side, data, self.training.clone(), plan)?;
        let trainer = match (world, self.training.text_lessons) {
            (Some(world), Some(_)) => trainer.with_lessons(Box::new(WorldLessons(world))),
            _ => trainer,
        };
        let trainer = match (&self.world, self.training.edited) {
            (Some(world), 1..) => {
                trainer.with_probe(Box::new(self.probe(world, root, &tokenizer, device)?))
            }
            _ => trainer,
        };
        Ok(Prepared { trainer, codec_config, transformer, text, tokenizer, report })
    }

    fn probe(
        &self,
        world: &WorldConfig,
        root: &Path,
        tokenizer: &WordTokenizer,
        device: &Device,
    ) -> Result<WorldProbe, TrainError> {
        let (run, on) = (self.clone(), device.clone());
        Ok(WorldProbe {
            world: World::new(world.clone())?,
            codec: Box::new(move || Ok(run.codec(&on)?.codec)),
            tokenizer: tokenizer.clone(),
            timestep: self.training.timestep,
            defaults: self.defaults(),
            device: device.clone(),
            scenes: self.training.edited,
            samples: root.join("samples"),
        })
    }

    pub(super) fn codec(&self, device: &Device) -> Result<Codec, TrainError> {
        let path = self.codec.join("config.json");
        let text = editmgt_store::read_text(&path)?;
        let config = CodecConfig::from_json(&text)?;
        let files = WeightFiles::open(&self.codec)?;
        let (codec, codes): (Box<dyn VqCodec>, _) = match &config {
            CodecConfig::Official(config) => {
                let codec = load_module(config.init(device)?, &files, &config.keys(), DType::F32)?;
                let codes = codec.codebook();
                (Box::new(codec), codes)
            }
            CodecConfig::Patch(config) => {
                let codec = load_module(config.init(device)?, &files, &config.keys(), DType::F32)?;
                let codes = codec.codebook();
                (Box::new(codec), codes)
            }
        };
        Ok(Codec { config, codec, codes })
    }
}

/// Keys without effect are an error.
pub(super) fn check_source(
    data: &DataOptions,
    world: bool,
    examples: Option<u64>,
) -> Result<(), TrainError> {
    match (data.is_world(), world, examples) {
        (true, _, None) => Err(TrainError::option("examples", "1 or more", "none")),
        (false, true, _) => Err(TrainError::option("world", "none beside other data", "one")),
        (false, _, Some(n)) => Err(TrainError::option("examples", "none beside other data", n)),
        _ => Ok(()),
    }
}
