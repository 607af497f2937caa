use std::fmt;

use serde::Serialize;

/// What reading a photo left out or changed, for its owner: the CLI prints it, the report lists it.
///
/// In JSON each note has a `kind` and its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PhotoNote {
    /// The file is an animation (GIF, WebP, PNG): its first frame is edited.
    Animation,
}

impl fmt::Display for PhotoNote {
    /// A predicate, to follow the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Animation => f.write_str("is an animation: its first frame is edited, no other"),
        }
    }
}
