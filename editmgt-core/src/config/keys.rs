use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor, value::Error as ValueError};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::bookkeeping::is_bookkeeping;
use super::{ConfigError, deserialize, object};

/// What happens to a key of a config that is neither read nor known to be irrelevant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownKeys {
    /// It is an error, since it may change the computation.
    #[default]
    Refuse,
    /// It is ignored.
    Accept,
}

impl UnknownKeys {
    /// [`Accept`](Self::Accept) if `accept`, else [`Refuse`](Self::Refuse).
    pub fn accept(accept: bool) -> Self {
        if accept { Self::Accept } else { Self::Refuse }
    }
}

/// The keys of a component's `config.json` as transformers or diffusers write it.
///
/// A component takes the keys that must have a certain value with [`require`](Self::require), and
/// reads the rest with [`parse`](Self::parse). This is the one place that decides which keys are
/// bookkeeping of the two libraries and ignored.
///
/// ```
/// use editmgt_core::config::{ConfigKeys, UnknownKeys};
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Linear { width: usize }
///
/// let read = |text, unknown| {
///     let mut keys = ConfigKeys::read("linear", text, unknown)?;
///     keys.require("bias", &[false])?;
///     keys.parse::<Linear>()
/// };
/// let text = r#"{"width": 3, "bias": false, "output_hidden_states": true, "_name_or_path": "x"}"#;
/// assert_eq!(read(text, UnknownKeys::Refuse)?.width, 3);
/// assert!(read(r#"{"width": 3, "bias": true}"#, UnknownKeys::Refuse).is_err());
/// let unknown = r#"{"width": 3, "gated": true}"#;
/// assert!(read(unknown, UnknownKeys::Refuse).is_err());
/// assert_eq!(read(unknown, UnknownKeys::Accept)?.width, 3);
/// # Ok::<(), editmgt_core::config::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConfigKeys {
    component: &'static str,
    unknown_keys: UnknownKeys,
    map: Map<String, Value>,
}

impl ConfigKeys {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for text that is not a JSON object.
    pub fn read(
        component: &'static str,
        text: &str,
        unknown_keys: UnknownKeys,
    ) -> Result<Self, ConfigError> {
        Ok(Self { component, unknown_keys, map: object(component, text)? })
    }

    /// The keys of a part whose config stands inside this one; it is removed. `None` where the key
    /// is absent or null.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for a value that is not an object.
    pub fn take_part(
        &mut self,
        component: &'static str,
        key: &'static str,
    ) -> Result<Option<Self>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                Ok(Some(Self { component, unknown_keys: self.unknown_keys, map }))
            }
            Some(other) => Err(ConfigError::unsupported(self.component, key, "an object", other)),
        }
    }

    /// No keys, for a part whose config is left out.
    pub fn empty_part(&self, component: &'static str) -> Self {
        Self { component, unknown_keys: self.unknown_keys, map: Map::new() }
    }

    /// The value of a key; `None` where it is absent or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Removes a key and returns its value; `None` where it is absent or null.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// Sets a key that is absent.
    pub fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        self.map.entry(key).or_insert_with(|| value.into());
    }

    /// Sets every key of the object `defaults` that is absent: libraries leave keys out that have
    /// the default of their class.
    ///
    /// # Panics
    /// If `defaults` is not an object.
    pub fn set_defaults(&mut self, defaults: Value) {
        let Value::Object(defaults) = defaults else {
            panic!("defaults of a config are an object")
        };
        for (key, value) in defaults {
            self.set_default(&key, value);
        }
    }

    /// Removes keys of this component that don't change its computation.
    pub fn ignore(&mut self, keys: &[&str]) {
        self.map.retain(|key, _| !keys.contains(&key.as_str()));
    }

    /// Removes a key that must be absent, null, or one of `allowed`: what this program computes.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for another value.
    pub fn require<V: Clone + Into<Value>>(
        &mut self,
        key: &'static str,
        allowed: &[V],
    ) -> Result<(), ConfigError> {
        let Some(got) = self.take(key) else { return Ok(()) };
        let allowed: Vec<Value> = allowed.iter().cloned().map(Into::into).collect();
        if allowed.iter().any(|value| is_same(value, &got)) {
            return Ok(());
        }
        let expected: Vec<_> = allowed.iter().map(Value::to_string).collect();
        let expected = if expected.is_empty() { "null".into() } else { expected.join(" or ") };
        Err(ConfigError::unsupported(self.component, key, expected, got))
    }

    /// Reads the rest into `T`, which should be `#[serde(deny_unknown_fields)]`: keys that `T`
    /// doesn't have are ignored where they are bookkeeping of a library.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKeys`]; [`ConfigError::Parse`] for a missing or mistyped key;
    /// [`ConfigError::Unsupported`] for weights that were pruned or quantised.
    pub fn parse<T: DeserializeOwned>(mut self) -> Result<T, ConfigError> {
        let fields = fields::<T>();
        // An empty list of pruned heads is in every file of old versions.
        for key in ["pruned_heads", "quantization_config"] {
            if let Some(value) = self.take(key).filter(|value| *value != Value::Object(Map::new()))
            {
                return Err(ConfigError::unsupported(self.component, key, "null", value));
            }
        }
        let is_read = |key: &str| fields.contains(&key);
        self.map.retain(|key, _| is_read(key) || !is_bookkeeping(key));
        let unknown: Vec<_> = self.map.keys().filter(|key| !is_read(key)).cloned().collect();
        match self.unknown_keys {
            _ if unknown.is_empty() => {}
            UnknownKeys::Accept => self.map.retain(|key, _| is_read(key)),
            UnknownKeys::Refuse => {
                let component = self.component;
                return Err(ConfigError::UnknownKeys { component, keys: unknown });
            }
        }
        deserialize(self.component, &self.map)
    }
}

