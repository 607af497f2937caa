//! Strict reading of a component's `config.json`.
//!
//! A config decides the maths, so nothing in it may be passed over in silence: a key that is
//! neither used nor known to be harmless is an error, as is a missing one.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What is wrong with a `config.json`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, a missing key, a key of the wrong type, or a key nobody knows.
    #[error("{component} config: {message}")]
    Parse {
        /// The component, for instance `"VQ codec"`.
        component: &'static str,
        /// What the parser says.
        message: String,
    },
    /// A value that the code has no maths for.
    #[error("{component} config: {key}: expected {expected}, got {got}")]
    Unsupported {
        /// The component.
        component: &'static str,
        /// The key.
        key: &'static str,
        /// What is supported.
        expected: String,
        /// What came.
        got: String,
    },
}

impl ConfigError {
    /// An unsupported value.
    pub fn unsupported(
        component: &'static str,
        key: &'static str,
        expected: impl ToString,
        got: impl ToString,
    ) -> Self {
        Self::Unsupported { component, key, expected: expected.to_string(), got: got.to_string() }
    }
}

/// Parses `text` into `T`, which should be `#[serde(deny_unknown_fields)]`, after dropping the
/// keys of `harmless`: those that the official files carry and that don't change inference
/// (training rates, class names, versions).
///
/// # Errors
/// [`ConfigError::Parse`] with the parser's message, which names the key.
pub fn parse<T: DeserializeOwned>(
    component: &'static str,
    text: &str,
    harmless: &[&str],
) -> Result<T, ConfigError> {
    let error = |e: serde_json::Error| ConfigError::Parse { component, message: e.to_string() };
    let mut value: Value = serde_json::from_str(text).map_err(error)?;
    let Some(map) = value.as_object_mut() else {
        return Err(ConfigError::Parse {
            component,
            message: format!("expected an object, got {}", kind(&value)),
        });
    };
    map.retain(|key, _| !harmless.contains(&key.as_str()));
    T::deserialize(&*map).map_err(|e| {
        let message = e.to_string();
        match mistyped::<T>(map, &message) {
            Some(key) => ConfigError::Parse { component, message: format!("{key}: {message}") },
            None => ConfigError::Parse { component, message },
        }
    })
}

/// The key of a value that serde calls `invalid`. Its message names a key that is missing or
/// unknown, but not this one: the keys up to it are the fewest that give the same message.
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
    fn strict_but_for_harmless_keys() {
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
