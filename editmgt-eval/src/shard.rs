use std::fmt;
use std::str::FromStr;

/// A part of a suite that one process does: every `of`-th edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    of: u64,
}

impl Default for Shard {
    /// All of it.
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl Shard {
    /// Whether it has the edit of this index.
    pub fn has(self, index: u64) -> bool {
        index % self.of == self.number - 1
    }

    /// The file of its lines of this kind, in a run's folder.
    pub(crate) fn file(self, kind: &str) -> String {
        match self.of {
            1 => format!("{kind}.jsonl"),
            of => format!("{kind}-{}-of-{of}.jsonl", self.number),
        }
    }
}

/// `2/8`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=of).contains(&number).then_some(Self { number, of })
        });
        parts.ok_or_else(|| format!("expected I/N with I from 1 to N, such as 2/8, got {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_edits() {
        let shards: Vec<Shard> = (1..=3).map(|i| format!("{i}/3").parse().unwrap()).collect();
        for index in 0..20 {
            assert_eq!(shards.iter().filter(|shard| shard.has(index)).count(), 1);
        }
        assert!((0..20).all(|index| Shard::default().has(index)));
        assert_eq!(Shard::default().file("trials"), "trials.jsonl");
        assert_eq!(
            (shards[1].to_string(), shards[1].file("trials").as_str()),
            ("2/3".into(), "trials-2-of-3.jsonl")
        );
        for bad in ["", "1", "0/3", "4/3", "1/0", "-1/3", "a/b", "1/2/3"] {
            assert!(bad.parse::<Shard>().unwrap_err().starts_with("expected I/N"), "{bad}");
        }
    }
}
