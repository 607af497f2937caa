use burn::tensor::Device;
use editmgt_core::config::{self, ConfigError, ConfigKeys, MAX_EXTENT, UnknownKeys};
use editmgt_core::{CodecSpec, KeyMap};
use serde::{Deserialize, Deserializer, Serialize};

use crate::VqModel;
use crate::images::IMAGE_CHANNELS;
use crate::limits::{MAX_LAYERS, MAX_LEVELS};

const COMPONENT: &str = "VQ codec";

const DOWN_BLOCK: &str = "DownEncoderBlock2D";
const UP_BLOCK: &str = "UpDecoderBlock2D";

/// The `config.json` of a `vqvae` folder (diffusers `VQModel`).
///
/// All keys are required. Keys with one supported value are kept so that a written config is
/// complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqConfig {
    /// Channels of an image to encode; only 3 (RGB).
    pub in_channels: usize,
    /// Channels of a decoded image; only 3 (RGB).
    pub out_channels: usize,
    /// Channels at each resolution, finest first. Every step to the next halves both sides, so
    /// a token covers `2^(levels - 1)` pixels along each side.
    pub block_out_channels: Vec<usize>,
    /// One per resolution; only `DownEncoderBlock2D`.
    pub down_block_types: Vec<String>,
    /// One per resolution; only `UpDecoderBlock2D`.
    pub up_block_types: Vec<String>,
    /// Residual blocks at each resolution of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Attention in the middle; only `false`.
    pub mid_block_add_attention: bool,
    /// Channels between the encoder or decoder and the 1x1 convolution at the codebook.
    pub latent_channels: usize,
    /// Channels of a code; `None` stands for [`latent_channels`](Self::latent_channels).
    // Without the attribute an absent key would be read as null.
    #[serde(deserialize_with = "present")]
    pub vq_embed_dim: Option<usize>,
    /// Number of codes.
    pub num_vq_embeddings: usize,
    /// Whether token ids are decoded by looking up their codes; only `true`.
    pub lookup_from_codebook: bool,
    /// Groups of every group norm; divides the channels of every resolution.
    pub norm_num_groups: usize,
    /// Kind of norm; only `group`.
    pub norm_type: String,
    /// Activation; only `silu`.
    pub act_fn: String,
    /// Whether f16 weights run in f32 (see [`VqModel`]).
    pub force_upcast: bool,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    Option::deserialize(value)
}

impl VqConfig {
    /// The full-size codec: 16 pixels per token, 8192 codes, 146,244,675 parameters in 277
    /// tensors.
    ///
    /// Source: the constructor in the aMUSEd conversion script of diffusers, whose VQ-GAN the
    /// official model takes over.
    pub fn official() -> Self {
        Self {
            in_channels: IMAGE_CHANNELS,
            out_channels: IMAGE_CHANNELS,
            block_out_channels: Vec::new(),
            down_block_types: Vec::new(),
            up_block_types: Vec::new(),
            layers_per_block: 2,
            mid_block_add_attention: false,
            latent_channels: 64,
            vq_embed_dim: None,
            num_vq_embeddings: 8192,
            lookup_from_codebook: true,
            norm_num_groups: 32,
            norm_type: "group".into(),
            act_fn: "silu".into(),
            force_upcast: true,
        }
        .with_block_out_channels([128, 256, 256, 512, 768])
    }

    /// Sets the channels, finest resolution first, and the block types to match.
    pub fn with_block_out_channels(mut self, channels: impl Into<Vec<usize>>) -> Self {
        self.block_out_channels = channels.into();
        self.down_block_types = vec![DOWN_BLOCK.into(); self.block_out_channels.len()];
        self.up_block_types = vec![UP_BLOCK.into(); self.block_out_channels.len()];
        self
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
        // The size of training images, and a factor for models with continuous latents.
        keys.ignore(&["sample_size", "scaling_factor"]);
        let config: Self = keys.parse()?;
        config.validate()?;
        Ok(config)
    }

