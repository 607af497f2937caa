use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_core::{Flow, VqCodec};
use editmgt_text::{SmallTextConfig, Vocabulary, WordTokenizer};
use editmgt_transformer::{Connector, MgtConfig, TextArchitecture};
use editmgt_vq::CodecConfig;
use serde::{Deserialize, Serialize};

use super::export::{Export, export};
use super::{
    ComputeOptions, EditData, EditModel, EditOptions, EditParts, EditTrainer, TextSide,
    TrainingPlan, TuneRun, WorldEdits,
};
use crate::run::{
    Draws, LearnerOptions, LoopOptions, RunFolder, TrainError, TrainEvent, initialise, run,
};
use crate::world::{Split, World, WorldConfig};

/// The sizes of a small model that is trained from nothing, together with its text encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallModelOptions {
    /// Number of double blocks.
    pub double_blocks: usize,
    /// Number of single blocks.
    pub single_blocks: usize,
    /// Attention heads.
    pub heads: usize,
    /// Channels of a head: each of them for no position, row or column.
    pub axes: [usize; 3],
    /// Whether 2x2 tokens are one inside the blocks.
    pub merge_tokens: bool,
    /// Rows of the text: one more than the longest instruction has words.
    pub text_rows: usize,
    /// Layers of the text encoder, which has the transformer's width and heads.
    pub text_layers: usize,
}

impl SmallModelOptions {
    fn text(&self, words: usize) -> SmallTextConfig {
        let width = self.heads * self.axes.iter().sum::<usize>();
        SmallTextConfig {
            vocab_size: words + WordTokenizer::SPECIAL,
            max_position_embeddings: self.text_rows,
            hidden_size: width,
            num_hidden_layers: self.text_layers,
            num_attention_heads: self.heads,
            projection_dim: width,
            ..SmallTextConfig::default()
        }
    }

    fn transformer(&self, codes: usize) -> MgtConfig {
        let head = self.axes.iter().sum();
        MgtConfig {
            num_layers: self.double_blocks,
            num_single_layers: self.single_blocks,
            attention_head_dim: head,
            num_attention_heads: self.heads,
            joint_attention_dim: self.heads * head,
            pooled_projection_dim: self.heads * head,
            axes_dims_rope: self.axes,
            // The mask token is the one row that is no code.
            vocab_size: codes + 1,
            codebook_size: codes,
            downsample: self.merge_tokens,
            upsample: self.merge_tokens,
            text_encoder_architecture: TextArchitecture::Small,
            connector_type: Connector::Linear,
            ..MgtConfig::official()
        }
    }
}

/// A config of `editmgt train edit`.
#[derive(Debug, Clone, PartialEq)]
pub enum EditFile {
    /// A small model from nothing.
    New(Box<EditRun>),
    /// A run that goes on with a model that there is: its config says `init_from`.
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
        Ok(match table.contains_key("init_from") {
            true => Self::Tune(Box::new(TuneRun::from_toml(text)?)),
            false => Self::New(Box::new(EditRun::from_toml(text)?)),
        })
    }

    /// How long the run is, and what it does how often.
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
        resume: bool,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<Option<PathBuf>, TrainError> {
        match self {
            Self::New(run) => run.train(root, resume, device, watch),
            Self::Tune(run) => run.train(root, resume, device, watch),
        }
    }
}

/// What `editmgt train edit` reads: the world to learn from, the model, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// The folder of the codec.
    pub codec: PathBuf,
    /// How many examples of the training split there are before they come again.
    pub examples: u64,
    /// The world. Training looks at its training split, evaluations at the validation split.
    pub world: WorldConfig,
    /// The model.
    pub model: SmallModelOptions,
    /// What is learned.
    pub training: EditOptions,
    /// How it is learned.
    pub learner: LearnerOptions,
    /// For how long.
    pub run: LoopOptions,
    /// How the devices are used.
    #[serde(default, skip_serializing_if = "ComputeOptions::is_default")]
    pub compute: ComputeOptions,
}

