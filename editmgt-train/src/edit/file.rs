use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use editmgt_checkpoint::{WeightFiles, load_module};
use editmgt_core::{Flow, VqCodec};
use editmgt_text::{SmallTextConfig, TokenizerError, Vocabulary, WordTokenizer};
use editmgt_transformer::{Connector, MgtConfig, TextArchitecture};
use editmgt_vq::CodecConfig;
use serde::{Deserialize, Serialize};

use super::export::{Export, export};
use super::{EditData, EditModel, EditOptions, EditParts, EditTrainer, TextSide, WorldEdits};
use crate::data::{DataOptions, DataReport, PairCodec, PairData};
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

/// What `editmgt train edit` reads: the data to learn from, the model, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditRun {
    /// Everything random follows from it.
    pub seed: u64,
    /// The folder of the codec.
    pub codec: PathBuf,
    /// How many examples of the world's training split there are before they come again. Must be
    /// there for the world, and must not be for other data.
    pub examples: Option<u64>,
    /// The world; the default one where it is not said. Training looks at its training split,
    /// evaluations at the validation split. Must not be there for other data.
    pub world: Option<WorldConfig>,
    /// Where the edits come from; the world by default.
    #[serde(default, skip_serializing_if = "DataOptions::is_world")]
    pub data: DataOptions,
    /// The model.
    pub model: SmallModelOptions,
    /// What is learned.
    pub training: EditOptions,
    /// How it is learned.
    pub learner: LearnerOptions,
    /// For how long.
    pub run: LoopOptions,
}

impl EditRun {
    /// Reads a config.
    ///
    /// # Errors
    /// [`TrainError::Config`] for what is not TOML of a config or a key nobody knows,
    /// [`TrainError::Option`] for a value out of range.
    pub fn from_toml(text: &str) -> Result<Self, TrainError> {
        let mut run: Self = toml::from_str(text).map_err(|e| TrainError::Config(e.to_string()))?;
        run.training.validate(run.model.double_blocks.saturating_add(run.model.single_blocks))?;
        run.run.validate()?;
        run.data.validate()?;
        run.check_source()?;
        if run.data.is_world() {
            // The run's own copy of the config tells which world it was.
            run.world.get_or_insert_default();
        }
        Ok(run)
    }

    /// Keys that would have no effect are no silent mistake.
    fn check_source(&self) -> Result<(), TrainError> {
        let (world, examples) = (self.world.is_some(), self.examples);
        match (self.data.is_world(), world, examples) {
            (true, _, None) => Err(TrainError::option("examples", "1 or more", "none")),
            (false, true, _) => Err(TrainError::option("world", "none beside other data", "one")),
            (false, _, Some(n)) => Err(TrainError::option("examples", "none beside other data", n)),
            _ => Ok(()),
        }
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
        let spec = codec.spec().clone();
        let Source { data, tokenizer, report } = match self.data.is_world() {
            true => self.world_source(codec, device)?,
            false => self.pair_source((&codec_config, &*codec), device, watch)?,
        };
        let text = self.model.text(tokenizer.vocabulary().words.len());
        let transformer = self.model.transformer(spec.codebook_size);
        let learning = device.clone().autodiff();
        let parts = EditParts {
            transformer: transformer.init(&learning)?,
            text: Some(text.init(&learning)?),
        };
        let model = EditModel::new(parts, &self.training.loss, transformer.width(), &learning);
        let model = initialise(model, &Draws::new(self.seed));

        let folder = RunFolder::open(root, self, resume)?;
        if let Some(report) = &report {
            report.save(root)?;
            watch(&TrainEvent::Data { report });
        }
        let side = TextSide::Trained(tokenizer.clone());
        let plan = (self.learner.clone(), self.run.steps, self.seed);
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

    fn world_source(&self, codec: Box<dyn VqCodec>, device: &Device) -> Result<Source, TrainError> {
        let config = self.world.clone().unwrap_or_default();
        let world = World::new(config.clone())?;
        let tokenizer = self.world_tokenizer(&world)?;
        let (_, second) = self.codec(device)?;
        let edits = |codec, split, len| -> Result<_, TrainError> {
            let world = World::new(config.clone())?;
            Ok(Box::new(WorldEdits::new(world, codec, device.clone(), split, len)?))
        };
        let data = EditData {
            train: edits(codec, Split::Train, self.examples.unwrap_or(0))?,
            validation: edits(second, Split::Validation, self.training.evaluated as u64)?,
        };
        Ok(Source { data, tokenizer, report: None })
    }

    /// The words of the world, and one instruction of each category as an example.
    fn world_tokenizer(&self, world: &World) -> Result<WordTokenizer, TrainError> {
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

    fn pair_source(
        &self,
        (config, codec): (&CodecConfig, &dyn VqCodec),
        device: &Device,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<Source, TrainError> {
        let pairs = PairData::open(&self.data)?;
        let words = self.data.pairs().map_or(0, |pairs| pairs.vocabulary);
        let tokenizer = self.pair_tokenizer(&pairs, words)?;
        let weights = WeightFiles::open(&self.codec)?;
        let codec = PairCodec { config, weights: &weights, codec, device };
        let readable =
            |instruction: &str| tokenizer.prompt_rows(instruction).map(drop).map_err(unreadable);
        let prepared =
            pairs.prepare(codec, self.training.evaluated, &readable, &mut |completed, total| {
                watch(&TrainEvent::Encoding { completed, total });
            })?;
        let data =
            EditData { train: Box::new(prepared.train), validation: Box::new(prepared.validation) };
        Ok(Source { data, tokenizer, report: Some(prepared.report) })
    }

    /// The most frequent words of the training instructions, and one instruction of each category
    /// as an example, if it has no others.
    fn pair_tokenizer(&self, pairs: &PairData, words: usize) -> Result<WordTokenizer, TrainError> {
        let tokenizer = |vocabulary| {
            WordTokenizer::new(vocabulary, self.model.text_rows)
                .map_err(|error| TrainError::option("text_rows", "a row for each word", error))
        };
        let mut vocabulary = Vocabulary::most_frequent(pairs.instructions(), words);
        let plain = tokenizer(vocabulary.clone())?;
        let readable = |example: &&str| plain.prompt_rows(example).is_ok();
        let examples = pairs.examples_by_category().into_iter().filter(readable);
        vocabulary.examples = examples.map(str::to_owned).collect();
        tokenizer(vocabulary)
    }
}

/// Why an instruction can't be read, without all that can be.
fn unreadable(error: editmgt_core::Error) -> String {
    let editmgt_core::Error::Stage(source) = &error else { return error.to_string() };
    match source.downcast_ref() {
        Some(TokenizerError::UnknownWords { unknown, .. }) => {
            format!("words outside the vocabulary: {}", unknown.join(", "))
        }
        _ => error.to_string(),
    }
}

/// What a run learns from, and the words of its instructions.
struct Source {
    data: EditData,
    tokenizer: WordTokenizer,
    /// Of data that are not made for the purpose.
    report: Option<DataReport>,
}
