use editmgt_core::config::{ConfigError, UnknownKeys};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{PatchVqConfig, VqConfig};

const COMPONENT: &str = "VQ codec";
const OFFICIAL: &str = "VQModel";
const PATCH: &str = "PatchVqModel";

/// The `config.json` of a codec folder. Its `_class_name` selects the codec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "_class_name", try_from = "Value")]
pub enum CodecConfig {
    /// The official codec.
    #[serde(rename = "VQModel")]
    Official(VqConfig),
    /// The patch-local codec.
    #[serde(rename = "PatchVqModel")]
    Patch(PatchVqConfig),
}

impl CodecConfig {
    /// Parses the text of a `config.json`; without a class name as the official codec's.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for another class, and the errors of the codec's own config.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::from_json_with(text, UnknownKeys::Refuse)
    }

    /// Reads the text of a `config.json`, as strictly as `unknown_keys` says.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json); with [`UnknownKeys::Accept`] none for an unknown
    /// key.
    pub fn from_json_with(text: &str, unknown_keys: UnknownKeys) -> Result<Self, ConfigError> {
        // The official codec's parser reports text that is not an object.
        let value = serde_json::from_str(text).unwrap_or(Value::Null);
        match value.get("_class_name").map(|name| name.as_str().ok_or(name)) {
            None | Some(Ok(OFFICIAL)) => {
                Ok(Self::Official(VqConfig::from_json_with(text, unknown_keys)?))
            }
            Some(Ok(PATCH)) => Ok(Self::Patch(PatchVqConfig::from_json_with(text, unknown_keys)?)),
            Some(other) => {
                let got = other.map_or_else(Value::to_string, str::to_owned);
                let expected = format!("{OFFICIAL} or {PATCH}");
                Err(ConfigError::unsupported(COMPONENT, "_class_name", expected, got))
            }
        }
    }
}

impl TryFrom<Value> for CodecConfig {
    type Error = ConfigError;

    fn try_from(value: Value) -> Result<Self, ConfigError> {
        Self::from_json(&value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_name_selects_the_codec() {
        let patch = PatchVqConfig {
            encoder_channels: vec![8],
            code_channels: 4,
            num_codes: 16,
            decoder_channels: vec![8, 4],
            blocks_per_level: 1,
        };
        for config in [CodecConfig::Official(VqConfig::official()), CodecConfig::Patch(patch)] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(CodecConfig::from_json(&text).unwrap(), config);
            assert_eq!(serde_json::from_str::<CodecConfig>(&text).unwrap(), config);
        }
        let nameless = serde_json::to_string(&VqConfig::official()).unwrap();
        assert!(matches!(CodecConfig::from_json(&nameless), Ok(CodecConfig::Official(_))));
    }

    #[test]
    fn from_json_rejects_other_classes() {
        for (text, named) in [
            (r#"{"_class_name": "AutoencoderKL"}"#, "VQModel or PatchVqModel, got AutoencoderKL"),
            (r#"{"_class_name": 3}"#, "VQModel or PatchVqModel, got 3"),
            (r#"{"_class_name": "PatchVqModel"}"#, "encoder_channels"),
            ("[]", "array"),
            ("{", "EOF"),
        ] {
            let message = CodecConfig::from_json(text).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
        }
    }
}
