use std::fmt;
use std::str::FromStr;

use editmgt::EditError;
use serde::Serialize;

/// A separately measured part of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchStage {
    /// Encoding an image to tokens.
    VqEncode,
    /// Decoding tokens to an image.
    VqDecode,
    /// The CLIP text tower on one prompt of full length.
    Clip,
    /// Gemma2 on one prompt of full length, without the last layer, which an edit doesn't need.
    Gemma2,
    /// One guided pass of the transformer: two items, each with text, canvas and reference.
    Transformer,
    /// The same, with attention capture of the official blocks for the conditional item.
    Capture,
    /// The parts of a step outside the networks: noise, guidance, score map, hold, unmasking.
    Step,
    /// Loading the transformer from a file: f32 as f32, bf16 as f32 and bf16 as bf16, each
    /// alternating with a plain read of the file's bytes. The file is in the system's cache, so the
    /// result is the cost of conversion, not of the disk.
    Load,
}

impl BenchStage {
    /// All stages, in the order of measurement.
    pub const ALL: [Self; 8] = [
        Self::VqEncode,
        Self::VqDecode,
        Self::Clip,
        Self::Gemma2,
        Self::Transformer,
        Self::Capture,
        Self::Step,
        Self::Load,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::VqEncode => "vq-encode",
            Self::VqDecode => "vq-decode",
            Self::Clip => "clip",
            Self::Gemma2 => "gemma2",
            Self::Transformer => "transformer",
            Self::Capture => "capture",
            Self::Step => "step",
            Self::Load => "load",
        }
    }

    /// The names of all stages, for messages.
    pub(super) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for BenchStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BenchStage {
    type Err = EditError;

    fn from_str(name: &str) -> Result<Self, EditError> {
        let stage = Self::ALL.into_iter().find(|stage| stage.name() == name);
        let expected = || format!("some of {}", Self::names());
        stage.ok_or_else(|| EditError::option("stages", expected(), name))
    }
}
