use editmgt_core::KeyMap;
use editmgt_core::config::{ConfigError, ConfigKeys, UnknownKeys};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::activation::Activation;
use crate::limits::Limits;

const COMPONENT: &str = "CLIP text";

/// The end-token id of configs that were written before CLIP configs named the real one. With it
/// the pooled row is the one with the largest id: in CLIP's vocabulary the end token comes last.
const LEGACY_END_TOKEN: u32 = 2;

/// The `model_type` of a model with both towers.
const WHOLE_MODEL: &str = "clip";

/// What a CLIP text tower is, in the keys of its `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipTextConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Width of a row of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads; they share the width equally.
    pub num_attention_heads: usize,
    /// Tokens of the longest prompt.
    pub max_position_embeddings: usize,
    /// Width of the pooled vector.
    pub projection_dim: usize,
    /// Activation of the feed-forward layers: `gelu`, `quick_gelu`, `gelu_new` or
    /// `gelu_pytorch_tanh`.
    pub hidden_act: String,
    /// Added to the variance of the layer norms.
    pub layer_norm_eps: f64,
    /// The token whose first occurrence is pooled; 2 stands for "the largest id of the prompt".
    pub eos_token_id: u32,
}

/// What a whole model's config says beside its towers and their common width.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NothingElse {}

impl ClipTextConfig {
    /// The text tower of CLIP ViT-H/14, which the official checkpoint uses.
    pub fn official() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            max_position_embeddings: 77,
            projection_dim: 1024,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: LEGACY_END_TOKEN,
        }
    }

    /// Reads the text of a `config.json`: of a text tower, or of a whole `CLIPModel`, in which the
    /// tower's config stands as `text_config`.
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
        if keys.get("model_type").is_some_and(|kind| kind == WHOLE_MODEL) {
            return Self::from_whole_model(keys);
        }
        keys.require("model_type", &["clip_text_model"])?;
        Self::checked(keys)
    }

    /// Takes the text tower's config out of a whole `CLIPModel`'s, in which keys with the default
    /// of their class are left out.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json).
    pub fn from_whole_model(mut whole: ConfigKeys) -> Result<Self, ConfigError> {
        let projection = whole.take("projection_dim").unwrap_or(json!(512));
        // Old files have both, and the library then goes by the second only.
        let part = whole.take_part(COMPONENT, "text_config")?;
        let dict = whole.take_part(COMPONENT, "text_config_dict")?;
        let mut keys = dict.or(part).unwrap_or_else(|| whole.empty_part(COMPONENT));
        whole.ignore(&["vision_config", "vision_config_dict"]);
        whole.parse::<NothingElse>()?;
        keys.require("model_type", &["clip_text_model"])?;
        // The width that counts is the whole model's.
        keys.take("projection_dim");
        keys.set_defaults(json!({
            "vocab_size": 49408,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "max_position_embeddings": 77,
            "projection_dim": projection,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "eos_token_id": 49407,
        }));
        Self::checked(keys)
    }

    fn checked(keys: ConfigKeys) -> Result<Self, ConfigError> {
        let config: Self = keys.parse()?;
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
            ("max_position_embeddings", self.max_position_embeddings),
            ("projection_dim", self.projection_dim),
        ])?;
        limits.layers("num_hidden_layers", self.num_hidden_layers)?;
        limits.divides(
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
        )?;
        limits.positive(&[("layer_norm_eps", self.layer_norm_eps)])?;
        self.activation().map(drop)
    }

    /// From the model's parameter paths to the keys of the official file. The model leaves out the
    /// levels `text_model`, `embeddings` and `encoder`, which hold nothing of their own. The file
    /// may be a whole `CLIPModel`'s, whose other half is not read.
    pub fn keys(&self) -> KeyMap {
        KeyMap::renames([
            ("^(token|position)_embedding", "text_model.embeddings.${1}_embedding"),
            ("^layers", "text_model.encoder.layers"),
            ("^final_layer_norm", "text_model.final_layer_norm"),
        ])
        // Older files carry the numbers 0, 1, 2, … as a buffer.
        .allow_unused(
            [
                r"text_model\.embeddings\.position_ids",
                r"vision_model\..*",
                r"visual_projection\.weight",
                "logit_scale",
            ]
            .map(str::to_owned),
        )
    }

    pub(super) fn activation(&self) -> Result<Activation, ConfigError> {
        Activation::named(COMPONENT, "hidden_act", &self.hidden_act)
    }

    pub(super) fn pooled_token(&self) -> PooledToken {
        match self.eos_token_id {
            LEGACY_END_TOKEN => PooledToken::LargestId,
            id => PooledToken::First(id),
        }
    }
}

/// Which row of the last hidden state is projected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PooledToken {
    /// The first one with the largest id of the prompt.
    LargestId,
    /// The first one with this id.
    First(u32),
}

impl PooledToken {
    /// The row of one prompt; `None` when the end token is missing.
    pub(super) fn position(self, ids: &[u32]) -> Option<usize> {
        let token = match self {
            Self::LargestId => *ids.iter().max()?,
            Self::First(token) => token,
        };
        ids.iter().position(|&id| id == token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_conventions_of_the_end_token() {
        for (eos, ids, expected) in [
            (2, &[90, 7, 91, 1, 1][..], Some(2)),
            (2, &[90, 91, 91], Some(1)),
            // Taken literally, id 2 would be found at the start.
            (2, &[2, 91, 2], Some(1)),
            (91, &[90, 7, 91, 91], Some(2)),
            // The end token need not be the largest.
            (7, &[90, 7, 91], Some(1)),
            (7, &[90, 91], None),
        ] {
            let config = ClipTextConfig { eos_token_id: eos, ..ClipTextConfig::official() };
            assert_eq!(config.pooled_token().position(ids), expected, "{eos} in {ids:?}");
        }
    }

    #[test]
    fn what_no_model_can_have_is_refused() {
        let official = serde_json::to_value(ClipTextConfig::official()).unwrap();
        assert!(ClipTextConfig::from_json(&official.to_string()).is_ok());
        for (key, value) in [
            ("vocab_size", json!(0)),
            ("num_hidden_layers", json!(0)),
            ("num_hidden_layers", json!(1u64 << 40)),
            ("num_attention_heads", json!(0)),
            ("num_attention_heads", json!(7)),
            ("layer_norm_eps", json!(0.0)),
            ("hidden_act", json!("relu")),
            ("rotary", json!(true)),
            ("model_type", json!("siglip_text_model")),
        ] {
            let mut bad = official.clone();
            bad[key] = value;
            let error = ClipTextConfig::from_json(&bad.to_string()).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
        let mut missing = official;
        missing.as_object_mut().unwrap().remove("eos_token_id");
        let error = ClipTextConfig::from_json(&missing.to_string()).unwrap_err().to_string();
        assert!(error.contains("eos_token_id"), "{error}");
    }
}
