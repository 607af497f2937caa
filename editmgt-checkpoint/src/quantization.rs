//! Weights in 8 or 4 bits: the key of the config that declares them, and their tensors.
//!
//! A quantised weight `K` of shape `[rows, inputs]` is stored as two tensors:
//!
//! | bits | `K` | `K_scale` |
//! |---|---|---|
//! | 8 | I8 `[rows, inputs]`, -127 to 127 | F16 `[rows, ⌈inputs / 32⌉]` |
//! | 4 | U8 `[rows, ⌈inputs / 2⌉]`: value 2j + 8 in the lower half of byte j, value 2j + 1 in the upper | the same |
//!
//! A value is its integer times the scale of its block: 32 consecutive values of a row, the last
//! block of a row possibly shorter. With an odd number of inputs the last upper half is 0.

use editmgt_core::config::ConfigError;
use editmgt_kernels::{BLOCK, WeightBits};
use half::f16;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::FileDtype;

/// What the config of a component says of quantised weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuantizationConfig {
    /// Bits of a value.
    pub bits: WeightBits,
}

/// The value of the key, whose `quant_method` is ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(rename = "quant_method")]
    _method: String,
    #[serde(rename = "version")]
    _version: u32,
    #[serde(rename = "bits")]
    _bits: u8,
    block_size: usize,
}

impl QuantizationConfig {
    /// The key in `config.json`, which is that of transformers.
    pub const KEY: &'static str = "quantization_config";
    /// The `quant_method` of this format.
    pub const METHOD: &'static str = "editmgt_blocks";
    /// The version of this format.
    pub const VERSION: u32 = 1;

    /// Weights of these bits.
    pub fn new(bits: WeightBits) -> Self {
        Self { bits }
    }

    /// Separates the key from the text of a `config.json`: the text without it, and its value. A
    /// text that lacks the key, or has that of another method, is returned as it is, for the reader
    /// of the config.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] for another version, other bits or another size of blocks;
    /// [`ConfigError::Parse`] for keys of the value that are missing, mistyped or unknown.
    pub fn split(text: &str) -> Result<(String, Option<Self>), ConfigError> {
        let whole = || Ok((text.to_owned(), None));
        let Ok(mut config) = serde_json::from_str::<Map<String, Value>>(text) else {
            return whole();
        };
        match config.get(Self::KEY) {
            Some(Value::Object(value))
                if value.get("quant_method") == Some(&json!(Self::METHOD)) => {}
            _ => return whole(),
        }
        let value = config.remove(Self::KEY).unwrap_or_default();
        let quantization = Self::read(&value)?;
        Ok((Value::Object(config).to_string(), Some(quantization)))
    }

    fn read(value: &Value) -> Result<Self, ConfigError> {
        const COMPONENT: &str = "quantised weights";
        let unsupported = |key, expected: String, got: &Value| {
            Err(ConfigError::unsupported(COMPONENT, key, expected, got))
        };
        // Before the other keys: another version may have others.
        let version = &value["version"];
        if *version != json!(Self::VERSION) {
            let expected = format!("{} (a newer program may read it)", Self::VERSION);
            return unsupported("quantization_config.version", expected, version);
        }
        let Ok(bits) = WeightBits::deserialize(&value["bits"]) else {
            return unsupported("quantization_config.bits", "8 or 4".into(), &value["bits"]);
        };
        let Stored { block_size, .. } = Stored::deserialize(value).map_err(|error| {
            let message = format!("{}: {error}", Self::KEY);
            ConfigError::Parse { component: COMPONENT, message }
        })?;
        if block_size != BLOCK {
            let got = &value["block_size"];
            return unsupported("quantization_config.block_size", BLOCK.to_string(), got);
        }
        Ok(Self { bits })
    }

    /// The text of a `config.json` with this key.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for a text that is not a JSON object; [`ConfigError::Unsupported`]
    /// for one that has the key.
    pub fn add_to(self, text: &str) -> Result<String, ConfigError> {
        let mut config: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            ConfigError::Parse { component: "model", message: error.to_string() }
        })?;
        if let Some(got) = config.get(Self::KEY).filter(|value| !value.is_null()) {
            let expected = "a model that is not quantised";
            return Err(ConfigError::unsupported("model", Self::KEY, expected, got));
        }
        let value = json!({
            "quant_method": Self::METHOD,
            "version": Self::VERSION,
            "bits": self.bits,
            "block_size": BLOCK,
        });
        config.insert(Self::KEY.to_owned(), value);
        Ok(format!("{:#}\n", Value::Object(config)))
    }
}

/// What follows the key of a weight in that of its scales.
pub(crate) const SCALE_SUFFIX: &str = "_scale";

/// The key of the scales of the weight `key`.
pub(crate) fn scale_key(key: &str) -> String {
    format!("{key}{SCALE_SUFFIX}")
}

/// Whether it is a dtype of quantised weights.
pub(crate) fn is_quantized(dtype: FileDtype) -> bool {
    matches!(dtype, FileDtype::I8 | FileDtype::U8)
}

/// The dtype of the values of a quantised weight in a file.
pub(crate) fn file_dtype(bits: WeightBits) -> FileDtype {
    match bits {
        WeightBits::Eight => FileDtype::I8,
        WeightBits::Four => FileDtype::U8,
    }
}

