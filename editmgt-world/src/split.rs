use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which examples: those to learn from, to choose settings on, or to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To learn from.
    Train = 0,
    /// To choose settings on.
    Validation = 1,
    /// To report.
    Test = 2,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The split that edits the scene with this fingerprint.
    pub(crate) fn of(fingerprint: u64) -> Self {
        match fingerprint % 8 {
            0 => Self::Validation,
            1 => Self::Test,
            _ => Self::Train,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|split| split.to_string() == name);
        found.ok_or_else(|| format!("expected train, validation or test, got {name:?}"))
    }
}
