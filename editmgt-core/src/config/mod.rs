//! Strict reading of a component's `config.json`.
//!
//! A config determines the computation, so no key is ignored silently: a key that is neither used
//! nor known to be irrelevant is an error, as is a missing one. [`ConfigKeys`] reads files as
//! transformers and diffusers write them, with the bookkeeping of these libraries; [`parse`] reads
//! this program's own formats.

mod bookkeeping;
mod keys;

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::keys::{ConfigKeys, UnknownKeys};

/// Upper limit of widths, table sizes and channel counts of a config: far above any real model, and
/// small enough that no product of two overflows.
pub const MAX_EXTENT: usize = 1 << 24;

/// An invalid `config.json`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, a missing key, a key of the wrong type, or an unknown key.
    #[error("{component} config: {message}")]
    Parse {
        /// The component, for instance `"VQ codec"`.
        component: &'static str,
        /// The parser's message.
        message: String,
    },
    /// Keys that are neither read nor known to be irrelevant.
    #[error(
        "{component} config: unknown {}: the results may depend on {}; if they do not, ignore {} with \
         --accept-unknown-keys (in the library: LoadOptions::accept_unknown_keys)",
        list(keys),
        them(keys),
        them(keys)
    )]
    UnknownKeys {
        /// The component.
        component: &'static str,
        /// The keys, in the order of their names.
        keys: Vec<String>,
    },
    /// A value that is not supported.
    #[error("{component} config: {key}: expected {expected}, got {got}")]
    Unsupported {
        /// The component.
        component: &'static str,
        /// The key.
        key: &'static str,
        /// The supported values.
        expected: String,
        /// The actual value.
        got: String,
    },
}

impl ConfigError {
    /// A [`ConfigError::Unsupported`].
    pub fn unsupported(
        component: &'static str,
        key: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Self {
        Self::Unsupported { component, key, expected: expected.to_string(), got: got.to_string() }
    }
}

fn list(keys: &[String]) -> String {
    let noun = if keys.len() == 1 { "key" } else { "keys" };
    let names: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
    format!("{noun} {}", names.join(", "))
}

fn them(keys: &[String]) -> &'static str {
    if keys.len() == 1 { "it" } else { "them" }
}

/// Checks that the value of a key is within a range.
///
/// # Errors
/// [`ConfigError::Unsupported`] with the range.
pub fn check_range(
    component: &'static str,
    key: &'static str,
    got: usize,
    range: RangeInclusive<usize>,
) -> Result<(), ConfigError> {
    if range.contains(&got) {
        return Ok(());
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(ConfigError::unsupported(component, key, expected, got))
}

/// Parses `text` into `T`, which should be `#[serde(deny_unknown_fields)]`, after removing the keys
/// of `harmless`. For this program's own formats; see [`ConfigKeys`] for those of other libraries.
///
/// # Errors
/// [`ConfigError::Parse`] with the parser's message, which names the key.
pub fn parse<T: DeserializeOwned>(
    component: &'static str,
    text: &str,
    harmless: &[&str],
) -> Result<T, ConfigError> {
    let mut map = object(component, text)?;
    map.retain(|key, _| !harmless.contains(&key.as_str()));
    deserialize(component, &map)
}

/// The JSON object in `text`.
fn object(component: &'static str, text: &str) -> Result<Map<String, Value>, ConfigError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(value) => Err(ConfigError::Parse {
            component,
            message: format!("expected an object, got {}", kind(&value)),
        }),
        Err(e) => Err(ConfigError::Parse { component, message: e.to_string() }),
    }
}

fn deserialize<T: DeserializeOwned>(
    component: &'static str,
    map: &Map<String, Value>,
) -> Result<T, ConfigError> {
    T::deserialize(map).map_err(|e| {
        let message = e.to_string();
        match mistyped::<T>(map, &message) {
            Some(key) => ConfigError::Parse { component, message: format!("{key}: {message}") },
            None => ConfigError::Parse { component, message },
        }
    })
}

/// The key of a value that serde calls `invalid`. serde's message names missing and unknown keys
/// but not this one; it is the last of the shortest prefix of keys that gives the same message.
fn mistyped<'a, T: DeserializeOwned>(
    map: &'a Map<String, Value>,
    message: &str,
) -> Option<&'a String> {
    let keys = || map.iter().map(|(key, value)| (key.clone(), value.clone()));
    let end = message.starts_with("invalid ").then(|| {
        (1..=map.len()).find(|&end| {
            let part: Map<_, _> = keys().take(end).collect();
            T::deserialize(&part).is_err_and(|e| e.to_string() == message)
        })
    })??;
    map.keys().nth(end - 1)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tiny {
        width: usize,
    }

    #[test]
    fn parse_rejects_all_but_harmless_unknown_keys() {
        let parse = |text| parse::<Tiny>("tiny", text, &["_version"]);
        assert_eq!(parse(r#"{"width": 3, "_version": "1"}"#).unwrap().width, 3);
        for (bad, named) in [
            (r#"{"width": 3, "depth": 4}"#, "depth"),
            (r#"{"_version": "1"}"#, "width"),
            (r#"{"width": "3"}"#, "width: invalid type: string"),
            (r#"{"_version": [], "width": -1}"#, "width: invalid value"),
            ("[3]", "array"),
            ("{", "EOF"),
        ] {
            let message = parse(bad).unwrap_err().to_string();
            assert!(message.contains(named), "{bad}: {message}");
        }
    }
}
