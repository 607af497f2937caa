use editmgt::Dtype;
use editmgt_vq::CodecConfig;
use serde::{Deserialize, Serialize};

use crate::run::{LearnerOptions, LoopOptions, TrainError};

/// How to train a codec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecTrainingConfig {
    /// Same seed, same run.
    pub seed: u64,
    /// The precision that the trained codec is written in. What learns from its tokens should be
    /// trained on the written codec, not on a more precise one.
    #[serde(default = "full_precision")]
    pub weights: Dtype,
    /// Pairs that an evaluation measures, the first of the held-out ones.
    pub evaluation_pairs: u64,
    /// How long, and what is done how often.
    pub run: LoopOptions,
    /// What a step sees.
    pub crops: CropOptions,
    /// What makes a good reconstruction.
    pub loss: LossOptions,
    /// How the codes are learned.
    pub codebook: CodebookOptions,
    /// How the weights are learned.
    pub learner: LearnerOptions,
    /// The codec's own config, with its `_class_name`.
    pub codec: CodecConfig,
}

fn full_precision() -> Dtype {
    Dtype::F32
}

/// Which part of which images a step sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropOptions {
    /// Crops in a batch.
    pub batch: usize,
    /// Pixels along each side: a multiple of the codec's downsampling.
    pub size: usize,
    /// Whether crops start at whole patches. For images whose objects stand on the token grid:
    /// the codec then sees the very patches that it is to encode.
    pub aligned: bool,
    /// Crops come from the first so many images.
    pub images: u64,
    /// Pixels that the image's mask marks count this much, others 1.
    pub marked_weight: f32,
}

/// Weights of the reconstruction loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossOptions {
    /// Of absolute differences.
    pub l1: f32,
    /// Of squared differences.
    pub l2: f32,
    /// Of absolute differences between the finite differences of neighbouring pixels.
    pub edges: f32,
    /// Of the squared distance between latents and their codes.
    pub commitment: f32,
}

/// How the codes follow the latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodebookOptions {
    /// The step before which the codes start as k-means centres; nothing is quantized earlier.
    pub start_at: u64,
    /// Whether the encoder stays as it is from then on. In a world of finitely many patches the
    /// latents then stand still, and every code comes to lie on its own; an encoder that goes on
    /// moving leaves the codes of rare patches behind.
    #[serde(default)]
    pub freeze_encoder: bool,
    /// Latents that the centres are found on.
    pub kmeans_vectors: usize,
    /// Iterations of k-means.
    pub kmeans_iterations: usize,
    /// Decay of the moving average that is a code.
    pub decay: f32,
    /// Dead codes are revived every so many steps.
    pub revive_every: u64,
    /// A code is dead when it is the nearest of fewer latents than this in a step, on average.
    pub revive_below: f32,
}

impl CodecTrainingConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// [`TrainError::Option`] or [`TrainError::Component`] with the key.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.run.validate()?;
        let (spec, checked) = match &self.codec {
            CodecConfig::Official(config) => (config.spec(), config.validate()),
            CodecConfig::Patch(config) => (config.spec(), config.validate()),
        };
        checked?;
        for (key, value) in [
            ("crops.batch", self.crops.batch as u64),
            ("crops.images", self.crops.images),
            ("codebook.kmeans_iterations", self.codebook.kmeans_iterations as u64),
            ("codebook.revive_every", self.codebook.revive_every),
            ("evaluation_pairs", self.evaluation_pairs),
        ] {
            if value == 0 {
                return Err(TrainError::option(key, "1 or more", value));
            }
        }
        let (size, factor) = (self.crops.size, spec.downsample_factor);
        if size == 0 || !size.is_multiple_of(factor) {
            return Err(TrainError::option("crops.size", format!("a multiple of {factor}"), size));
        }
        if self.codebook.kmeans_vectors < spec.codebook_size {
            let expected = format!("at least one for each of {} codes", spec.codebook_size);
            let got = self.codebook.kmeans_vectors;
            return Err(TrainError::option("codebook.kmeans_vectors", expected, got));
        }
        let LossOptions { l1, l2, edges, commitment } = self.loss;
        for (key, value, least, most) in [
            ("codebook.decay", self.codebook.decay, 0.0, 1.0),
            ("codebook.revive_below", self.codebook.revive_below, 0.0, f32::MAX),
            ("crops.marked_weight", self.crops.marked_weight, f32::MIN_POSITIVE, f32::MAX),
            ("loss.l1", l1, 0.0, f32::MAX),
            ("loss.l2", l2, 0.0, f32::MAX),
            ("loss.edges", edges, 0.0, f32::MAX),
            ("loss.commitment", commitment, 0.0, f32::MAX),
        ] {
            if !(least..=most).contains(&value) {
                return Err(TrainError::option(key, format!("{least} to {most}"), value));
            }
        }
        Ok(())
    }
}
