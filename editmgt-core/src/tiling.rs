use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How much of an image a codec computes at a time.
///
/// As text and in JSON `"auto"`, `"off"`, or the side of a tile in pixels (in JSON also as a
/// number).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Tiling {
    /// In tiles if the codec estimates that the whole image needs more memory than it should take.
    #[default]
    Auto,
    /// The whole image, whatever its size.
    Off,
    /// In tiles of this side, in pixels, if the image is larger.
    Pixels(usize),
}

impl Tiling {
    /// Shortest side of a tile, in pixels: with shorter ones nearly all of the work would be
    /// overlap.
    pub const MIN_SIDE: usize = 16;
    /// Longest side of a tile, in pixels.
    pub const MAX_SIDE: usize = 1 << 14;

    /// Whether the side is from [`MIN_SIDE`](Self::MIN_SIDE) to [`MAX_SIDE`](Self::MAX_SIDE).
    pub fn is_valid(self) -> bool {
        match self {
            Self::Auto | Self::Off => true,
            Self::Pixels(side) => (Self::MIN_SIDE..=Self::MAX_SIDE).contains(&side),
        }
    }
}

impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Pixels(side) => side.fmt(f),
        }
    }
}

impl FromStr for Tiling {
    type Err = Error;

    /// Parses `auto`, `off` or a number of pixels, whose range [`is_valid`](Self::is_valid) checks.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            number => match number.parse() {
                Ok(side) => Ok(Self::Pixels(side)),
                Err(_) => Err(Error::value("tile", "auto, off or a number of pixels", text)),
            },
        }
    }
}

/// The value in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Pixels(usize),
    Text(String),
}

impl TryFrom<Value> for Tiling {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self, Error> {
        match value {
            Value::Pixels(side) => Ok(Self::Pixels(side)),
            Value::Text(text) => text.parse(),
        }
    }
}

impl From<Tiling> for Value {
    fn from(tiling: Tiling) -> Self {
        match tiling {
            Tiling::Pixels(side) => Self::Pixels(side),
            named => Self::Text(named.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_round_trip() {
        for (tiling, text, json) in [
            (Tiling::Auto, "auto", "\"auto\""),
            (Tiling::Off, "off", "\"off\""),
            (Tiling::Pixels(256), "256", "256"),
        ] {
            assert_eq!(tiling.to_string(), text);
            assert_eq!(text.parse::<Tiling>().unwrap(), tiling);
            assert_eq!(serde_json::to_string(&tiling).unwrap(), json);
            assert_eq!(serde_json::from_str::<Tiling>(json).unwrap(), tiling);
        }
        assert_eq!(serde_json::from_str::<Tiling>("\"512\"").unwrap(), Tiling::Pixels(512));
    }

    #[test]
    fn rejects_other_text_and_sides_out_of_range() {
        for text in ["", "on", "-5", "2.5"] {
            let error = text.parse::<Tiling>().unwrap_err().to_string();
            assert!(error.contains("auto, off or a number of pixels"), "{text}: {error}");
        }
        for (side, valid) in [(0, false), (15, false), (16, true), (16384, true), (16385, false)] {
            assert_eq!(Tiling::Pixels(side).is_valid(), valid, "{side}");
        }
    }
}
