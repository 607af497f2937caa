//! The tags of a TIFF's first page, classic or BigTIFF, of either byte order.
//!
//! Source: TIFF 6.0, section 2, and the BigTIFF extension.

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const SAMPLES_PER_PIXEL: u16 = 277;
const PLANAR: u16 = 284;
const PREDICTOR: u16 = 317;
const TILE_WIDTH: u16 = 322;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
pub(super) const COMPRESSION: u16 = 259;
const STRIP_OFFSETS: u16 = 273;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
/// The compression by Lempel, Ziv and Welch.
const LZW: u64 = 5;
/// Limit of values: more are not used in any supported tag.
const MAX_VALUES: u64 = 64;

/// Meaning of a sample beyond the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtraSample {
    /// Undeclared: no opacity.
    Unspecified,
    /// Associated opacity: premultiplied colours.
    Associated,
    /// Unassociated opacity.
    Unassociated,
}

/// Tags of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TiffTags {
    values: Vec<(u16, Vec<u64>)>,
    tiled: bool,
}

struct Reader<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Reader<'_> {
    fn number(&self, at: u64, length: usize) -> Option<u64> {
        let start = usize::try_from(at).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(length)?)?;
        let add = |number, &byte: &u8| number << 8 | u64::from(byte);
        Some(if self.big_endian {
            bytes.iter().fold(0, add)
        } else {
            bytes.iter().rev().fold(0, add)
        })
    }
}

/// Tiles or strips.
pub(super) struct LzwParts {
    /// The tag of their offsets.
    pub(super) offsets: u16,
    /// The tag of their lengths.
    pub(super) lengths: u16,
    /// How many there are.
    pub(super) count: u64,
    /// Unpacked bytes of each.
    pub(super) whole: u64,
    /// Unpacked bytes of the last one.
    pub(super) last: u64,
}

/// An entry of a page's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tag: u16,
    /// The type of its values.
    pub(super) kind: u64,
    pub(super) count: u64,
    /// Offset of the entry.
    pub(super) at: u64,
    /// Offset of its values.
    place: u64,
}

impl Entry {
    /// Bytes of a value.
    fn size(&self) -> u64 {
        match self.kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        }
    }
}

/// The directory of a TIFF's first page. All offsets and lengths are validated.
pub(super) struct Directory<'a> {
    reader: Reader<'a>,
    pub(super) entries: Vec<Entry>,
    /// Bytes of an offset: 4, in a BigTIFF 8.
    pub(super) word: usize,
}

