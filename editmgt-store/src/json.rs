//! JSON as written by other programs.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Parses a line of JSON Lines, an object. Integers with a decimal point (`7.0`) become integers,
/// and keys with the value `null` are removed.
///
/// # Errors
/// The problem, with the column if known.
pub fn parse_object(line: &[u8]) -> Result<Map<String, Value>, String> {
    let line = crate::decode_text(line).map_err(|got| format!("expected UTF-8, got {got}"))?.trim();
    if line.starts_with('#') || line.starts_with("//") || line.starts_with("/*") {
        return Err("expected a JSON object, got a comment; JSON has none: remove the line".into());
    }
    // The caller knows the line number better than serde.
    match serde_json::from_str(line)
        .map_err(|e| e.to_string().replace("line 1 column", "column"))?
    {
        Value::Object(object) => Ok(plain(object)),
        Value::Array(_) => Err("expected a JSON object a line, got an array".into()),
        other => Err(format!("expected a JSON object, got {}", short(&other))),
    }
}

/// Normalises an object's numbers and null keys as [`parse_object`] does.
pub fn plain(object: Map<String, Value>) -> Map<String, Value> {
    let given = object.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(key, value)| (key, whole(value))).collect()
}

/// Converts integral floats to integers, at any depth.
fn whole(value: Value) -> Value {
    /// Up to here every integer is exact in a 64-bit float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
                // Exact: it is integral and in range. A negative zero becomes zero.
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(values) => Value::Array(values.into_iter().map(whole).collect()),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(key, value)| (key, whole(value))).collect())
        }
        other => other,
    }
}

/// Deserialises a type from an object.
///
/// # Errors
/// The problem, beginning with the key.
pub fn from_object<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let (path, problem) = (error.path().to_string(), error.inner().to_string());
        // The message already names unknown and missing keys.
        if path == "." || problem.contains(&format!("`{path}`")) {
            problem
        } else {
            format!("{path}: {problem}")
        }
    })
}

/// The beginning of a value, for messages.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Job {
        name: String,
        steps: Option<usize>,
        #[serde(default)]
        seed: u64,
        #[serde(default)]
        range: Option<(f32, f32)>,
    }

    fn job(line: &str) -> Result<Job, String> {
        parse_object(line.as_bytes()).and_then(from_object)
    }

    #[test]
    fn numbers_and_nulls_of_other_programs_are_read() {
        let expected = job(r#"{"name": "a", "steps": 7, "range": [0.5, 1]}"#).unwrap();
        for line in [
            r#"{"name": "a", "steps": 7.0, "range": [0.5, 1.0]}"#,
            r#"{"name": "a", "steps": 7e0, "seed": null, "range": [0.5, 1]}"#,
            r#"{"name": "a", "steps": 7, "seed": 0.0, "range": [0.5, 1]}"#,
            r#"{"name": "a", "steps": 7, "seed": -0.0, "range": [0.5, 1]}"#,
        ] {
            assert_eq!(job(line).unwrap(), expected, "{line}");
        }
        let seed = |line: &str| job(line).unwrap().seed;
        assert_eq!(seed(r#"{"name": "a", "seed": 18446744073709551615}"#), u64::MAX);
        assert_eq!(seed(r#"{"name": "a", "seed": 9007199254740992.0}"#), 1 << 53);
    }

    #[test]
    fn messages_name_the_key() {
        for (line, named) in [
            (r#"{"name": "a", "steps": 7.5}"#, "steps: "),
            (r#"{"name": "a", "steps": -1.0}"#, "steps: "),
            (r#"{"name": "a", "seed": "x"}"#, "seed: "),
            (r#"{"name": "a", "range": [0.5, "x"]}"#, "range[1]: "),
            (r#"{"name": 7}"#, "name: "),
            (r#"{"name": null}"#, "missing field `name`"),
            (r#"{"name": "a", "stpes": 1}"#, "unknown field `stpes`"),
            ("[1]", "expected a JSON object a line, got an array"),
            ("7", "expected a JSON object, got 7"),
            ("# first", "got a comment"),
            ("// first", "got a comment"),
            (r#"{"name": "a" // b"#, "column"),
            ("{\"name\": \"\u{e4}\"", "column"),
        ] {
            let error = job(line).unwrap_err();
            assert!(error.contains(named) && !error.contains("line 1"), "{line}: {error}");
        }
        assert!(parse_object(b"{\"name\": \"\xe4\"}").unwrap_err().contains("UTF-8"));
    }
}
