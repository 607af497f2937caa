use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a row of a data set is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipCause {
    /// The row is malformed: a line without a JSON object, two files for one value.
    Malformed,
    /// A required column is missing or empty.
    MissingColumn,
    /// A column has another type than expected: a number for an instruction.
    WrongType,
    /// The instruction has no words.
    EmptyInstruction,
    /// The text encoder cannot encode the instruction: words outside a closed vocabulary, or too
    /// many.
    UnreadableInstruction,
    /// An image is missing or cannot be opened.
    MissingImage,
    /// An image is unusable: damaged, truncated, not an image, too small, too large or too narrow.
    CorruptImage,
    /// The images before and after differ in size.
    SizeMismatch,
    /// The mask's aspect ratio differs from that of the image before.
    MaskMismatch,
}

impl fmt::Display for SkipCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::MissingColumn => "missing column",
            Self::WrongType => "wrong type",
            Self::EmptyInstruction => "empty instruction",
            Self::UnreadableInstruction => "unreadable instruction",
            Self::MissingImage => "missing image",
            Self::CorruptImage => "corrupt image",
            Self::SizeMismatch => "mismatched sizes",
            Self::MaskMismatch => "mismatched mask",
        })
    }
}

/// A skipped row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Skip {
    pub(super) cause: SkipCause,
    pub(super) detail: String,
}

impl Skip {
    pub(super) fn new(cause: SkipCause, detail: impl ToString) -> Self {
        Self { cause, detail: detail.to_string() }
    }
}

/// The rows skipped for one cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRows {
    /// How many.
    pub count: u64,
    /// The first few rows, each with its reason.
    pub examples: Vec<String>,
}

/// All skipped rows, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Skips(BTreeMap<SkipCause, SkippedRows>);

/// Examples kept per cause.
const EXAMPLES: usize = 5;

impl Skips {
    /// The rows of each cause that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (SkipCause, &SkippedRows)> {
        self.0.iter().map(|(cause, rows)| (*cause, rows))
    }

    /// Number of rows skipped for a cause.
    pub fn count(&self, cause: SkipCause) -> u64 {
        self.0.get(&cause).map_or(0, |rows| rows.count)
    }

    /// Number of skipped rows.
    pub fn total(&self) -> u64 {
        self.0.values().map(|rows| rows.count).sum()
    }

    pub(super) fn add(&mut self, row: &str, skip: &Skip) {
        self.add_many(row, skip, 1);
    }

    /// Adds `count` rows with the same fault, the first of which is `row`.
    pub(super) fn add_many(&mut self, row: &str, skip: &Skip, count: u64) {
        let rows = self.0.entry(skip.cause).or_default();
        rows.count += count;
        if count > 0 && rows.examples.len() < EXAMPLES {
            rows.examples.push(format!("{row}: {}", skip.detail));
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (cause, other) in other.0 {
            let rows = self.0.entry(cause).or_default();
            rows.count += other.count;
            let room = EXAMPLES.saturating_sub(rows.examples.len());
            rows.examples.extend(other.examples.into_iter().take(room));
        }
    }
}

/// `3 missing image, 1 empty instruction`; `none` if no row was skipped.
impl fmt::Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (position, (cause, rows)) in self.0.iter().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{} {cause}", rows.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_cause_and_the_first_are_shown() {
        let mut skips = Skips::default();
        assert_eq!(skips.to_string(), "none");
        for row in 0..7 {
            skips.add(&format!("row {row}"), &Skip::new(SkipCause::MissingImage, "no a.png"));
        }
        let mut others = Skips::default();
        others.add_many("b.parquet#0", &Skip::new(SkipCause::WrongType, "a number"), 40);
        others.add_many("c.parquet#0", &Skip::new(SkipCause::WrongType, "a number"), 0);
        others.add("x", &Skip::new(SkipCause::MissingImage, "no x.png"));
        skips.merge(others);
        assert_eq!(skips.to_string(), "40 wrong type, 8 missing image");
        assert_eq!((skips.total(), skips.count(SkipCause::MissingImage)), (48, 8));
        let shown: Vec<_> = skips.iter().map(|(_, rows)| rows.examples.clone()).collect();
        assert_eq!(shown[0], ["b.parquet#0: a number"]);
        assert_eq!(shown[1].len(), 5);
        let json = serde_json::to_value(&skips).unwrap();
        assert_eq!(json["wrong_type"]["count"], 40);
    }
}