impl<'a> Directory<'a> {
    /// # Errors
    /// The data beyond the end of the file.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let reader = Reader { bytes, big_endian: bytes.starts_with(b"MM") };
        let short = || "the header is cut off".to_owned();
        let version = reader.number(2, 2).ok_or_else(short)?;
        // Lengths of a count, of an entry, and of an offset or value.
        let (first, count, entry, word) = match version {
            43 => (8, 8, 20, 8),
            _ => (4, 2, 12, 4),
        };
        let page = reader.number(first, word).ok_or_else(short)?;
        let outside = || format!("the page at {page} lies outside the file");
        let entries = reader.number(page, count).ok_or_else(outside)?;
        let start = page.checked_add(count as u64).ok_or_else(outside)?;
        let left = (bytes.len() as u64).saturating_sub(start);
        if entries > left / entry {
            return Err(format!("{entries} tags claim more than the {left} bytes that are left"));
        }
        let mut found = Vec::new();
        for at in (0..entries).map(|i| start + i * entry) {
            let field =
                |offset: u64, length| reader.number(at + offset, length).ok_or_else(outside);
            let (tag, kind, count) = (field(0, 2)? as u16, field(2, 2)?, field(4, word)?);
            let place = at + 4 + word as u64;
            let mut entry = Entry { tag, kind, count, at, place };
            let length = count.saturating_mul(entry.size());
            if length > word as u64 {
                entry.place = reader.number(place, word).ok_or_else(outside)?;
            }
            if entry.place.checked_add(length).is_none_or(|end| end > bytes.len() as u64) {
                return Err(format!("tag {tag} claims {count} values, more than the file has"));
            }
            found.push(entry);
        }
        Ok(Self { reader, entries: found, word })
    }

    pub(super) fn entry(&self, tag: u16) -> Option<Entry> {
        self.entries.iter().copied().find(|entry| entry.tag == tag)
    }

    /// The values of an integer entry; empty for other types.
    pub(super) fn values(&self, entry: Entry) -> Vec<u64> {
        let size = entry.size();
        match entry.kind {
            1 | 3 | 4 | 16 => {
                let value = |i| self.reader.number(entry.place + i * size, size as usize);
                (0..entry.count).filter_map(value).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The bytes of a number in the file's order.
    pub(super) fn bytes_of(&self, number: u64, length: usize) -> Vec<u8> {
        if self.reader.big_endian {
            number.to_be_bytes()[8 - length..].to_vec()
        } else {
            number.to_le_bytes()[..length].to_vec()
        }
    }
}

impl TiffTags {
    /// Reads the first page's tags.
    ///
    /// # Errors
    /// The data beyond the end of the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let directory = Directory::read(bytes)?;
        let short = directory.entries.iter().filter(|entry| entry.count <= MAX_VALUES);
        let values = short.map(|&entry| (entry.tag, directory.values(entry)));
        Ok(Self { values: values.collect(), tiled: directory.entry(TILE_WIDTH).is_some() })
    }

    /// The unpacked bytes of each tile or strip of an LZW page that the decoder reads row by row:
    /// tiles, and strips with ignored channels. `None` for others.
    pub(super) fn lzw_read_by_rows(&self) -> Option<LzwParts> {
        let leaves_out = self.first(SAMPLES_PER_PIXEL, 1) > self.colours();
        let contiguous = self.first(PLANAR, 1) == 1;
        if self.first(COMPRESSION, 1) != LZW || !contiguous || !(self.tiled || leaves_out) {
            return None;
        }
        let (width, height) = (self.first(IMAGE_WIDTH, 0), self.first(IMAGE_LENGTH, 0));
        let (across, rows) = if self.tiled {
            (self.first(TILE_WIDTH, 0), self.first(TILE_LENGTH, 0))
        } else {
            (width, self.first(ROWS_PER_STRIP, height).min(height))
        };
        if across == 0 || rows == 0 {
            return None;
        }
        let samples = across.checked_mul(self.first(SAMPLES_PER_PIXEL, 1))?;
        let row = samples.checked_mul(self.first(BITS_PER_SAMPLE, 1))?.div_ceil(8);
        let whole = row.checked_mul(rows)?;
        let last = if self.tiled {
            whole
        } else {
            row.checked_mul(height - (height.div_ceil(rows).saturating_sub(1)) * rows)?
        };
        let count = width.div_ceil(across).checked_mul(height.div_ceil(rows))?;
        let (offsets, lengths) = if self.tiled {
            (TILE_OFFSETS, TILE_BYTE_COUNTS)
        } else {
            (STRIP_OFFSETS, STRIP_BYTE_COUNTS)
        };
        Some(LzwParts { offsets, lengths, count, whole, last })
    }

    fn get(&self, tag: u16) -> &[u64] {
        self.values.iter().find(|(known, _)| *known == tag).map_or(&[], |(_, values)| values)
    }

    fn first(&self, tag: u16, default: u64) -> u64 {
        self.get(tag).first().copied().unwrap_or(default)
    }

    /// Meaning of the first sample beyond the colours; `None` if there is none. An undeclared
    /// fourth sample of RGB is opacity, as in other readers.
    pub(super) fn extra_sample(&self) -> Option<ExtraSample> {
        match self.get(EXTRA_SAMPLES).first() {
            Some(1) => Some(ExtraSample::Associated),
            Some(2) => Some(ExtraSample::Unassociated),
            Some(_) => Some(ExtraSample::Unspecified),
            None if self.first(SAMPLES_PER_PIXEL, 1) > self.colours() => {
                Some(ExtraSample::Unassociated)
            }
            None => None,
        }
    }

    fn colours(&self) -> u64 {
        match self.first(PHOTOMETRIC, 1) {
            0 | 1 | 3 | 4 => 1,
            5 => 4,
            _ => 3,
        }
    }

    /// The kind of page, for one that the decoder rejects in its own terms.
    pub(super) fn kind(&self) -> Option<String> {
        let compression = match self.first(COMPRESSION, 1) {
            1 | 4 | LZW | 7 | 8 | 32_773 | 32_946 => None,
            2 => Some("CCITT run-length".to_owned()),
            3 => Some("CCITT group 3".to_owned()),
            6 => Some("old-style JPEG".to_owned()),
            34_661 => Some("JBIG".to_owned()),
            34_712 => Some("JPEG 2000".to_owned()),
            34_887 => Some("LERC".to_owned()),
            34_925 => Some("LZMA".to_owned()),
            34_926 | 50_000 => Some("ZSTD".to_owned()),
            34_927 | 50_001 => Some("WebP".to_owned()),
            50_002 => Some("JPEG XL".to_owned()),
            other => Some(format!("unknown ({other})")),
        };
        if let Some(compression) = compression {
            return Some(format!("{compression} compression"));
        }
        let samples = self.first(SAMPLES_PER_PIXEL, 1);
        let (bits, format) = (self.first(BITS_PER_SAMPLE, 1), self.first(SAMPLE_FORMAT, 1));
        let numbers = match format {
            1 => None,
            2 => Some(format!("signed numbers of {bits} bits")),
            3 => Some(format!("floats of {bits} bits")),
            other => Some(format!("samples of format {other}")),
        };
        match self.first(PHOTOMETRIC, 1) {
            0 | 1 if samples > 1 => Some("grey with more channels".to_owned()),
            0 | 1 => {
                Some(numbers.map_or(format!("grey of {bits} bits"), |n| format!("grey in {n}")))
            }
            2 => Some(numbers.map_or(format!("RGB of {bits} bits"), |n| format!("RGB in {n}"))),
            3 => Some("a palette".to_owned()),
            4 => Some("a transparency mask".to_owned()),
            5 if samples > 4 => Some("CMYK with opacity".to_owned()),
            5 if self.first(PLANAR, 1) == 2 => Some("CMYK in separate planes".to_owned()),
            6 => Some("YCbCr colours".to_owned()),
            8..=10 => Some("Lab colours".to_owned()),
            32_803 | 34_892 => Some("raw sensor data".to_owned()),
            32_844 | 32_845 => Some("LogLuv colours".to_owned()),
            _ => None,
        }
    }

    /// Why the page cannot be decoded correctly; `None` if it can.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        let samples = self.first(SAMPLES_PER_PIXEL, 1);
        let undeclared = self.extra_sample() == Some(ExtraSample::Unspecified);
        let bits = self.get(BITS_PER_SAMPLE);
        if self.first(PLANAR, 1) == 2 && self.tiled {
            // The decoder panics on these.
            return Some("tiles of separate planes");
        }
        if self.tiled && (undeclared || samples > self.colours() + 1) {
            // The decoder reads rows of such tiles from wrong offsets.
            return Some("tiles with undeclared channels");
        }
        if self.first(FILL_ORDER, 1) == 2 {
            return Some("bits in reversed order (FillOrder 2)");
        }
        if self.first(PREDICTOR, 1) != 1 && (undeclared || samples > self.colours() + 1) {
            return Some("a predictor over undeclared channels");
        }
        if bits.contains(&32) && self.first(SAMPLE_FORMAT, 1) != 3 {
            return Some("whole numbers of 32 bits");
        }
        (bits.windows(2).any(|pair| pair[0] != pair[1])).then_some("channels of different depths")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn little(tag: u16, kind: u16, count: u32, value: u32) -> Vec<u8> {
        let mut file = b"II*\0\x08\0\0\0\x01\0".to_vec();
        file.extend_from_slice(&tag.to_le_bytes());
        file.extend_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&count.to_le_bytes());
        file.extend_from_slice(&value.to_le_bytes());
        file.extend_from_slice(&[0; 4]);
        file
    }

    #[test]
    fn values_are_read_and_must_lie_in_the_file() {
        for (extra, expected) in [
            (0, ExtraSample::Unspecified),
            (1, ExtraSample::Associated),
            (2, ExtraSample::Unassociated),
            (99, ExtraSample::Unspecified),
        ] {
            let tags = TiffTags::read(&little(EXTRA_SAMPLES, 3, 1, extra)).unwrap();
            assert_eq!(tags.extra_sample(), Some(expected), "{extra}");
        }
        assert_eq!(TiffTags::read(&little(PHOTOMETRIC, 3, 1, 2)).unwrap().extra_sample(), None);
        for (kind, count, value) in [(7, u32::MAX, 8), (4, 2, u32::MAX), (12, 1 << 31, 0)] {
            assert!(TiffTags::read(&little(34675, kind, count, value)).is_err(), "{kind} {count}");
        }
    }

    #[test]
    fn truncated_file_is_an_error_or_read() {
        for file in [little(338, 3, 1, 1), [&b"MM\0+\0\x08\0\0"[..], &[0xff; 40]].concat()] {
            for length in 0..file.len() {
                let _read = TiffTags::read(&file[..length]);
            }
        }
    }
}
