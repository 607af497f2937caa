//! What the configs of the encoders have in common.

use editmgt::config::{ConfigError, ConfigKeys, UnknownKeys};
use serde_json::Value;

/// Reads a config whose `model_type` is one of `expected`, and says which.
pub(super) fn of_type(
    component: &'static str,
    text: &str,
    unknown_keys: UnknownKeys,
    expected: &[&str],
) -> Result<(String, ConfigKeys), ConfigError> {
    let mut keys = ConfigKeys::read(component, text, unknown_keys)?;
    match keys.take("model_type") {
        Some(Value::String(got)) if expected.contains(&got.as_str()) => Ok((got, keys)),
        got => {
            let got = got.map_or("none".to_owned(), |value| value.to_string());
            let expected = expected.join(" or ");
            Err(ConfigError::unsupported(component, "model_type", expected, got))
        }
    }
}

/// Tries the files `names` that all versions of transformers write, from
/// `scripts/make_config_table.py`: they are read, and an unknown key in them is refused unless it
/// is accepted.
#[cfg(test)]
pub(super) fn check_table<T: std::fmt::Debug>(
    names: &[&str],
    parse: impl Fn(&str, UnknownKeys) -> Result<T, ConfigError>,
) {
    let mut versions = 0;
    for entry in std::fs::read_dir("testdata/configs").unwrap() {
        let dir = entry.unwrap().path();
        if !dir.file_name().unwrap().to_string_lossy().starts_with("transformers-") {
            continue;
        }
        versions += 1;
        for name in names {
            let path = dir.join(name).with_extension("json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let read = parse(&config.to_string(), UnknownKeys::Refuse);
            assert!(read.is_ok(), "{}: {}", path.display(), read.unwrap_err());
            config["mixture_of_experts"] = 8.into();
            let error = parse(&config.to_string(), UnknownKeys::Refuse).unwrap_err();
            assert!(error.to_string().contains("mixture_of_experts"), "{error}");
            parse(&config.to_string(), UnknownKeys::Accept).unwrap();
        }
    }
    assert_eq!(versions, 6);
}
