use burn::tensor::Device;
use editmgt_core::config::{self, ConfigError, ConfigKeys, MAX_EXTENT, UnknownKeys};
use editmgt_core::{KeyMap, TransformerSpec};
use serde::{Deserialize, Serialize};

use crate::UVit2DModel;

const COMPONENT: &str = "transformer";

/// Blocks of a stack, at most: a module is built for each, lazy parameters or not.
const MAX_BLOCKS: usize = 1024;

/// Values of the micro-conditions.
const MICRO_VALUES: usize = 5;

/// The `config.json` of a folder with a `UVit2DModel`.
///
/// Absent keys have the defaults of the class of diffusers, which are those of
/// [`amused_512`](Self::amused_512) but for its 2x2 merging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UVit2DConfig {
    /// Width of the layers: channels of a token between `project_to_hidden` and
    /// `project_from_hidden`.
    pub hidden_size: usize,
    /// Biases in linear layers and convolutions; only `false` is supported.
    pub use_bias: bool,
    /// Width of the pooled text vector.
    pub cond_embed_dim: usize,
    /// Channels of each embedded micro-condition; even.
    pub micro_cond_encode_dim: usize,
    /// Channels of all embedded micro-conditions: five times
    /// [`micro_cond_encode_dim`](Self::micro_cond_encode_dim).
    pub micro_cond_embed_dim: usize,
    /// Width of the text encoder's rows.
    pub encoder_hidden_size: usize,
    /// Rows of the embedding table; the last one is the mask token.
    pub vocab_size: usize,
    /// Number of codes of the codec, and of classes of the logits.
    pub codebook_size: usize,
    /// Channels of the embedding table and between the convolutions of the head.
    pub in_channels: usize,
    /// Channels of a token in the convolutional blocks.
    pub block_out_channels: usize,
    /// Convolutional blocks on the way in, and as many on the way out.
    pub num_res_blocks: usize,
    /// Whether 2x2 tokens are merged on the way in.
    pub downsample: bool,
    /// Whether they are split again on the way out; must equal [`downsample`](Self::downsample).
    pub upsample: bool,
    /// Attention heads of the convolutional blocks.
    pub block_num_heads: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads of the layers.
    pub num_attention_heads: usize,
    /// Channels inside a layer's feed-forward network, after its gate.
    pub intermediate_size: usize,
    /// Added to mean squares and variances.
    pub layer_norm_eps: f64,
    /// Weights of norms; only `true` is supported.
    pub ln_elementwise_affine: bool,
    /// Side of the token grid of the training images: times the codec's factor it is the default
    /// size of a generated image. The model takes any grid.
    pub sample_size: usize,
}

impl Default for UVit2DConfig {
    /// The defaults of the class.
    fn default() -> Self {
        Self {
            hidden_size: 1024,
            use_bias: false,
            cond_embed_dim: 768,
            micro_cond_encode_dim: 256,
            micro_cond_embed_dim: 1280,
            encoder_hidden_size: 768,
            vocab_size: 8256,
            codebook_size: 8192,
            in_channels: 768,
            block_out_channels: 768,
            num_res_blocks: 3,
            downsample: false,
            upsample: false,
            block_num_heads: 12,
            num_hidden_layers: 22,
            num_attention_heads: 16,
            intermediate_size: 2816,
            layer_norm_eps: 1e-6,
            ln_elementwise_affine: true,
            sample_size: 64,
        }
    }
}

impl UVit2DConfig {
    /// amused-512: 608,257,792 parameters in 478 tensors, for 512-pixel images.
    pub fn amused_512() -> Self {
        Self { downsample: true, upsample: true, sample_size: 32, ..Self::default() }
    }

    /// amused-256: 603,537,664 parameters in 474 tensors, for 256-pixel images.
    pub fn amused_256() -> Self {
        Self { sample_size: 16, ..Self::default() }
    }