/// The shapes of the values and of the scales of a matrix.
pub(crate) fn file_shapes(bits: WeightBits, [rows, inputs]: [usize; 2]) -> [Vec<usize>; 2] {
    [vec![rows, row_bytes(bits, inputs)], vec![rows, inputs.div_ceil(BLOCK)]]
}

/// Bytes of a row in a file, without its scales.
pub(crate) fn row_bytes(bits: WeightBits, inputs: usize) -> usize {
    match bits {
        WeightBits::Eight => inputs,
        WeightBits::Four => inputs.div_ceil(2),
    }
}

/// Appends up to [`BLOCK`] values of a block as a file has them.
pub(crate) fn write_block(bits: WeightBits, values: &[i8], bytes: &mut Vec<u8>) {
    match bits {
        WeightBits::Eight => bytes.extend(values.iter().map(|value| value.cast_unsigned())),
        WeightBits::Four => {
            let half = |value: i8| (value + 8).cast_unsigned();
            let pairs = values.chunks(2);
            bytes
                .extend(pairs.map(|pair| half(pair[0]) | pair.get(1).map_or(0, |&v| half(v) << 4)));
        }
    }
}

/// The bytes of a block as integers; `Err` has what is wrong. `values` is as long as the block.
pub(crate) fn read_block(
    bits: WeightBits,
    bytes: &[u8],
    values: &mut [i8],
) -> Result<(), &'static str> {
    match bits {
        WeightBits::Eight => {
            values.iter_mut().zip(bytes).for_each(|(value, byte)| *value = byte.cast_signed());
            if values.contains(&i8::MIN) {
                return Err("a value of -128, expected -127 to 127");
            }
        }
        WeightBits::Four => {
            let value = |half: u8| half.cast_signed() - 8;
            for (pair, byte) in values.chunks_mut(2).zip(bytes) {
                pair[0] = value(byte & 15);
                match pair.get_mut(1) {
                    Some(second) => *second = value(byte >> 4),
                    None if byte >> 4 != 0 => {
                        return Err("expected 0 in the unused half of a row's last byte");
                    }
                    None => {}
                }
            }
        }
    }
    Ok(())
}

/// The scales in the bytes of a tensor; `None` if one is not finite.
pub(crate) fn read_scales(bytes: &[u8]) -> Option<Vec<f16>> {
    let scales: Vec<f16> =
        bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect();
    scales.iter().all(|scale| scale.is_finite()).then_some(scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"width": 3, "quantization_config": {"quant_method": "editmgt_blocks",
        "version": 1, "bits": 4, "block_size": 32}}"#;

    #[test]
    fn the_key_is_separated_and_added() {
        let (rest, read) = QuantizationConfig::split(CONFIG).unwrap();
        assert_eq!(read, Some(QuantizationConfig::new(WeightBits::Four)));
        assert_eq!(rest, r#"{"width":3}"#);
        let added = read.unwrap().add_to(&rest).unwrap();
        let values: [Value; 2] = [CONFIG, &added].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(values[0], values[1]);
        assert!(read.unwrap().add_to(CONFIG).is_err(), "quantised twice");
    }

    #[test]
    fn other_methods_and_absent_keys_are_left_to_the_config() {
        for text in [
            "{",
            "[]",
            r#"{"width": 3}"#,
            r#"{"quantization_config": null}"#,
            r#"{"quantization_config": {"quant_method": "gptq", "bits": 4}}"#,
        ] {
            assert_eq!(QuantizationConfig::split(text).unwrap(), (text.to_owned(), None));
        }
    }

    #[test]
    fn another_format_is_refused_by_name() {
        for (from, to, named) in [
            ("\"version\": 1", "\"version\": 2", "version: expected 1"),
            ("\"version\": 1,", "", "version"),
            ("\"bits\": 4", "\"bits\": 3", "expected 8 or 4, got 3"),
            ("\"bits\": 4", "\"bits\": \"4\"", "bits"),
            ("\"block_size\": 32", "\"block_size\": 64", "block_size: expected 32"),
            ("\"bits\": 4", "\"bits\": 4, \"zero_point\": true", "zero_point"),
            (", \"block_size\": 32", "", "block_size"),
        ] {
            let text = CONFIG.replace(from, to);
            assert_ne!(text, CONFIG);
            let message = QuantizationConfig::split(&text).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
        }
    }

    #[test]
    fn blocks_are_stored_as_documented() {
        for (bits, values, bytes) in [
            (WeightBits::Eight, vec![-127i8, 0, 5], vec![0x81, 0, 5]),
            (WeightBits::Four, vec![-8, 7, 0], vec![0xf0, 0x08]),
            (WeightBits::Four, vec![1, -1], vec![0x79]),
        ] {
            let mut written = Vec::new();
            write_block(bits, &values, &mut written);
            assert_eq!(written, bytes);
            let mut read = vec![0; values.len()];
            read_block(bits, &bytes, &mut read).unwrap();
            assert_eq!(read, values);
        }
        assert!(read_block(WeightBits::Eight, &[0x80], &mut [0]).is_err());
        assert!(read_block(WeightBits::Four, &[0x18], &mut [0]).is_err());
        assert_eq!(read_scales(&[0, 0x3c]), Some(vec![f16::ONE]));
        assert_eq!(read_scales(&f16::NAN.to_le_bytes()), None);
        assert_eq!(read_scales(&f16::NEG_INFINITY.to_le_bytes()), None);
    }
}
