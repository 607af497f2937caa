use burn::tensor::Device;
use editmgt_core::config::{self, ConfigError, ConfigKeys, MAX_EXTENT, UnknownKeys};
use editmgt_core::{KeyMap, TransformerSpec};
use serde::{Deserialize, Serialize};

use crate::MgtModel;

const COMPONENT: &str = "transformer";

/// Blocks of a stack, at most: a module is built for each, lazy parameters or not.
const MAX_BLOCKS: usize = 1024;

/// Frequencies of the features of a place, at most: more than cells in a row tell nothing.
const MAX_POSITION_FREQUENCIES: usize = 64;

/// The projection from the text encoder's width to the transformer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connector {
    /// None: the text rows have the transformer's width.
    None,
    /// One linear layer with bias.
    Linear,
    /// A kind of the official code (`mlp`, `fmlp`, `qformer`) that no released model uses; rejected
    /// by [`MgtConfig::validate`].
    #[serde(untagged)]
    Other(String),
}

/// The text encoders with which a checkpoint was trained. Used by pipelines, not by the
/// transformer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextArchitecture {
    /// CLIP computes both the rows (77, penultimate layer) and the pooled vector.
    #[serde(rename = "CLIP")]
    Clip,
    /// Gemma2 computes the rows (256), CLIP the pooled vector.
    #[serde(rename = "CLIP_Gemma2")]
    ClipGemma2,
    /// The small encoder with a closed vocabulary computes both.
    #[serde(rename = "small")]
    Small,
    /// Anything else; rejected by [`MgtConfig::validate`].
    #[serde(untagged)]
    Other(String),
}

/// The `config.json` of a transformer folder.
///
/// Absent keys have the defaults of the official class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MgtConfig {
    /// Tokens per patch; only 1 is supported ([`downsample`](Self::downsample) merges tokens).
    #[serde(default = "default_patch_size")]
    pub patch_size: usize,
    /// Not used by the model; kept so that a written config is complete.
    #[serde(default = "default_in_channels")]
    pub in_channels: usize,
    /// Number of double blocks, 1 or more.
    pub num_layers: usize,
    /// Number of single blocks, 1 or more.
    pub num_single_layers: usize,
    /// Channels per attention head.
    pub attention_head_dim: usize,
    /// Attention heads; the width of the model is heads × head channels.
    pub num_attention_heads: usize,
    /// Width of the text encoder's rows.
    pub joint_attention_dim: usize,
    /// Width of the pooled text vector.
    pub pooled_projection_dim: usize,
    /// Distilled guidance; only `false` is supported.
    #[serde(default)]
    pub guidance_embeds: bool,
    /// How many channels of a head encode each position axis (unused, row, column); even, with
    /// the head's channels as their sum.
    #[serde(default = "default_axes_dims_rope")]
    pub axes_dims_rope: [usize; 3],
    /// Base of the rotary frequencies, 1 or more. The official model has 10000 and no key for it;
    /// small grids need a smaller base, since all but the first few frequencies hardly rotate over
    /// a few rows.
    #[serde(default = "default_rope_theta", skip_serializing_if = "is_default_rope_theta")]
    pub rope_theta: f64,
    /// Frequencies per axis of the features of a cell's place in the picture that are added to the
    /// image tokens; 0, as in the official model, which has no key for it, to 64. For
    /// small models.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub position_frequencies: usize,
    /// Rows of the embedding table; the last one is the mask token.
    #[serde(default = "default_vocab_size")]
    pub vocab_size: usize,
    /// Number of codes of the codec, and of classes of the logits.
    #[serde(default = "default_codebook_size")]
    pub codebook_size: usize,
    /// Whether 2x2 tokens are merged on the way in.
    #[serde(default)]
    pub downsample: bool,
    /// Whether they are split again on the way out; must equal [`downsample`](Self::downsample).
    #[serde(default)]
    pub upsample: bool,
    /// The text encoders of the checkpoint.
    #[serde(default = "default_text_architecture")]
    pub text_encoder_architecture: TextArchitecture,
    /// The projection in front of the text rows.
    #[serde(default = "default_connector")]
    pub connector_type: Connector,
}

fn default_patch_size() -> usize {
    1
}

fn default_in_channels() -> usize {
    64
}

fn default_axes_dims_rope() -> [usize; 3] {
    [16, 56, 56]
}

fn default_rope_theta() -> f64 {
    10000.0
}