    /// Parses the text of a `config.json` and checks it.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for a mistyped key, [`ConfigError::UnknownKeys`],
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
        // Only training drops out.
        keys.ignore(&["hidden_dropout", "attention_dropout"]);
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
        for (key, value, max) in [
            ("hidden_size", self.hidden_size, MAX_EXTENT),
            ("cond_embed_dim", self.cond_embed_dim, MAX_EXTENT),
            ("micro_cond_encode_dim", self.micro_cond_encode_dim, MAX_EXTENT),
            ("encoder_hidden_size", self.encoder_hidden_size, MAX_EXTENT),
            ("vocab_size", self.vocab_size, MAX_EXTENT),
            ("codebook_size", self.codebook_size, MAX_EXTENT),
            ("in_channels", self.in_channels, MAX_EXTENT),
            ("block_out_channels", self.block_out_channels, MAX_EXTENT),
            ("num_res_blocks", self.num_res_blocks, MAX_BLOCKS),
            ("block_num_heads", self.block_num_heads, MAX_EXTENT),
            ("num_hidden_layers", self.num_hidden_layers, MAX_BLOCKS),
            ("num_attention_heads", self.num_attention_heads, MAX_EXTENT),
            ("intermediate_size", self.intermediate_size, MAX_EXTENT),
            ("sample_size", self.sample_size, MAX_EXTENT),
        ] {
            config::check_range(COMPONENT, key, value, 1..=max)?;
        }
        require(!self.use_bias, "use_bias", &false, &self.use_bias)?;
        require(
            self.ln_elementwise_affine,
            "ln_elementwise_affine",
            &true,
            &self.ln_elementwise_affine,
        )?;
        require(
            self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0,
            "layer_norm_eps",
            &"a number between 0 and 1",
            &self.layer_norm_eps,
        )?;
        require(
            self.micro_cond_encode_dim.is_multiple_of(2),
            "micro_cond_encode_dim",
            &"an even number, half of it for cosines",
            &self.micro_cond_encode_dim,
        )?;
        let micro = MICRO_VALUES * self.micro_cond_encode_dim;
        require(
            self.micro_cond_embed_dim == micro,
            "micro_cond_embed_dim",
            &format!("{micro}, five times micro_cond_encode_dim"),
            &self.micro_cond_embed_dim,
        )?;
        require(
            self.vocab_size > self.codebook_size,
            "vocab_size",
            &format!(
                "more than the {} codes, the last row being the mask token",
                self.codebook_size
            ),
            &self.vocab_size,
        )?;
        require(
            self.downsample == self.upsample,
            "upsample",
            &format!("{} like downsample", self.downsample),
            &self.upsample,
        )?;
        for (key, heads, width) in [
            ("block_num_heads", self.block_num_heads, self.block_out_channels),
            ("num_attention_heads", self.num_attention_heads, self.hidden_size),
        ] {
            let expected = format!("a divisor of the {width} channels");
            require(width.is_multiple_of(heads), key, &expected, &heads)?;
        }
        Ok(())
    }

    /// The sizes of the model, for the other stages. Its convolutional blocks come first among the
    /// blocks, those of the way in and then those of the way out; its layers stand where other
    /// models have single blocks.
    pub fn spec(&self) -> TransformerSpec {
        TransformerSpec {
            codebook_size: self.codebook_size,
            mask_token: self.vocab_size.saturating_sub(1) as u32,
            double_blocks: self.num_res_blocks.saturating_mul(2),
            single_blocks: self.num_hidden_layers,
            grid_factor: if self.downsample { 2 } else { 1 },
            text_size: self.encoder_hidden_size,
            pooled_size: self.cond_embed_dim,
        }
    }

    /// The differences between the official checkpoint's keys and the fields of the modules.
    pub fn keys(&self) -> KeyMap {
        KeyMap::renames([
            // Convolutions are fields of the type of their weight.
            (r"\b(conv[12]?|depthwise)$", "$1.weight"),
            // Members of sequences are numbered; dropout and activations are members, too.
            (r"\.to_out\.", ".to_out.0."),
            (r"\.ff\.proj_in\.", ".ff.net.0.proj."),
            (r"\.ff\.proj_out\.", ".ff.net.2."),
        ])
    }

    /// Builds the model; no parameter is allocated until it is loaded or used.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<UVit2DModel, ConfigError> {
        self.validate()?;
        Ok(UVit2DModel::new(self, device))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_keys_have_the_defaults_of_the_class() {
        let text = r#"{"_class_name": "UVit2DModel", "hidden_dropout": 0.1}"#;
        assert_eq!(UVit2DConfig::from_json(text).unwrap(), UVit2DConfig::default());
        for config in [UVit2DConfig::amused_512(), UVit2DConfig::amused_256()] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(UVit2DConfig::from_json(&text).unwrap(), config);
        }
    }

    #[test]
    fn from_json_rejects_unsupported_values_by_name() {
        for (key, value, named) in [
            ("use_bias", json!(true), "use_bias"),
            ("ln_elementwise_affine", json!(false), "ln_elementwise_affine"),
            ("micro_cond_embed_dim", json!(1281), "1280, five times"),
            ("micro_cond_encode_dim", json!(255), "even"),
            ("upsample", json!(true), "upsample"),
            ("block_num_heads", json!(7), "768 channels"),
            ("num_attention_heads", json!(0), "num_attention_heads"),
            ("num_hidden_layers", json!(1_000_000), "num_hidden_layers"),
            ("block_out_channels", json!([768, 768]), "block_out_channels"),
            ("vocab_size", json!(8192), "vocab_size"),
            ("layer_norm_eps", json!(0.0), "layer_norm_eps"),
            ("hidden_size", json!(-1), "-1"),
            ("qk_norm", json!(true), "qk_norm"),
        ] {
            let message =
                UVit2DConfig::from_json(&json!({key: value}).to_string()).unwrap_err().to_string();
            assert!(message.contains(named), "{key}: {message}");
        }
    }
}
