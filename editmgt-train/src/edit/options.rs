use serde::{Deserialize, Serialize};

use super::{MaskingOptions, TimestepConvention};
use crate::run::TrainError;

/// What a sample without text is to become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DroppedText {
    /// The edited picture, as any other sample: guidance pushes away from what an edit looks like
    /// without knowing which.
    #[default]
    Target,
    /// The reference: no instruction means no edit, so that guidance pushes away from copying.
    Reference,
}

/// How often the model has to do without a condition, which is what guidance needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionOptions {
    /// The share of samples that get an empty instruction, 0..1. (The official script has such an
    /// option, but overwrites its outcome: it never drops anything.)
    pub text_dropout: f32,
    /// What these are to become.
    pub dropped_text: DroppedText,
    /// The share of batches without reference, 0..1. Whole batches, for a model without reference
    /// has no reference stream at all.
    pub reference_dropout: f32,
}

/// What is minimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossOptions {
    /// How much a changed token counts; 1 as in the paper.
    pub changed_weight: f32,
    /// Where it is set, every sample counts the same, and the changed tokens have this share of
    /// it, the others the rest, however many there are of each; 0..1 without both ends. Then
    /// `changed_weight` must be 1.
    pub changed_share: Option<f32>,
    /// How much less a token counts for every other of its kind: where a picture has `n` of them,
    /// each counts `n^-rarity`; 0 (as in the paper) to 1. Plain backgrounds, which are most of a
    /// drawn picture, say little about the objects on them.
    pub rarity: f32,
    /// Weight of the divergence between attention maps and the true region; 0 as in the paper.
    pub map_weight: f32,
    /// The blocks whose maps are supervised; must be empty where the weight is 0.
    pub map_blocks: Vec<usize>,
    /// Weight of a head that says which tokens change, for training alone; 0 as in the paper.
    pub changed_head_weight: f32,
}

impl Default for LossOptions {
    /// As in the paper.
    fn default() -> Self {
        Self {
            changed_weight: 1.0,
            changed_share: None,
            rarity: 0.0,
            map_weight: 0.0,
            map_blocks: Vec::new(),
            changed_head_weight: 0.0,
        }
    }
}

/// Learning to read before learning to edit: the first steps of a run train the text encoder
/// alone, to tell what an instruction says. Minutes on a CPU, and the transformer needn't find out
/// through the pictures which words matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextLessons {
    /// How many of the run's steps.
    pub steps: u64,
    /// Instructions of a step, 1 or more.
    pub batch: usize,
}

/// How a model learns to edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditOptions {
    /// Samples of a batch, 1 or more.
    pub batch: usize,
    /// Of the canvas.
    #[serde(default)]
    pub masking: MaskingOptions,
    /// Of text and reference.
    #[serde(default)]
    pub conditions: ConditionOptions,
    /// How the model is told how far the canvas is.
    #[serde(default)]
    pub timestep: TimestepConvention,
    /// What is minimised.
    #[serde(default)]
    pub loss: LossOptions,
    /// What comes first.
    #[serde(default)]
    pub text_lessons: Option<TextLessons>,
    /// The first so many examples of the validation data are evaluated.
    pub evaluated: usize,
    /// So many held-out scenes are edited at each evaluation, where the data are a world's.
    #[serde(default)]
    pub edited: u64,
}

impl EditOptions {
    /// The official training: no option on.
    pub fn paper(batch: usize) -> Self {
        Self {
            batch,
            masking: MaskingOptions::default(),
            conditions: ConditionOptions::default(),
            timestep: TimestepConvention::default(),
            loss: LossOptions::default(),
            text_lessons: None,
            evaluated: batch,
            edited: 0,
        }
    }

    /// Checks the ranges, for a model with so many blocks.
    ///
    /// # Errors
    /// [`TrainError::Option`] with the key.
    pub fn validate(&self, blocks: usize) -> Result<(), TrainError> {
        for (key, value) in [("batch", self.batch), ("evaluated", self.evaluated)] {
            if value == 0 {
                return Err(TrainError::option(key, "1 or more", value));
            }
        }
        for (key, share) in [
            ("fully_masked", self.masking.fully_masked),
            ("text_dropout", self.conditions.text_dropout),
            ("reference_dropout", self.conditions.reference_dropout),
            ("rarity", self.loss.rarity),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(TrainError::option(key, "0 to 1", share));
            }
        }
        let loss = &self.loss;
        for (key, weight) in [
            ("changed_weight", loss.changed_weight),
            ("map_weight", loss.map_weight),
            ("changed_head_weight", loss.changed_head_weight),
        ] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(TrainError::option(key, "a finite weight, 0 or more", weight));
            }
        }
        if let Some(share) = loss.changed_share {
            if !(share > 0.0 && share < 1.0) {
                return Err(TrainError::option("changed_share", "above 0 and below 1", share));
            }
            if loss.changed_weight != 1.0 {
                let got = loss.changed_weight;
                return Err(TrainError::option("changed_weight", "1 beside changed_share", got));
            }
        }
        if let Some(TextLessons { batch: 0, .. }) = self.text_lessons {
            return Err(TrainError::option("text_lessons.batch", "1 or more", 0));
        }
        if loss.changed_weight == 0.0 {
            return Err(TrainError::option("changed_weight", "above 0", 0));
        }
        let known = loss.map_blocks.iter().all(|&block| block < blocks);
        if !known || loss.map_blocks.is_empty() != (loss.map_weight == 0.0) {
            let expected = format!(
                "blocks below {blocks}, at least one where map_weight is above 0 and else none"
            );
            return Err(TrainError::option(
                "map_blocks",
                expected,
                format!("{:?}", loss.map_blocks),
            ));
        }
        Ok(())
    }
}
