use serde::{Deserialize, Serialize};

use super::{MaskingOptions, TimestepConvention};
use crate::run::TrainError;

/// Target of a sample without text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DroppedText {
    /// The edited image, as for any other sample: guidance then moves away from generic edits.
    #[default]
    Target,
    /// The reference: no instruction means no edit, so guidance moves away from copying.
    Reference,
}

/// Dropout of conditions, required for classifier-free guidance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionOptions {
    /// The share of samples with an empty instruction, 0..1. (The official script has such an
    /// option, but overwrites its outcome: it never drops anything.)
    pub text_dropout: f32,
    /// Target of these samples.
    pub dropped_text: DroppedText,
    /// The share of batches without reference, 0..1. Whole batches, because without reference the
    /// model has no reference stream.
    pub reference_dropout: f32,
}

/// Terms and weights of the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossOptions {
    /// Weight of a changed token; 1 as in the paper.
    pub changed_weight: f32,
    /// If set, every sample has equal weight, of which the changed tokens get this share and the
    /// others the rest, whatever their numbers; above 0 and below 1. Requires a `changed_weight` of
    /// 1.
    pub changed_share: Option<f32>,
    /// If set, only this many of an image's masked tokens that change count, and as many of the
    /// others, drawn at random: the product that computes logits, a small model's largest, is
    /// computed for those alone. Needs `changed_share`.
    pub scored_tokens: Option<usize>,
    /// Down-weighting of repeated tokens: each of the `n` equal tokens of an image has weight
    /// `n^-rarity`; 0 (as in the paper) to 1. Plain backgrounds, which are most of a drawn image,
    /// say little about the objects on them.
    pub rarity: f32,
    /// Weight of the divergence between attention maps and the true region; 0 as in the paper.
    pub map_weight: f32,
    /// The blocks whose maps are supervised; must be empty if the weight is 0.
    pub map_blocks: Vec<usize>,
    /// Weight of an auxiliary head that predicts which tokens change; 0 as in the paper.
    pub changed_head_weight: f32,
    /// Weight of an auxiliary head that predicts which cells change from the reference's rows after
    /// the double blocks; 0 as in the paper. Its way to the weights that tell which object an
    /// instruction means is short. Cells that change, other objects' cells and the background have
    /// equal weights, where the data tell what a cell shows.
    pub reference_head_weight: f32,
    /// Weight of an auxiliary head that classifies from the same rows what each cell shows; 0 as in
    /// the paper. Only for data that tell it: the world of sprites.
    pub contents_head_weight: f32,
    /// The double block after which it reads, the last if `None`. What things are must be known
    /// before the block that compares them with the instruction.
    pub contents_head_block: Option<usize>,
}

impl Default for LossOptions {
    /// As in the paper.
    fn default() -> Self {
        Self {
            changed_weight: 1.0,
            changed_share: None,
            scored_tokens: None,
            rarity: 0.0,
            map_weight: 0.0,
            map_blocks: Vec::new(),
            changed_head_weight: 0.0,
            reference_head_weight: 0.0,
            contents_head_weight: 0.0,
            contents_head_block: None,
        }
    }
}

/// Text-encoder warm-up phase: the first steps of a run train only the text encoder, to classify
/// what an instruction asks for. It takes minutes on a CPU, and the transformer needn't learn the
/// relevant words through the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextLessons {
    /// Number of warm-up steps of the run.
    pub steps: u64,
    /// Instructions per step, 1 or more.
    pub batch: usize,
}

/// Options of edit training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditOptions {
    /// Samples per batch, 1 or more.
    pub batch: usize,
    /// Masking of the canvas.
    #[serde(default)]
    pub masking: MaskingOptions,
    /// Dropout of text and reference.
    #[serde(default)]
    pub conditions: ConditionOptions,
    /// Encoding of the canvas's progress.
    #[serde(default)]
    pub timestep: TimestepConvention,
    /// Terms and weights of the loss.
    #[serde(default)]
    pub loss: LossOptions,
    /// Text-encoder warm-up.
    #[serde(default)]
    pub text_lessons: Option<TextLessons>,
    /// Number of validation examples evaluated, from the first.
    pub evaluated: usize,
    /// Number of held-out scenes edited at each evaluation; only for a world's data.
    #[serde(default)]
    pub edited: u64,
}

impl EditOptions {
    /// The official training: every option off.
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

    /// Checks the ranges, for a model with that many double and single blocks.
    ///
    /// # Errors
    /// [`TrainError::Option`] with the key.
    pub fn validate(&self, [double, single]: [usize; 2]) -> Result<(), TrainError> {
        let blocks = double.saturating_add(single);
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
            ("reference_head_weight", loss.reference_head_weight),
            ("contents_head_weight", loss.contents_head_weight),
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
        if let Some(block) = loss.contents_head_block
            && (block >= double || loss.contents_head_weight == 0.0)
        {
            let expected = format!("below {double}, beside a contents_head_weight above 0");
            return Err(TrainError::option("contents_head_block", expected, block));
        }
        if let Some(most) = loss.scored_tokens
            && (most == 0 || loss.changed_share.is_none())
        {
            let expected = "1 or more, beside changed_share";
            return Err(TrainError::option("scored_tokens", expected, most));
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