    /// Checks that the sizes match each other and that every value is supported.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] with the key, the supported values and the actual one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let levels = self.block_out_channels.len();
        require("in_channels", self.in_channels, IMAGE_CHANNELS)?;
        require("out_channels", self.out_channels, IMAGE_CHANNELS)?;
        within("block_out_channels (resolutions)", levels, MAX_LEVELS)?;
        within("layers_per_block", self.layers_per_block, MAX_LAYERS)?;
        within("latent_channels", self.latent_channels, MAX_EXTENT)?;
        within("vq_embed_dim", self.code_channels(), MAX_EXTENT)?;
        within("num_vq_embeddings", self.num_vq_embeddings, MAX_EXTENT)?;
        within("norm_num_groups", self.norm_num_groups, MAX_EXTENT)?;
        for &channels in &self.block_out_channels {
            within("block_out_channels", channels, MAX_EXTENT)?;
            if channels % self.norm_num_groups != 0 {
                let expected = format!("multiples of norm_num_groups ({})", self.norm_num_groups);
                return unsupported("block_out_channels", expected, channels);
            }
        }
        for (key, types, kind) in [
            ("down_block_types", &self.down_block_types, DOWN_BLOCK),
            ("up_block_types", &self.up_block_types, UP_BLOCK),
        ] {
            if types.len() != levels || types.iter().any(|name| name != kind) {
                return unsupported(key, format!("{levels} times {kind:?}"), format!("{types:?}"));
            }
        }
        require("mid_block_add_attention", self.mid_block_add_attention, false)?;
        require("lookup_from_codebook", self.lookup_from_codebook, true)?;
        require("norm_type", self.norm_type.as_str(), "group")?;
        require("act_fn", self.act_fn.as_str(), "silu")
    }

    /// The sizes of the codec, for the other stages.
    pub fn spec(&self) -> CodecSpec {
        let halvings = self.block_out_channels.len().saturating_sub(1).min(MAX_LEVELS);
        CodecSpec { downsample_factor: 1 << halvings, codebook_size: self.num_vq_embeddings }
    }

    /// Channels of a code.
    pub fn code_channels(&self) -> usize {
        self.vq_embed_dim.unwrap_or(self.latent_channels)
    }

    /// The differences between parameter paths and the keys of the official file: none.
    pub fn keys(&self) -> KeyMap {
        KeyMap::default()
    }

    /// Builds the codec with lazy random parameters, which are allocated when they are first read.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<VqModel, ConfigError> {
        self.validate()?;
        Ok(VqModel::new(self, device))
    }
}

fn require<T: PartialEq + ToString>(key: &'static str, got: T, only: T) -> Result<(), ConfigError> {
    if got == only { Ok(()) } else { unsupported(key, only, got) }
}

fn within(key: &'static str, got: usize, most: usize) -> Result<(), ConfigError> {
    config::check_range(COMPONENT, key, got, 1..=most)
}

fn unsupported(
    key: &'static str,
    expected: impl ToString,
    got: impl ToString,
) -> Result<(), ConfigError> {
    Err(ConfigError::unsupported(COMPONENT, key, expected, got))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn official() -> Value {
        serde_json::to_value(VqConfig::official()).unwrap()
    }

    #[test]
    fn config_round_trips_with_harmless_keys() {
        let mut config = official();
        for (key, value) in [
            ("_class_name", json!("VQModel")),
            ("_diffusers_version", json!("0.32.1")),
            ("sample_size", json!(32)),
            ("scaling_factor", json!(0.18215)),
        ] {
            config[key] = value;
        }
        assert_eq!(VqConfig::from_json(&config.to_string()).unwrap(), VqConfig::official());
    }

    #[test]
    fn all_keys_are_required() {
        for key in official().as_object().unwrap().keys() {
            let mut config = official();
            config.as_object_mut().unwrap().remove(key);
            let message = VqConfig::from_json(&config.to_string()).unwrap_err().to_string();
            assert!(message.contains(key), "{key}: {message}");
        }
    }

    #[test]
    fn from_json_rejects_unsupported_values_by_name() {
        let down = |n| json!(vec![DOWN_BLOCK; n]);
        for (key, value, named) in [
            ("act_fn", json!("relu"), "relu"),
            ("norm_type", json!("spatial"), "spatial"),
            ("mid_block_add_attention", json!(true), "mid_block_add_attention"),
            ("lookup_from_codebook", json!(false), "lookup_from_codebook"),
            ("in_channels", json!(1), "expected 3, got 1"),
            ("out_channels", json!(4), "expected 3, got 4"),
            ("down_block_types", down(4), "down_block_types"),
            ("up_block_types", down(5), UP_BLOCK),
            ("block_out_channels", json!([]), "resolutions"),
            ("block_out_channels", json!([64, 128]), "down_block_types"),
            ("block_out_channels", json!([128, 256, 256, 512, 0]), "block_out_channels"),
            ("block_out_channels", json!([128, 256, 256, 512, 700]), "norm_num_groups (32)"),
            ("block_out_channels", json!(vec![32; 64]), "resolutions"),
            ("norm_num_groups", json!(0), "norm_num_groups"),
            ("norm_num_groups", json!(48), "norm_num_groups (48)"),
            ("layers_per_block", json!(0), "layers_per_block"),
            ("latent_channels", json!(0), "latent_channels"),
            ("latent_channels", json!(u64::MAX), "latent_channels"),
            ("vq_embed_dim", json!(0), "vq_embed_dim"),
            ("num_vq_embeddings", json!(0), "num_vq_embeddings"),
            ("num_vq_embeddings", json!(-1), "-1"),
            ("double_z", json!(true), "double_z"),
        ] {
            let mut config = official();
            config[key] = value;
            let message = VqConfig::from_json(&config.to_string()).unwrap_err().to_string();
            assert!(message.contains(named), "{key}: {message}");
        }
    }
}
