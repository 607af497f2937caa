use burn::module::ParamGroup;
use burn::optim::{AdamWConfig, ModuleOptimizer};
use serde::{Deserialize, Serialize};

use super::{LrSchedule, TrainError};

/// AdamW (Loshchilov and Hutter, 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWOptions {
    /// Decay of the first moment, beta1.
    pub beta_1: f32,
    /// Decay of the second moment, beta2.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f32,
    /// Regular expressions on the paths of parameters without weight decay
    /// (`encoder.layers.0.bias`).
    pub no_decay: Vec<String>,
}

impl AdamWOptions {
    pub(super) fn build(&self) -> Result<ModuleOptimizer, TrainError> {
        let config = AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.weight_decay);
        let mut optimizer = config.init();
        for pattern in &self.no_decay {
            let group = ParamGroup::from_regex(pattern).map_err(|e| {
                TrainError::option("no_decay", "regular expressions", format!("{e:?}"))
            })?;
            optimizer =
                optimizer.with_group(group, config.clone().with_weight_decay(0.0).build(), None);
        }
        Ok(optimizer)
    }
}

/// Options of a [`Learner`](super::Learner).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerOptions {
    /// Gradient accumulation: batches per step.
    pub accumulate: usize,
    /// Global gradient norm limit; `None` disables clipping.
    #[serde(default)]
    pub clip_norm: Option<f32>,
    /// Decay of the weights' moving average; `None` keeps none.
    #[serde(default)]
    pub ema: Option<f64>,
    /// The learning rate.
    pub learning_rate: LrSchedule,
    /// The optimizer.
    pub adamw: AdamWOptions,
}

impl LearnerOptions {
    pub(super) fn validate(&self) -> Result<(), TrainError> {
        self.learning_rate.validate()?;
        if self.accumulate == 0 {
            return Err(TrainError::option("accumulate", "1 or more", 0));
        }
        if let Some(norm) = self.clip_norm
            && !(norm > 0.0 && norm.is_finite())
        {
            return Err(TrainError::option("clip_norm", "a norm above 0", norm));
        }
        if let Some(decay) = self.ema
            && !(0.0..1.0).contains(&decay)
        {
            return Err(TrainError::option("ema", "0 or more and below 1", decay));
        }
        let AdamWOptions { beta_1, beta_2, epsilon, weight_decay, .. } = self.adamw;
        for (key, value, range) in [
            ("beta_1", beta_1, 0.0..1.0),
            ("beta_2", beta_2, 0.0..1.0),
            ("epsilon", epsilon, f32::MIN_POSITIVE..1.0),
            ("weight_decay", weight_decay, 0.0..1e3),
        ] {
            if !range.contains(&value) {
                return Err(TrainError::option(key, format!("{range:?}"), value));
            }
        }
        Ok(())
    }
}