impl EditRun {
    /// Reads a config.
    ///
    /// # Errors
    /// [`TrainError::Config`] for what is not TOML of a config or a key nobody knows,
    /// [`TrainError::Option`] for a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let run: Self = toml::from_str(text).map_err(|e| TrainError::Config(e.to_string()))?;
        run.training.validate(run.model.double_blocks.saturating_add(run.model.single_blocks))?;
        run.run.validate()?;
        Ok(run)
    }

    /// Trains into the folder `root`, or goes on with the run there, and gives the folder of the
    /// model, in the official layout; `None` when `watch` stopped the run before its end.
    ///
    /// # Errors
    /// Those of [`RunFolder::open`] and [`run`]; a codec that can't be loaded; configs that don't
    /// belong together.
    pub fn train(
        &self,
        root: &Path,
        resume: bool,
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<Option<PathBuf>, TrainError> {
        let (codec_config, codec) = self.codec(device)?;
        let world = World::new(self.world.clone())?;
        let tokenizer = self.tokenizer(&world)?;
        let text = self.model.text(tokenizer.vocabulary().words.len());
        let transformer = self.model.transformer(codec.spec().codebook_size);
        let learning = self.compute.training(device);
        let parts = EditParts {
            transformer: transformer.init(&learning)?,
            text: Some(text.init(&learning)?),
        };
        let model = EditModel::new(parts, &self.training.loss, transformer.width(), &learning);
        let model = initialise(model, &Draws::new(self.seed));

        let held_out = self.training.evaluated as u64;
        let (_, second) = self.codec(device)?;
        let edits = |codec, split, len| -> Result<_, TrainError> {
            let world = World::new(self.world.clone())?;
            Ok(Box::new(WorldEdits::new(world, codec, device.clone(), split, len)?))
        };
        let data = EditData {
            train: edits(codec, Split::Train, self.examples)?,
            validation: edits(second, Split::Validation, held_out)?,
        };
        let folder = RunFolder::open(root, self, resume)?;
        let side = TextSide::Trained(tokenizer.clone());
        let plan = TrainingPlan::new(self.learner.clone(), self.run.steps, self.seed);
        let plan = self.compute.plan(plan)?;
        let mut trainer = EditTrainer::new(model, side, data, self.training.clone(), plan)?;
        if run(&mut trainer, &folder, &self.run, watch)? < self.run.steps {
            return Ok(None);
        }
        let what = Export {
            model: trainer.trained(),
            transformer: &transformer,
            text: &text,
            vocabulary: tokenizer.vocabulary(),
            codec: &self.codec,
            codec_config: &codec_config,
            timestep: self.training.timestep,
        };
        export(root, what).map(Some)
    }

    fn codec(&self, device: &Device) -> Result<(CodecConfig, Box<dyn VqCodec>), TrainError> {
        let path = self.codec.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
        let config = CodecConfig::from_json(&text)?;
        let files = WeightFiles::open(&self.codec)?;
        let codec: Box<dyn VqCodec> = match &config {
            CodecConfig::Official(config) => {
                let module = config.init(device)?;
                Box::new(load_module(module, &files, &config.keys(), DType::F32)?)
            }
            CodecConfig::Patch(config) => {
                let module = config.init(device)?;
                Box::new(load_module(module, &files, &config.keys(), DType::F32)?)
            }
        };
        Ok((config, codec))
    }

    /// The words of the world, and one instruction of each category as an example.
    fn tokenizer(&self, world: &World) -> Result<WordTokenizer, TrainError> {
        let categories = world.config().categories.len() as u64;
        let example = |index| world.plan(Split::Validation, index).instruction;
        let vocabulary = Vocabulary {
            words: world.vocabulary(),
            examples: (0..categories).map(example).collect(),
        };
        WordTokenizer::new(vocabulary, self.model.text_rows).map_err(|error| {
            TrainError::option("text_rows", "rows for every instruction of the world", error)
        })
    }
}
