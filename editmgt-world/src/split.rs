use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Split of the examples: training, validation or test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training.
    Train = 0,
    /// For the choice of settings.
    Validation = 1,
    /// For reported results.
    Test = 2,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The split of the scene with this fingerprint.
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
