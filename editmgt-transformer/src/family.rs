use editmgt_core::config::{ConfigError, UnknownKeys};
use editmgt_core::{KeyMap, TransformerSpec};
use serde_json::Value;

use crate::{MgtConfig, TextArchitecture, UVit2DConfig};

const COMPONENT: &str = "transformer";

const MEISSONIC: &str = "Transformer2DModel";
const MUDDIT: &str = "SymmetricTransformer2DModel";
const AMUSED: &str = "UVit2DModel";

/// The `config.json` of a transformer folder. Its `_class_name` selects the family.
///
/// ```
/// use editmgt_transformer::{TransformerConfig, UVit2DConfig};
///
/// let text = r#"{"_class_name": "UVit2DModel", "downsample": true, "upsample": true, "sample_size": 32}"#;
/// let config = TransformerConfig::from_json(text)?;
/// assert_eq!(config, TransformerConfig::Amused(UVit2DConfig::amused_512()));
/// assert_eq!(config.spec().mask_token, 8255);
/// # Ok::<(), editmgt_core::config::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TransformerConfig {
    /// Meissonic, EditMGT, Monetico.
    Meissonic(MgtConfig),
    /// Muddit: the same architecture, with a head that predicts text, which is not read. Its
    /// inference code has a timestep of its own.
    Muddit(MgtConfig),
    /// aMUSEd.
    Amused(UVit2DConfig),
}

impl TransformerConfig {
    /// Parses the text of a `config.json`; without a class name as of Meissonic's family.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for another class, and the errors of the family's own config.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::from_json_with(text, UnknownKeys::Refuse)
    }

    /// Reads the text of a `config.json`, as strictly as `unknown_keys` says.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json); with [`UnknownKeys::Accept`] none for an unknown
    /// key.
    pub fn from_json_with(text: &str, unknown_keys: UnknownKeys) -> Result<Self, ConfigError> {
        // The parser of Meissonic's family reports text that is not an object.
        let value = serde_json::from_str(text).unwrap_or(Value::Null);
        match value.get("_class_name").map(|name| name.as_str().ok_or(name)) {
            Some(Ok(AMUSED)) => Ok(Self::Amused(UVit2DConfig::from_json_with(text, unknown_keys)?)),
            Some(Ok(MUDDIT)) => Ok(Self::Muddit(MgtConfig::from_json_with(text, unknown_keys)?)),
            None | Some(Ok(MEISSONIC)) => {
                Ok(Self::Meissonic(MgtConfig::from_json_with(text, unknown_keys)?))
            }
            Some(other) => {
                let got = other.map_or_else(Value::to_string, str::to_owned);
                let expected = format!("{MEISSONIC}, {MUDDIT} or {AMUSED}");
                Err(ConfigError::unsupported(COMPONENT, "_class_name", expected, got))
            }
        }
    }

    /// The text encoders with which the model was trained.
    pub fn text_encoder_architecture(&self) -> &TextArchitecture {
        match self {
            Self::Meissonic(config) | Self::Muddit(config) => &config.text_encoder_architecture,
            Self::Amused(_) => &TextArchitecture::Clip,
        }
    }

    /// The sizes of the model, for the other stages.
    pub fn spec(&self) -> TransformerSpec {
        match self {
            Self::Meissonic(config) | Self::Muddit(config) => config.spec(),
            Self::Amused(config) => config.spec(),
        }
    }

    /// The differences between the official checkpoint's keys and the fields of the modules.
    pub fn keys(&self) -> KeyMap {
        match self {
            Self::Meissonic(config) => config.keys(),
            Self::Muddit(config) => {
                config.keys().allow_unused([r"text_decoder\.1\.weight".to_owned()])
            }
            Self::Amused(config) => config.keys(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_name_selects_the_family() {
        let mut value = serde_json::to_value(MgtConfig::official()).unwrap();
        let meissonic = TransformerConfig::Meissonic(MgtConfig::official());
        assert_eq!(TransformerConfig::from_json(&value.to_string()).unwrap(), meissonic);
        value["_class_name"] = "Transformer2DModel".into();
        assert_eq!(TransformerConfig::from_json(&value.to_string()).unwrap(), meissonic);
        value["_class_name"] = "SymmetricTransformer2DModel".into();
        value["tokenizer_vocab_size"] = 49408.into();
        value["t5_dim"] = Value::Null;
        let muddit = TransformerConfig::Muddit(MgtConfig::official());
        assert_eq!(TransformerConfig::from_json(&value.to_string()).unwrap(), muddit);
        // Only Muddit's files have the head that predicts text.
        assert_eq!(meissonic.keys().unused.len() + 1, muddit.keys().unused.len());
        for (text, named) in [
            (
                r#"{"_class_name": "FluxTransformer2DModel"}"#,
                "UVit2DModel, got FluxTransformer2DModel",
            ),
            (r#"{"_class_name": 3}"#, "UVit2DModel, got 3"),
            (r#"{"_class_name": "UVit2DModel", "num_layers": 14}"#, "num_layers"),
            (r#"{"_class_name": "Transformer2DModel", "num_res_blocks": 3}"#, "num_res_blocks"),
            ("[]", "array"),
            ("{", "EOF"),
        ] {
            let message = TransformerConfig::from_json(text).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
        }
    }
}
