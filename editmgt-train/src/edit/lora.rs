use burn::module::{ParamGroup, ParamId};
use editmgt::lora::{LoraConfig, linear_layers};
use editmgt_core::KeyMap;
use editmgt_transformer::{LinearLayer, Lora, LoraFactors, LoraStreams, MgtModel};
use serde::{Deserialize, Serialize};

use crate::run::{Draws, TrainError};

/// A low-rank adapter to train in place of the model. The defaults are those of the official
/// script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraOptions {
    /// Regular expressions on the names of linear layers in the official checkpoint
    /// (`transformer_blocks.0.attn.to_q`): what any of them matches gets factors. Each must match.
    pub targets: Vec<String>,
    /// Rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// The product B A counts `alpha / rank` times.
    pub alpha: f64,
    /// The share of a layer's inputs that the adapter misses in each pass, 0 to below 1.
    pub dropout: f64,
    /// The rows that it changes.
    pub streams: LoraStreams,
}

impl Default for LoraOptions {
    fn default() -> Self {
        Self {
            targets: vec![r"\.to_[qkv]$".to_owned()],
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            streams: LoraStreams::Both,
        }
    }
}

impl LoraOptions {
    pub(super) fn validate(&self) -> Result<(), TrainError> {
        if self.targets.is_empty() {
            return Err(TrainError::option("targets", "one pattern or more", "none"));
        }
        if self.rank == 0 {
            return Err(TrainError::option("rank", "1 or more", 0));
        }
        if self.alpha == 0.0 || !self.alpha.is_finite() {
            return Err(TrainError::option("alpha", "a finite number but 0", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(TrainError::option("dropout", "0 to below 1", self.dropout));
        }
        Ok(())
    }

    /// What the adapter's own folder says about it.
    pub(super) fn config(&self) -> LoraConfig {
        let Self { rank, alpha, dropout, .. } = *self;
        LoraConfig { rank, alpha, rank_stabilised: false, dropout }
    }

    /// Attaches a new adapter, and freezes all else in the model. A is uniform in
    /// `±1/sqrt(inputs)` and B is 0, as PEFT begins: the model is as it was.
    ///
    /// # Errors
    /// [`TrainError::Option`] for a pattern that is no regular expression or matches no layer,
    /// [`TrainError::Stage`] for a layer that no row of the streams goes through.
    pub(super) fn attach(
        &self,
        model: MgtModel,
        keys: &KeyMap,
        draws: &Draws,
    ) -> Result<MgtModel, TrainError> {
        let layers = linear_layers(&model, keys).map_err(editmgt::ModelError::from)?;
        let mut lora = Lora {
            layers: Default::default(),
            scale: self.config().strength(),
            streams: self.streams,
            dropout: self.dropout,
        };
        for pattern in &self.targets {
            let group = ParamGroup::from_regex(pattern).map_err(|e| {
                TrainError::option("targets", "regular expressions", format!("{e:?}"))
            })?;
            let is_target = |name: &str| group.matches(&ParamId::from(0), Some(name));
            let mut targets = layers.iter().filter(|(name, _)| is_target(name)).peekable();
            if targets.peek().is_none() {
                let expected = "patterns that match a linear layer";
                return Err(TrainError::option("targets", expected, format!("{pattern:?}")));
            }
            for (name, layer) in targets {
                lora.layers.insert(layer.path.clone(), self.factors(name, layer, draws));
            }
        }
        Ok(model.with_lora(&[lora], true)?)
    }

    fn factors(&self, name: &str, layer: &LinearLayer, draws: &Draws) -> LoraFactors {
        let mut stream = draws.stream(&format!("lora {name}"), 0);
        let bound = 1.0 / (layer.inputs as f32).sqrt();
        let a = (0..self.rank * layer.inputs).map(|_| (2.0 * stream.uniform() - 1.0) * bound);
        let b = vec![0.0; layer.outputs * self.rank];
        LoraFactors { rank: self.rank, a: a.collect(), b }
    }
}
