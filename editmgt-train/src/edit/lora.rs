use burn::module::{ParamGroup, ParamId};
use editmgt::lora::{LoraConfig, linear_layers};
use editmgt_core::KeyMap;
use editmgt_transformer::{LinearLayer, Lora, LoraFactors, LoraStreams, MgtModel};
use serde::{Deserialize, Serialize};

use crate::run::{Draws, TrainError};

/// A low-rank adapter to train in place of the model's weights. The defaults are those of the
/// official script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraOptions {
    /// Regular expressions on the names of linear layers in the official checkpoint
    /// (`transformer_blocks.0.attn.to_q`): matching layers get factors. Each pattern must match a
    /// layer.
    pub targets: Vec<String>,
    /// Rank: rows of A and columns of B, 1 or more.
    pub rank: usize,
    /// Scale numerator: the product B A is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Dropout of a layer's inputs to the adapter, 0 to below 1.
    pub dropout: f64,
    /// Streams whose rows the adapter is applied to.
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

    /// The adapter's `adapter_config.json`.
    pub(super) fn config(&self) -> LoraConfig {
        let Self { rank, alpha, dropout, .. } = *self;
        LoraConfig::new(rank, alpha).with_dropout(dropout)
    }

    /// Attaches a new adapter and freezes all other parameters. A is uniform in `±1/sqrt(inputs)`
    /// and B is 0, as in PEFT: outputs are unchanged at first.
    ///
    /// # Errors
    /// [`TrainError::Option`] for an invalid regular expression or one that matches no layer,
    /// [`TrainError::Stage`] for a layer that the selected streams do not use.
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
