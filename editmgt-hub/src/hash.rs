//! The hashes that the hub names files by.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What the contents of a file must hash to. Its digits name the file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// SHA-256 of the contents: large files (LFS).
    Sha256(String),
    /// SHA-1 of git's blob, which is a header with the length and the contents: all others.
    GitBlob(String),
}

impl Checksum {
    /// A checksum of `digits`, if they are lower-case hexadecimal in the right number.
    pub(crate) fn sha256(digits: &str) -> Option<Self> {
        is_hex(digits, 64).then(|| Self::Sha256(digits.to_owned()))
    }

    /// A checksum of `digits`, if they are lower-case hexadecimal in the right number.
    pub(crate) fn git_blob(digits: &str) -> Option<Self> {
        is_hex(digits, 40).then(|| Self::GitBlob(digits.to_owned()))
    }

    pub(crate) fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitBlob(digits) => digits,
        }
    }

    /// Begins the hash of a file of this length.
    pub(crate) fn begin(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }
}

fn is_hex(digits: &str, length: usize) -> bool {
    digits.len() == length && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash of the bytes so far.
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn digits(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::GitBlob(hash) => hex(&hash.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin`, `printf 'hello\n' | sha256sum`.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for checksum in [Checksum::git_blob(git).unwrap(), Checksum::sha256(sha).unwrap()] {
            let mut hash = checksum.begin(6);
            hash.update(b"hel");
            hash.update(b"lo\n");
            assert_eq!(hash.digits(), checksum.digits());
        }
        for wrong in ["", "../../etc", &git.to_uppercase(), &sha[1..]] {
            assert_eq!((Checksum::git_blob(wrong), Checksum::sha256(wrong)), (None, None));
        }
    }
}
