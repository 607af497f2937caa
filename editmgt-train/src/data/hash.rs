use std::fmt::Write;

use sha2::{Digest, Sha256};

/// SHA-256 of a sequence of texts or bytes, each prefixed by its length so that boundaries are
/// unambiguous. The same on every machine and in every version.
#[derive(Clone, Default)]
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(super) fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        self.add(part);
        self
    }

    pub(super) fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The first `N` bytes, 32 at most.
    pub(super) fn bytes<const N: usize>(self) -> [u8; N] {
        let digest = self.0.finalize();
        std::array::from_fn(|at| digest[at])
    }

    pub(super) fn number(self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The inverse of [`hex`].
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_boundaries_change_the_hash() {
        let of = |parts: [&str; 2]| Fingerprint::default().with(parts[0]).with(parts[1]).number();
        assert_ne!(of(["ab", "c"]), of(["a", "bc"]));
        assert_eq!(of(["ab", "c"]), of(["ab", "c"]));
    }

    #[test]
    fn hex_and_back() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
        assert_eq!(from_hex("000aff"), Some([0, 10, 255]));
        for bad in ["000af", "000afg", "0ä0af"] {
            assert_eq!(from_hex::<3>(bad), None);
        }
    }
}