/// Equal, with 1 and 1.0 the same number.
fn is_same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some_and(|a| b.as_f64() == Some(a))
}

/// The keys of the struct `T`, from its own implementation of `Deserialize`; none where it is not a
/// struct.
fn fields<'de, T: serde::Deserialize<'de>>() -> &'static [&'static str] {
    struct Fields<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = ValueError;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
            Err(ValueError::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ValueError> {
            *self.0 = fields;
            Err(ValueError::custom("only the names of the fields are wanted"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut found: &[&str] = &[];
    // It fails always: there is no value.
    T::deserialize(Fields(&mut found)).err();
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tiny {
        width: usize,
        eos_token_id: Option<u32>,
    }

    fn keys(value: &Value, unknown: UnknownKeys) -> ConfigKeys {
        ConfigKeys::read("tiny", &value.to_string(), unknown).unwrap()
    }

    fn parse(value: Value) -> Result<Tiny, ConfigError> {
        keys(&value, UnknownKeys::Refuse).parse()
    }

    #[test]
    fn parse_ignores_bookkeeping_but_not_what_is_read() {
        let read = parse(json!({
            "width": 3, "eos_token_id": 7, "bos_token_id": 6, "output_hidden_states": true, "_anything": [],
            "temperature": 1.0, "pruned_heads": {}, "quantization_config": null,
        }));
        assert_eq!(read.unwrap(), Tiny { width: 3, eos_token_id: Some(7) });
    }

    #[test]
    fn parse_refuses_by_name() {
        for (value, named) in [
            (json!({"width": 3, "depth": 4, "gate": 1}), "\"depth\", \"gate\""),
            (json!({"width": 3, "depth": 4}), "--accept-unknown-keys"),
            (json!({"eos_token_id": 1}), "width"),
            (json!({"width": "3"}), "width: invalid type: string"),
            (json!({"width": 3, "pruned_heads": {"0": [1]}}), "pruned_heads"),
            (json!({"width": 3, "quantization_config": {"bits": 4}}), "quantization_config"),
        ] {
            let message = parse(value.clone()).unwrap_err().to_string();
            assert!(message.contains(named), "{value}: {message}");
        }
    }

    #[test]
    fn accepted_keys_are_ignored_and_the_others_still_checked() {
        let value = json!({"width": 3, "depth": 4});
        assert_eq!(keys(&value, UnknownKeys::Accept).parse::<Tiny>().unwrap().width, 3);
        let value = json!({"width": "3", "depth": 4});
        assert!(keys(&value, UnknownKeys::Accept).parse::<Tiny>().is_err());
    }

    #[test]
    fn require_compares_values() {
        let value = json!({"factor": 1, "kind": "other", "none": null});
        let mut keys = keys(&value, UnknownKeys::Refuse);
        keys.require("factor", &[1.0]).unwrap();
        keys.require("none", &["default"]).unwrap();
        keys.require("absent", &[true]).unwrap();
        let message = keys.require("kind", &["default", "linear"]).unwrap_err().to_string();
        assert!(
            message.contains(r#"kind: expected "default" or "linear", got "other""#),
            "{message}"
        );
    }
}
