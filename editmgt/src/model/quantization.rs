//! Which components of a model have their weights in 8 or 4 bits.

use std::fmt;

use editmgt_checkpoint::WeightBits;
use serde::{Deserialize, Serialize};

/// The bits of the weights of each component; `None` for weights that are not quantised, and for a
/// component that the model doesn't have. The codec's never are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelQuantization {
    /// The transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<WeightBits>,
    /// CLIP's text tower, or the small text encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<WeightBits>,
    /// Gemma 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_encoder: Option<WeightBits>,
}

impl ModelQuantization {
    /// Whether no component is quantised.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, WeightBits)> {
        let Self { transformer, text_encoder, llm_encoder } = *self;
        let parts = [
            ("transformer", transformer),
            ("text_encoder", text_encoder),
            ("llm_encoder", llm_encoder),
        ];
        parts.into_iter().filter_map(|(part, bits)| Some((part, bits?)))
    }
}

impl fmt::Display for ModelQuantization {
    /// `transformer in 8 bits, llm_encoder in 4 bits`, or `no quantised weights`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("no quantised weights");
        }
        let parts: Vec<String> =
            self.parts().map(|(part, bits)| format!("{part} in {bits}")).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_text_name_quantised_components_only() {
        let some = ModelQuantization {
            transformer: Some(WeightBits::Eight),
            llm_encoder: Some(WeightBits::Four),
            ..ModelQuantization::default()
        };
        let json = r#"{"transformer":8,"llm_encoder":4}"#;
        assert_eq!(serde_json::to_string(&some).unwrap(), json);
        assert_eq!(serde_json::from_str::<ModelQuantization>(json).unwrap(), some);
        assert_eq!(some.to_string(), "transformer in 8 bits, llm_encoder in 4 bits");
        assert!(serde_json::from_str::<ModelQuantization>("{}").unwrap().is_none());
        assert!(serde_json::from_str::<ModelQuantization>(r#"{"transformer":5}"#).is_err());
    }
}
