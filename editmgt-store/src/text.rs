//! Text files as written by other programs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// The UTF-8 byte order mark, which many Windows programs write.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// The lines of a text file, without byte order mark, line ends (`
/// `, `\r
/// `) and blank lines.
#[derive(Debug)]
pub struct TextLines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: usize,
}

impl TextLines {
    /// Opens the file.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Encoding`] for UTF-16 and UTF-32.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path).map_err(StoreError::io(&path))?;
        let mut reader = BufReader::new(file);
        let start = reader.fill_buf().map_err(StoreError::io(&path))?;
        if let Some(encoding) = other_encoding(start) {
            return Err(StoreError::Encoding { path, encoding });
        }
        let skip = if start.starts_with(BOM) { BOM.len() } else { 0 };
        reader.consume(skip);
        Ok(Self { path, reader, line: Vec::new(), number: 0 })
    }

    /// The next non-blank line, with its number from 1.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    #[expect(clippy::should_implement_trait, reason = "a line is borrowed from the reader")]
    pub fn next(&mut self) -> Result<Option<(usize, &[u8])>, StoreError> {
        loop {
            self.line.clear();
            let read = self.reader.read_until(b'\n', &mut self.line);
            if read.map_err(StoreError::io(&self.path))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some((self.number, self.line.trim_ascii())));
            }
        }
    }
}

/// Reads a text file without its byte order mark.
///
/// # Errors
/// [`StoreError::Io`]; [`StoreError::Encoding`] for other encodings than UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, StoreError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(StoreError::io(path))?;
    decode_text(&bytes)
        .map(str::to_owned)
        .map_err(|encoding| StoreError::Encoding { path: path.to_owned(), encoding })
}

/// Decodes UTF-8 without a byte order mark.
///
/// # Errors
/// The detected encoding, if it is not UTF-8.
pub fn decode_text(bytes: &[u8]) -> Result<&str, &'static str> {
    if let Some(encoding) = other_encoding(bytes) {
        return Err(encoding);
    }
    let text = bytes.strip_prefix(BOM).unwrap_or(bytes);
    std::str::from_utf8(text).map_err(|_| "another encoding")
}

/// Detects another encoding by the first bytes; `None` for possible UTF-8.
fn other_encoding(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        // By its mark, or an ASCII letter in two bytes.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [first, second, ..] if (*first == 0) != (*second == 0) => Some("UTF-16"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, mark: bool) -> Vec<u8> {
        let mark = mark.then_some(0xfeff_u16);
        mark.into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn marks_and_line_ends_of_other_programs_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "\u{feff}a\r\n\r\n  \nb\n\nc").unwrap();
        let mut lines = TextLines::open(&path).unwrap();
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            found.push((number, String::from_utf8(line.to_vec()).unwrap()));
        }
        assert_eq!(found, [(1, "a".to_owned()), (4, "b".to_owned()), (6, "c".to_owned())]);
        assert_eq!(read_text(&path).unwrap(), "a\r\n\r\n  \nb\n\nc");
    }

    #[test]
    fn other_encodings_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let big: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (bytes, named) in [
            (utf16("{}", true), "UTF-16"),
            (utf16("{}", false), "UTF-16"),
            (big, "UTF-16"),
            (b"\xff\xfe\0\0{\0\0\0".to_vec(), "UTF-32"),
        ] {
            std::fs::write(&path, &bytes).unwrap();
            for error in [TextLines::open(&path).unwrap_err(), read_text(&path).unwrap_err()] {
                assert!(error.to_string().contains(named), "{error}");
            }
        }
        assert_eq!(decode_text(b"\xe4"), Err("another encoding"));
    }
}
