use super::hash::Fingerprint;

/// The tokens of a crop of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairTokens {
    /// Of the image before, row-major.
    pub(super) before: Vec<u16>,
    /// Of the image after.
    pub(super) after: Vec<u16>,
    /// Whether the edit, as far as it is known, overlaps each token's patch.
    pub(super) touched: Vec<bool>,
}

impl PairTokens {
    /// The bytes of each part, in the order of the fields.
    pub(super) fn parts(&self) -> [Vec<u8>; 3] {
        let ids = |ids: &[u16]| ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let touched = self.touched.iter().map(|&touched| u8::from(touched)).collect();
        [ids(&self.before), ids(&self.after), touched]
    }

    /// The inverse of [`parts`](Self::parts).
    pub(super) fn from_parts(parts: [&[u8]; 3]) -> Self {
        let ids = |bytes: &[u8]| {
            bytes.as_chunks::<2>().0.iter().map(|id| u16::from_le_bytes(*id)).collect()
        };
        Self {
            before: ids(parts[0]),
            after: ids(parts[1]),
            touched: parts[2].iter().map(|&touched| touched != 0).collect(),
        }
    }
}

/// Checksum of the parts of an entry.
pub(super) fn checksum(entry: &EntryKey, parts: [&[u8]; 3]) -> [u8; 8] {
    let [before, after, touched] = parts;
    Fingerprint::default().with(entry).with(before).with(after).with(touched).bytes()
}

/// Identifies a crop of a row, in the present state of its files.
pub(super) type EntryKey = [u8; 16];
