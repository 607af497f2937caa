use burn::tensor::Device;
use editmgt_core::config::{self, ConfigError, ConfigKeys, MAX_EXTENT, UnknownKeys};
use editmgt_core::{CodecSpec, KeyMap};
use serde::{Deserialize, Serialize};

use crate::PatchVqModel;
use crate::limits::{MAX_LAYERS, MAX_LEVELS};

const COMPONENT: &str = "patch-local VQ codec";

/// The `config.json` of a patch-local codec (`"_class_name": "PatchVqModel"`).
///
/// All keys are required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchVqConfig {
    /// Widths of the encoder's hidden layers, first to last; may be empty.
    pub encoder_channels: Vec<usize>,
    /// Channels of a code.
    pub code_channels: usize,
    /// Number of codes.
    pub num_codes: usize,
    /// Channels of the decoder at each level, coarsest first. Every level doubles both sides, so
    /// a token covers `2^levels` pixels along each side.
    pub decoder_channels: Vec<usize>,
    /// Residual blocks at each level of the decoder.
    pub blocks_per_level: usize,
}

impl PatchVqConfig {
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
        let config: Self = ConfigKeys::read(COMPONENT, text, unknown_keys)?.parse()?;
        config.validate()?;
        Ok(config)
    }

    /// Checks that every size is within its limits.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] with the key, the supported values and the actual one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |key, got, range| config::check_range(COMPONENT, key, got, range);
        within("encoder_channels (layers)", self.encoder_channels.len(), 0..=MAX_LAYERS)?;
        within("decoder_channels (levels)", self.decoder_channels.len(), 1..=MAX_LEVELS)?;
        within("blocks_per_level", self.blocks_per_level, 0..=MAX_LAYERS)?;
        within("code_channels", self.code_channels, 1..=MAX_EXTENT)?;
        within("num_codes", self.num_codes, 1..=MAX_EXTENT)?;
        for &channels in &self.encoder_channels {
            within("encoder_channels", channels, 1..=MAX_EXTENT)?;
        }
        for &channels in &self.decoder_channels {
            within("decoder_channels", channels, 1..=MAX_EXTENT)?;
        }
        Ok(())
    }

    /// The sizes of the codec, for the other stages.
    pub fn spec(&self) -> CodecSpec {
        let doublings = self.decoder_channels.len().min(MAX_LEVELS);
        CodecSpec { downsample_factor: 1 << doublings, codebook_size: self.num_codes }
    }

    /// The differences between parameter paths and the keys of a checkpoint: none.
    pub fn keys(&self) -> KeyMap {
        KeyMap::default()
    }

    /// Builds the codec with lazy random parameters, which are allocated when they are first read.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn init(&self, device: &Device) -> Result<PatchVqModel, ConfigError> {
        self.validate()?;
        Ok(PatchVqModel::new(self, device))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn small() -> Value {
        json!({
            "encoder_channels": [256, 256],
            "code_channels": 16,
            "num_codes": 1024,
            "decoder_channels": [96, 48, 24],
            "blocks_per_level": 2,
        })
    }

    #[test]
    fn config_round_trips_through_json() {
        let mut config = small();
        config["_class_name"] = json!("PatchVqModel");
        let config = PatchVqConfig::from_json(&config.to_string()).unwrap();
        assert_eq!(config.spec(), CodecSpec { downsample_factor: 8, codebook_size: 1024 });
        assert_eq!(serde_json::to_value(config).unwrap(), small());
    }

    #[test]
    fn all_keys_are_required() {
        for key in small().as_object().unwrap().keys() {
            let mut config = small();
            config.as_object_mut().unwrap().remove(key);
            let message = PatchVqConfig::from_json(&config.to_string()).unwrap_err().to_string();
            assert!(message.contains(key), "{key}: {message}");
        }
    }

    #[test]
    fn from_json_rejects_invalid_sizes_by_name() {
        for (key, value, named) in [
            ("encoder_channels", json!([256, 0]), "encoder_channels"),
            ("encoder_channels", json!(vec![8; 65]), "layers"),
            ("code_channels", json!(0), "code_channels"),
            ("code_channels", json!(u64::MAX), "code_channels"),
            ("num_codes", json!(0), "num_codes"),
            ("num_codes", json!(-1), "-1"),
            ("decoder_channels", json!([]), "levels"),
            ("decoder_channels", json!(vec![8; 17]), "levels"),
            ("decoder_channels", json!([96, 0]), "decoder_channels"),
            ("blocks_per_level", json!(65), "blocks_per_level"),
            ("patch_size", json!(8), "patch_size"),
        ] {
            let mut config = small();
            config[key] = value;
            let message = PatchVqConfig::from_json(&config.to_string()).unwrap_err().to_string();
            assert!(message.contains(named), "{key}: {message}");
        }
    }
}
