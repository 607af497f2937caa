use editmgt_core::KeyMap;
use editmgt_core::config::{self, ConfigError};
use serde::{Deserialize, Deserializer, Serialize};

use crate::activation::Activation;
use crate::limits::Limits;

const COMPONENT: &str = "Gemma2";

/// Keys of the official file that don't change the hidden states: names and versions, rates and
/// initialisation of training, special ids (the tokeniser has its own), what only generation or
/// the language head uses, and a second spelling of the activation that the official code ignores.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "eos_token_id",
    "final_logit_softcapping",
    "hidden_act",
    "initializer_range",
    "model_type",
    "pad_token_id",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// What a Gemma2 model is, in the keys of its `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gemma2Config {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of a row of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of layers; the last one is never run.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; each serves an equal number of query heads.
    pub num_key_value_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Tokens of the longest prompt.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward gate: `gelu_pytorch_tanh`, `gelu_new`, `gelu` or
    /// `quick_gelu`.
    pub hidden_activation: String,
    /// Added to the mean square of the norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Attention scores are divided by the square root of this.
    pub query_pre_attn_scalar: f64,
    /// Attention scores are bent into ± this; `null` leaves them alone.
    #[serde(deserialize_with = "nullable")]
    pub attn_logit_softcapping: Option<f64>,
    /// Tokens that a token sees in layers 0, 2, 4, …, itself included.
    pub sliding_window: usize,
    /// Whether the attention projections have biases; no released model has.
    #[serde(default)]
    pub attention_bias: bool,
}

/// The key may be null, but must be there: a default would decide the maths in silence.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Option::deserialize(deserializer)
}

impl Gemma2Config {
    /// Gemma2-2B, which the official checkpoint uses.
    pub fn official() -> Self {
        Self {
            vocab_size: 256_000,
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            max_position_embeddings: 8192,
            hidden_activation: "gelu_pytorch_tanh".into(),
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            query_pre_attn_scalar: 256.0,
            attn_logit_softcapping: Some(50.0),
            sliding_window: 4096,
            attention_bias: false,
        }
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`] for a missing or unknown key, and for values that no model can have.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config: Self = config::parse(COMPONENT, text, HARMLESS)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the values, for a config that was not read by [`from_json`](Self::from_json).
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] with the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let limits = Limits(COMPONENT);
        limits.sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window),
        ])?;
        limits.layers("num_hidden_layers", self.num_hidden_layers)?;
        limits.divides(
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
        )?;
        limits.divides(("head_dim", self.head_dim), ("the two halves that rotate", 2))?;
        limits.positive(&[
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            ("query_pre_attn_scalar", self.query_pre_attn_scalar),
            ("attn_logit_softcapping", self.attn_logit_softcapping.unwrap_or(1.0)),
        ])?;
        if self.attention_bias {
            return Err(ConfigError::unsupported(COMPONENT, "attention_bias", false, true));
        }
        self.activation().map(drop)
    }

    /// From the parameter paths of [`Gemma2`](crate::Gemma2) (and of
    /// [`Gemma2Complete`](crate::Gemma2Complete)) to the keys of the official file. The last
    /// layer, the final norm and the language head may be there and are not read.
    pub fn keys(&self) -> KeyMap {
        let last = format!(
            r"model\.layers\.{}\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj|{})\.weight",
            self.num_hidden_layers.saturating_sub(1),
            "(input|post_attention|pre_feedforward|post_feedforward)_layernorm",
        );
        KeyMap::renames([("^", "model.")]).allow_unused([
            last,
            r"model\.norm\.weight".to_owned(),
            r"lm_head\.weight".to_owned(),
        ])
    }

    pub(super) fn activation(&self) -> Result<Activation, ConfigError> {
        Activation::named(COMPONENT, "hidden_activation", &self.hidden_activation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_no_model_can_have_is_refused() {
        let official = serde_json::to_value(Gemma2Config::official()).unwrap();
        assert!(Gemma2Config::from_json(&official.to_string()).is_ok());
        for (key, value) in [
            ("hidden_size", json!(0)),
            ("num_hidden_layers", json!(0)),
            ("num_key_value_heads", json!(0)),
            ("num_attention_heads", json!(6)),
            ("head_dim", json!(7)),
            ("sliding_window", json!(0)),
            ("query_pre_attn_scalar", json!(0)),
            ("attn_logit_softcapping", json!(-1.0)),
            ("attention_bias", json!(true)),
            ("hidden_activation", json!("silu")),
            ("rope_scaling", json!({"factor": 2})),
        ] {
            let mut bad = official.clone();
            bad[key] = value;
            let error = Gemma2Config::from_json(&bad.to_string()).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        for key in official.as_object().unwrap().keys().filter(|key| *key != "attention_bias") {
            let mut missing = official.clone();
            missing.as_object_mut().unwrap().remove(key);
            let error = Gemma2Config::from_json(&missing.to_string()).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