fn is_default_rope_theta(theta: &f64) -> bool {
    *theta == default_rope_theta()
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

fn default_vocab_size() -> usize {
    8256
}

fn default_codebook_size() -> usize {
    8192
}

fn default_text_architecture() -> TextArchitecture {
    TextArchitecture::Clip
}

fn default_connector() -> Connector {
    Connector::None
}

impl MgtConfig {
    /// The full-size model of the official training script: 1,009,306,624 parameters in 869
    /// tensors, for 1024-pixel images with Gemma2 text rows.
    pub fn official() -> Self {
        Self {
            patch_size: default_patch_size(),
            in_channels: default_in_channels(),
            num_layers: 14,
            num_single_layers: 28,
            attention_head_dim: 128,
            num_attention_heads: 8,
            joint_attention_dim: 2304,
            pooled_projection_dim: 1024,
            guidance_embeds: false,
            axes_dims_rope: default_axes_dims_rope(),
            rope_theta: default_rope_theta(),
            position_frequencies: 0,
            vocab_size: default_vocab_size(),
            codebook_size: default_codebook_size(),
            downsample: true,
            upsample: true,
            text_encoder_architecture: TextArchitecture::ClipGemma2,
            connector_type: Connector::Linear,
        }
    }

    /// Parses the text of a `config.json` and checks it.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for a missing, mistyped or unknown key,
    /// [`ConfigError::Unsupported`] as [`validate`](Self::validate).
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
        // Muddit's: a projection of T5's rows, and the size of the head that answers in text.
        keys.require::<bool>("t5_dim", &[])?;
        keys.ignore(&["tokenizer_vocab_size"]);
        let config: Self = keys.parse()?;
        config.validate()?;
        Ok(config)
    }

    /// Checks that the sizes match each other and that every value is supported.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] with the key, the supported values and the actual one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let require = |good: bool, key, expected: &dyn ToString, got: &dyn ToString| {
            if good {
                return Ok(());
            }
            Err(ConfigError::unsupported(COMPONENT, key, expected.to_string(), got.to_string()))
        };
        let within = |key, value, max| config::check_range(COMPONENT, key, value, 1..=max);
        within("num_layers", self.num_layers, MAX_BLOCKS)?;
        within("num_single_layers", self.num_single_layers, MAX_BLOCKS)?;
        within("attention_head_dim", self.attention_head_dim, MAX_EXTENT)?;
        within("num_attention_heads", self.num_attention_heads, MAX_EXTENT)?;
        within("num_attention_heads * attention_head_dim", self.width(), MAX_EXTENT)?;
        within("joint_attention_dim", self.joint_attention_dim, MAX_EXTENT)?;
        within("pooled_projection_dim", self.pooled_projection_dim, MAX_EXTENT)?;
        within("codebook_size", self.codebook_size, MAX_EXTENT)?;
        within("vocab_size", self.vocab_size, MAX_EXTENT)?;
        require(
            self.vocab_size > self.codebook_size,
            "vocab_size",
            &format!(
                "more than the {} codes, the last row being the mask token",
                self.codebook_size
            ),
            &self.vocab_size,
        )?;
        require(self.patch_size == 1, "patch_size", &1, &self.patch_size)?;
        require(!self.guidance_embeds, "guidance_embeds", &false, &self.guidance_embeds)?;
        require(
            self.downsample == self.upsample,
            "upsample",
            &format!("{} like downsample", self.downsample),
            &self.upsample,
        )?;
        let axes = self.axes_dims_rope;
        let rotated = axes.iter().fold(0usize, |sum, &axis| sum.saturating_add(axis));
        require(
            rotated == self.attention_head_dim && axes.iter().all(|axis| axis % 2 == 0),
            "axes_dims_rope",
            &format!("even numbers with the sum {}", self.attention_head_dim),
            &format!("{axes:?}"),
        )?;
        require(
            (1.0..=1e12).contains(&self.rope_theta),
            "rope_theta",
            &"1 to 1e12",
            &self.rope_theta,
        )?;
        require(
            self.position_frequencies <= MAX_POSITION_FREQUENCIES,
            "position_frequencies",
            &format!("0 to {MAX_POSITION_FREQUENCIES}"),
            &self.position_frequencies,
        )?;
        match &self.connector_type {
            Connector::Linear => {}
            Connector::None => require(
                self.joint_attention_dim == self.width(),
                "joint_attention_dim",
                &format!("the model's width {} where there is no connector", self.width()),
                &self.joint_attention_dim,
            )?,
            Connector::Other(kind) => {
                require(false, "connector_type", &"\"none\" or \"linear\"", &format!("{kind:?}"))?;
            }
        }
        if let TextArchitecture::Other(kind) = &self.text_encoder_architecture {
            let known = "\"CLIP\", \"CLIP_Gemma2\" or \"small\"";
            require(false, "text_encoder_architecture", &known, &format!("{kind:?}"))?;
        }
        Ok(())
    }

    /// The width of the model: channels of a token inside the blocks.
    pub fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    /// The sizes of the model, for the other stages.
    pub fn spec(&self) -> TransformerSpec {
        TransformerSpec {
            codebook_size: self.codebook_size,
            mask_token: self.vocab_size.saturating_sub(1) as u32,
            double_blocks: self.num_layers,
            single_blocks: self.num_single_layers,
            grid_factor: if self.downsample { 2 } else { 1 },
            text_size: self.joint_attention_dim,
            pooled_size: self.pooled_projection_dim,
        }
    }

    /// The differences between the official checkpoint's keys and the fields of the modules.
    pub fn keys(&self) -> KeyMap {
        KeyMap::renames([
            // Convolutions are fields of the type of their weight.
            (r"\b(conv[12]?)$", "$1.weight"),
            // The official resampling blocks wrap a single layer.
            (r"^down_block\.", "down_block.downsample."),
            (r"^up_block\.", "up_block.upsample."),
            // Members of sequences are numbered; dropout and activations are members, too.
            (r"\.to_out\.", ".to_out.0."),
            (r"\.(ff|ff_context)\.proj_in\.", ".$1.net.0.proj."),
            (r"\.(ff|ff_context)\.proj_out\.", ".$1.net.2."),
        ])
    }

    /// Builds the model with lazy random parameters, which are allocated when they are first read.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<MgtModel, ConfigError> {
        self.validate()?;
        Ok(MgtModel::new(self, device))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn tiny() -> Value {
        json!({
            "_class_name": "Transformer2DModel", "_diffusers_version": "0.32.1",
            "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8,
            "num_attention_heads": 2, "joint_attention_dim": 16, "pooled_projection_dim": 4,
            "axes_dims_rope": [4, 2, 2]
        })
    }

    #[test]
    fn absent_keys_have_the_official_defaults() {
        let config = MgtConfig::from_json(&tiny().to_string()).unwrap();
        assert_eq!(config.vocab_size, 8256);
        assert_eq!(config.codebook_size, 8192);
        assert_eq!(config.connector_type, Connector::None);
        assert_eq!(config.text_encoder_architecture, TextArchitecture::Clip);
        assert!(!config.downsample && !config.upsample);
        assert_eq!(MgtConfig::official().axes_dims_rope, [16, 56, 56]);
    }

    #[test]
    fn config_round_trips_through_json() {
        let config = MgtConfig::official();
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""connector_type":"linear""#), "{text}");
        assert!(text.contains(r#""text_encoder_architecture":"CLIP_Gemma2""#), "{text}");
        for key in ["rope_theta", "position_frequencies"] {
            assert!(!text.contains(key), "the official class has no such key: {text}");
        }
        assert_eq!(MgtConfig::from_json(&text).unwrap(), config);
        let config = MgtConfig { rope_theta: 30.0, position_frequencies: 8, ..config };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(MgtConfig::from_json(&text).unwrap(), config);
    }

    #[test]
    fn from_json_rejects_unsupported_values_by_name() {
        for (key, value, named) in [
            ("connector_type", json!("mlp"), "\"mlp\""),
            ("connector_type", json!("qformer"), "\"qformer\""),
            ("text_encoder_architecture", json!("T5_1024"), "\"T5_1024\""),
            ("patch_size", json!(2), "patch_size"),
            ("guidance_embeds", json!(true), "guidance_embeds"),
            ("upsample", json!(true), "upsample"),
            ("axes_dims_rope", json!([4, 2, 4]), "[4, 2, 4]"),
            ("axes_dims_rope", json!([3, 3, 2]), "even"),
            ("axes_dims_rope", json!([4, 4]), "length 3"),
            ("num_layers", json!(0), "num_layers"),
            ("num_single_layers", json!(1_000_000), "num_single_layers"),
            ("attention_head_dim", json!(0), "attention_head_dim"),
            ("num_attention_heads", json!(u64::MAX), "num_attention_heads"),
            ("num_attention_heads", json!(1 << 23), "num_attention_heads"),
            ("joint_attention_dim", json!(24), "joint_attention_dim"),
            ("pooled_projection_dim", json!(0), "pooled_projection_dim"),
            ("vocab_size", json!(8192), "vocab_size"),
            ("codebook_size", json!(-1), "-1"),
            ("rope_theta", json!(0.5), "rope_theta"),
            ("position_frequencies", json!(65), "position_frequencies"),
            ("rope_base", json!(10000), "rope_base"),
            ("num_layers", Value::Null, "null"),
        ] {
            let mut config = tiny();
            config[key] = value;
            let message = MgtConfig::from_json(&config.to_string()).unwrap_err().to_string();
            assert!(message.contains(named), "{key}: {message}");
        }
        let mut missing = tiny();
        missing.as_object_mut().unwrap().remove("num_layers");
        let message = MgtConfig::from_json(&missing.to_string()).unwrap_err().to_string();
        assert!(message.contains("num_layers"), "{message}");
    }
}
