use editmgt_core::KeyMap;
use editmgt_core::config::{ConfigError, ConfigKeys, UnknownKeys};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::activation::Activation;
use crate::limits::Limits;

const COMPONENT: &str = "Gemma2";

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
        Self::from_json_with(text, UnknownKeys::Refuse)
    }

    /// Reads the text of a `config.json`, as strictly as `unknown_keys` says.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json); with [`UnknownKeys::Accept`] none for an unknown
    /// key.
    pub fn from_json_with(text: &str, unknown_keys: UnknownKeys) -> Result<Self, ConfigError> {
        let mut keys = ConfigKeys::read(COMPONENT, text, unknown_keys)?;
        keys.require("model_type", &["gemma2"])?;
        keys.require("use_bidirectional_attention", &[false])?;
        // Bends the scores of the language head only.
        keys.ignore(&["final_logit_softcapping"]);
        let layer_types = keys.take("layer_types");
        // Second spellings, which say the same.
        let activation = keys.take("hidden_act");
        let window = keys.take("sliding_window_size");
        rope_theta(&mut keys)?;
        let config: Self = keys.parse()?;
        if let Some(got) = layer_types {
            check_layer_types(&got, config.num_hidden_layers)?;
        }
        same("hidden_act", activation, config.hidden_activation.as_str())?;
        same("sliding_window_size", window, config.sliding_window)?;
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

/// Checks that layers see a window and everything in turn, the window first.
fn check_layer_types(got: &Value, layers: usize) -> Result<(), ConfigError> {
    let names = ["sliding_attention", "full_attention"];
    let listed = got.as_array().map_or(&[][..], Vec::as_slice);
    let in_turn = listed.iter().zip(names.iter().cycle()).all(|(got, expected)| got == expected);
    if listed.len() == layers && in_turn {
        return Ok(());
    }
    let expected = format!("{} and {} in turn, for {layers} layers", names[0], names[1]);
    Err(ConfigError::unsupported(COMPONENT, "layer_types", expected, got))
}

/// Checks a key that repeats the value of another one.
fn same(
    key: &'static str,
    got: Option<Value>,
    expected: impl Into<Value>,
) -> Result<(), ConfigError> {
    let expected = expected.into();
    match got {
        Some(got) if got != expected => {
            Err(ConfigError::unsupported(COMPONENT, key, expected, got))
        }
        _ => Ok(()),
    }
}

/// Brings the rotary keys of all versions to `rope_theta`: version 5 writes `rope_parameters` in
/// its place, and earlier ones a `rope_scaling` beside it. Frequencies that are scaled are an
/// error.
fn rope_theta(keys: &mut ConfigKeys) -> Result<(), ConfigError> {
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(got) = keys.take(key) else { continue };
        let expected = "rope_type \"default\" with rope_theta";
        let refused = || ConfigError::unsupported(COMPONENT, key, expected, &got);
        for (name, value) in got.as_object().ok_or_else(refused)? {
            match name.as_str() {
                "rope_type" | "type" if value == "default" => {}
                "rope_theta"
                    if keys.get(name).is_none_or(|theta| theta.as_f64() == value.as_f64()) =>
                {
                    keys.take("rope_theta");
                    keys.set_default("rope_theta", value.clone());
                }
                _ => return Err(refused()),
            }
        }
    }
    Ok(())
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
            ("rope_scaling", json!({"rope_type": "linear", "factor": 2.0})),
            ("rope_scaling", json!(2.0)),
            ("rope_parameters", json!({"rope_theta": 10000.0, "rope_type": "yarn"})),
            ("rope_parameters", json!({"rope_theta": 500.0, "rope_type": "default"})),
            ("rope_parameters", json!({"partial_rotary_factor": 0.5})),
            ("layer_types", json!(["full_attention", "sliding_attention"])),
            ("layer_types", json!(vec!["sliding_attention"; 26])),
            ("layer_types", json!("sliding_attention")),
            ("use_bidirectional_attention", json!(true)),
            ("hidden_act", json!("gelu")),
            ("sliding_window_size", json!(512)),
            ("model_type", json!("gemma")),
            ("quantization_config", json!({"bits": 4})),
        ] {
            let mut bad = official.clone();
            bad[key] = value;
            let error = Gemma2Config::from_json(&bad.to_string()).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        let mut newest = official.clone();
        newest.as_object_mut().unwrap().remove("rope_theta");
        newest["rope_parameters"] = json!({"rope_theta": 500.0, "rope_type": "default"});
        assert_eq!(Gemma2Config::from_json(&newest.to_string()).unwrap().rope_theta, 500.0);
        for key in official.as_object().unwrap().keys().filter(|key| *key != "attention_bias") {
            let mut missing = official.clone();
            missing.as_object_mut().unwrap().remove(key);
            let error = Gemma2Config::from_json(&missing.to_string()).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
