use editmgt::Dtype;
use editmgt_vq::CodecConfig;
use serde::{Deserialize, Serialize};

use crate::run::{LearnerOptions, LoopOptions, Products, TrainError};

/// How to train a codec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecTrainingConfig {
    /// Seed; equal seeds give equal runs.
    pub seed: u64,
    /// Precision of the exported codec. Train models on the exported codec, not on a more precise
    /// one.
    #[serde(default = "full_precision")]
    pub weights: Dtype,
    /// Operands of matrix products and convolutions on the CPU.
    #[serde(default, skip_serializing_if = "Products::is_default")]
    pub products: Products,
    /// Number of held-out pairs measured by an evaluation, from the first.
    pub evaluation_pairs: u64,
    /// Step count and logging, evaluation and checkpoint intervals.
    pub run: LoopOptions,
    /// Crops of a step.
    pub crops: CropOptions,
    /// Weights of the reconstruction loss.
    pub loss: LossOptions,
    /// How the codebook is learned.
    pub codebook: CodebookOptions,
    /// Optimizer, learning rate and average of the weights.
    pub learner: LearnerOptions,
    /// The codec's own config, with its `_class_name`.
    pub codec: CodecConfig,
}

fn full_precision() -> Dtype {
    Dtype::F32
}

/// Which parts of which images make a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CropOptions {
    /// Crops per batch.
    pub batch: usize,
    /// Pixels along each side: a multiple of the codec's downsampling.
    pub size: usize,
    /// Whether crops start at multiples of the patch size, for images whose objects are aligned
    /// with the token grid: training then sees exactly the patches to encode.
    pub aligned: bool,
    /// Crops are taken from the first `images` images.
    pub images: u64,
    /// Weight of pixels marked by the image's mask; other pixels have weight 1.
    pub marked_weight: f32,
}

/// Weights of the reconstruction loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossOptions {
    /// Weight of absolute differences.
    pub l1: f32,
    /// Weight of squared differences.
    pub l2: f32,
    /// Weight of absolute differences between finite differences of neighbouring pixels.
    pub edges: f32,
    /// Weight of the squared distance between latents and their codes (commitment loss).
    pub commitment: f32,
}

/// How the codes follow the latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodebookOptions {
    /// The step before which k-means initialises the codes; nothing is quantized earlier.
    pub start_at: u64,
    /// Whether the encoder is frozen from then on. With a finite set of patches the latents then
    /// stay fixed and every code converges to its own; an encoder that keeps moving leaves the
    /// codes of rare patches behind.
    #[serde(default)]
    pub freeze_encoder: bool,
    /// Number of latents for k-means.
    pub kmeans_vectors: usize,
    /// Iterations of k-means.
    pub kmeans_iterations: usize,
    /// Decay of the codes' moving average.
    pub decay: f32,
    /// Interval of dead-code revival, in steps.
    pub revive_every: u64,
    /// A code is dead when it is the nearest of fewer latents per step than this, on average.
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
