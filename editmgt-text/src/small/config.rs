use editmgt_core::KeyMap;
use editmgt_core::config::{ConfigError, ConfigKeys, UnknownKeys};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

const COMPONENT: &str = "small text encoder";

/// The start row, which is always there, and at least one word.
const FEWEST_ROWS: usize = 2;

/// What a small text encoder is, in the keys of its `config.json`.
///
/// ```
/// use burn::tensor::Device;
/// use editmgt_text::SmallTextConfig;
///
/// let config = SmallTextConfig {
///     vocab_size: 110,
///     max_position_embeddings: 12,
///     hidden_size: 64,
///     num_hidden_layers: 2,
///     num_attention_heads: 4,
///     projection_dim: 64,
///     ..SmallTextConfig::default()
/// };
/// let model = config.init(&Device::flex())?;
/// assert_eq!(model.spec().rows, 12);
/// # Ok::<(), editmgt_core::config::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallTextConfig {
    /// Always [`MODEL_TYPE`](Self::MODEL_TYPE): says that the folder holds this encoder.
    pub model_type: String,
    /// Rows of the token table: the words of the vocabulary, padding and start.
    pub vocab_size: usize,
    /// Rows of every sequence: the start row, words and padding; 2 or more.
    pub max_position_embeddings: usize,
    /// Width of a row.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they share the width equally.
    pub num_attention_heads: usize,
    /// Width of the pooled vector.
    pub projection_dim: usize,
}

impl Default for SmallTextConfig {
    /// Two layers of width 128 over 12 rows, for a vocabulary of no words yet: set
    /// [`vocab_size`](Self::vocab_size).
    fn default() -> Self {
        Self {
            model_type: Self::MODEL_TYPE.into(),
            vocab_size: crate::WordTokenizer::SPECIAL,
            max_position_embeddings: 12,
            hidden_size: 128,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            projection_dim: 128,
        }
    }
}

impl SmallTextConfig {
    /// The `model_type` of the `config.json`.
    pub const MODEL_TYPE: &str = "editmgt_small_text";

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`] for a missing or unknown key, another `model_type`, and sizes that no model
    /// can have.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::from_json_with(text, UnknownKeys::Refuse)
    }

    /// Reads the text of a `config.json`, as strictly as `unknown_keys` says.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json); with [`UnknownKeys::Accept`] none for an unknown
    /// key.
    pub fn from_json_with(text: &str, unknown_keys: UnknownKeys) -> Result<Self, ConfigError> {
        let config: Self = ConfigKeys::read(COMPONENT, text, unknown_keys)?.parse()?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the values, for a config that was not read by [`from_json`](Self::from_json).
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] with the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.model_type != Self::MODEL_TYPE {
            let (expected, got) = (Self::MODEL_TYPE, &self.model_type);
            return Err(ConfigError::unsupported(COMPONENT, "model_type", expected, got));
        }
        let limits = Limits(COMPONENT);
        limits.sizes(&[
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("projection_dim", self.projection_dim),
        ])?;
        limits.layers("num_hidden_layers", self.num_hidden_layers)?;
        limits.divides(
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
        )?;
        let fewest = [
            ("vocab_size", self.vocab_size, crate::WordTokenizer::SPECIAL),
            ("max_position_embeddings", self.max_position_embeddings, FEWEST_ROWS),
        ];
        for (key, got, fewest) in fewest {
            if got < fewest {
                let expected = format!("{fewest} or more");
                return Err(ConfigError::unsupported(COMPONENT, key, expected, got));
            }
        }
        Ok(())
    }

    /// From the model's parameter paths to the keys of the file: they are the same.
    pub fn keys(&self) -> KeyMap {
        KeyMap::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_no_model_can_have_is_refused() {
        let good = serde_json::to_value(SmallTextConfig::default()).unwrap();
        let read = |value: &serde_json::Value| SmallTextConfig::from_json(&value.to_string());
        assert_eq!(read(&good).unwrap(), SmallTextConfig::default());
        for (key, value) in [
            ("model_type", json!("clip_text_model")),
            ("vocab_size", json!(1)),
            ("max_position_embeddings", json!(1)),
            ("hidden_size", json!(0)),
            ("num_hidden_layers", json!(0)),
            ("num_attention_heads", json!(7)),
            ("projection_dim", json!(1u64 << 40)),
            ("rotary", json!(true)),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let error = read(&bad).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        let mut missing = good;
        missing.as_object_mut().unwrap().remove("model_type");
        let error = read(&missing).unwrap_err().to_string();
        assert!(error.contains("model_type"), "{error}");
    }
}
