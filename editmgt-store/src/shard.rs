use std::fmt;
use std::str::FromStr;

/// A part of the work for one of several processes: every `of`-th item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    of: u64,
}

/// An invalid shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected I/N with I from 1 to N, such as 2/8, got {got:?}")]
pub struct ShardError {
    /// The text.
    pub got: String,
}

impl Shard {
    /// The whole work.
    pub const ALL: Self = Self { index: 1, of: 1 };

    /// Shard `index` of `of`, counted from 1.
    ///
    /// # Errors
    /// [`ShardError`] when `index` is not from 1 to `of`.
    pub fn new(index: u64, of: u64) -> Result<Self, ShardError> {
        if (1..=of).contains(&index) {
            Ok(Self { index, of })
        } else {
            Err(ShardError { got: format!("{index}/{of}") })
        }
    }

    /// Whether it contains the item of this index, counted from 0.
    pub fn has(self, index: u64) -> bool {
        index % self.of == self.index - 1
    }

    /// Whether it is the whole work.
    pub fn is_all(self) -> bool {
        self.of == 1
    }

    /// Number of shards.
    pub fn of(self) -> u64 {
        self.of
    }

    /// The name of this shard's file: `name.jsonl`, or `name-2-of-8.jsonl`.
    pub fn file(self, name: &str) -> String {
        match self.of {
            1 => format!("{name}.jsonl"),
            of => format!("{name}-{}-of-{of}.jsonl", self.index),
        }
    }

    /// The number of shards that the file of this name belongs to, if it is one of
    /// [`file`](Self::file).
    pub fn parts(file: &str, name: &str) -> Option<u64> {
        match file.strip_prefix(name)?.strip_suffix(".jsonl")? {
            "" => Some(1),
            shard => shard.rsplit_once("-of-")?.1.parse().ok(),
        }
    }
}

impl Default for Shard {
    /// The whole work.
    fn default() -> Self {
        Self::ALL
    }
}

/// `2/8`.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    /// Parses `I/N`.
    fn from_str(text: &str) -> Result<Self, ShardError> {
        let numbers =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let (index, of) = numbers.ok_or_else(|| ShardError { got: text.to_owned() })?;
        Self::new(index, of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_partition() {
        for of in [1, 2, 3, 7, 12] {
            let shards: Vec<Shard> = (1..=of).map(|i| Shard::new(i, of).unwrap()).collect();
            for index in 0..20 {
                assert_eq!(shards.iter().filter(|shard| shard.has(index)).count(), 1);
            }
        }
        assert_eq!("2/8".parse::<Shard>().unwrap().to_string(), "2/8");
        for bad in ["", "2", "0/2", "3/2", "0/0", "-1/2", "1/x", "1/2/3"] {
            assert_eq!(bad.parse::<Shard>().unwrap_err().got, bad);
        }
    }

    #[test]
    fn files_are_named_after_their_part() {
        let third: Shard = "3/4".parse().unwrap();
        assert_eq!((&*third.file("x"), &*Shard::ALL.file("x")), ("x-3-of-4.jsonl", "x.jsonl"));
        assert_eq!(Shard::parts("x-3-of-4.jsonl", "x"), Some(4));
        assert_eq!(Shard::parts("x.jsonl", "x"), Some(1));
        assert_eq!(Shard::parts("x-3-of-4.lock", "x"), None);
        assert_eq!(Shard::parts("y.jsonl", "x"), None);
    }
}
