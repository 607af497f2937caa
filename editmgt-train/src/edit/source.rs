//! Sources of training data: the world, or pairs of images.

use burn::tensor::Device;
use editmgt_checkpoint::WeightFiles;
use editmgt_core::{Flow, VqCodec};
use editmgt_text::{TokenizerError, Vocabulary, WordTokenizer};
use editmgt_vq::CodecConfig;

use super::{CurriculumData, CurriculumStage, EditData, EditRun, WorldEdits};
use crate::data::{DataReport, PairCodec, PairData};
use crate::run::{TrainError, TrainEvent};
use editmgt_world::{Split, World, WorldConfig};

/// Training data and the tokenizer of its instructions.
pub(super) struct Source {
    pub(super) data: EditData,
    pub(super) tokenizer: WordTokenizer,
    /// Report of the data set; `None` for the world.
    pub(super) report: Option<DataReport>,
    /// The world; `None` for a data set.
    pub(super) world: Option<World>,
}

impl EditRun {
    pub(super) fn world_source(
        &self,
        codec: Box<dyn VqCodec>,
        device: &Device,
    ) -> Result<Source, TrainError> {
        let config = self.world.clone().unwrap_or_default();
        let world = World::new(config.clone())?;
        let tokenizer = self.world_tokenizer(&world)?;
        let second = self.codec(device)?.codec;
        let edits = |codec, config: &WorldConfig, split, len| -> Result<_, TrainError> {
            let world = World::new(config.clone())?;
            Ok(Box::new(WorldEdits::new(world, codec, device.clone(), split, len)?))
        };
        let examples = self.examples.unwrap_or(0);
        let stage = |stage: &CurriculumStage| -> Result<_, TrainError> {
            let config = config.with_keys(&stage.world)?;
            let words = World::new(config.clone())?.vocabulary();
            let known = world.vocabulary();
            if let Some(word) = words.iter().find(|word| !known.contains(word)) {
                let expected = "only words of the run's own world";
                return Err(TrainError::option("curriculum.world", expected, word));
            }
            let train = edits(self.codec(device)?.codec, &config, Split::Train, examples)?;
            Ok(CurriculumData { steps: stage.steps, train })
        };
        let data = EditData {
            train: edits(codec, &config, Split::Train, examples)?,
            validation: edits(second, &config, Split::Validation, self.training.evaluated as u64)?,
            curriculum: self.curriculum.iter().map(stage).collect::<Result<_, _>>()?,
        };
        Ok(Source { data, tokenizer, report: None, world: Some(world) })
    }

    /// The words of the world, and one instruction of each category as an example.
    fn world_tokenizer(&self, world: &World) -> Result<WordTokenizer, TrainError> {
        let categories = world.config().categories().len() as u64;
        let example = |index| world.plan(Split::Validation, index).instruction().to_owned();
        let vocabulary = Vocabulary {
            words: world.vocabulary(),
            examples: (0..categories).map(example).collect(),
        };
        WordTokenizer::new(vocabulary, self.model.text_rows).map_err(|error| {
            TrainError::option("text_rows", "rows for every instruction of the world", error)
        })
    }

    pub(super) fn pair_source(
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
        let data = EditData {
            train: Box::new(prepared.train),
            validation: Box::new(prepared.validation),
            curriculum: Vec::new(),
        };
        Ok(Source { data, tokenizer, report: Some(prepared.report), world: None })
    }

    /// The most frequent words of the training instructions, and one example instruction per
    /// category unless the options have their own.
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

/// Why an instruction can't be encoded, without the list of the known words.
fn unreadable(error: editmgt_core::Error) -> String {
    let editmgt_core::Error::Stage(source) = &error else { return error.to_string() };
    match source.downcast_ref() {
        Some(TokenizerError::UnknownWords { unknown, .. }) => {
            format!("words outside the vocabulary: {}", unknown.join(", "))
        }
        _ => error.to_string(),
    }
}
