//! Append-only log files.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::sync::sync_file;
use crate::{StoreError, sync_folder};

/// Opens a log, creating it if needed, and returns its parsed lines.
///
/// A killed run may have left a torn last line: without its line end, or (after a system crash)
/// with other bytes in it. Such a line is removed; a complete one without its line end gets it.
///
/// # Errors
/// Those of `parse` for a line before the last; [`StoreError::Io`].
pub fn open_log<T, E: From<StoreError>>(
    path: impl AsRef<Path>,
    parse: impl FnMut(usize, &[u8]) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let path = path.as_ref();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = File::create_new(path).map_err(StoreError::io(path))?;
            sync_file(&file).map_err(StoreError::io(path))?;
            sync_folder(crate::target::folder_of(path))?;
            return Ok(Vec::new());
        }
        Err(error) => return Err(StoreError::io(path)(error).into()),
    };
    let Lines { values, whole, needs_end } = lines(&bytes, parse)?;
    if whole < bytes.len() || needs_end {
        let repair = || {
            let mut file = OpenOptions::new().append(true).open(path)?;
            file.set_len(whole as u64)?;
            if needs_end {
                file.write_all(b"\n")?;
            }
            sync_file(&file)
        };
        repair().map_err(StoreError::io(path))?;
    }
    Ok(values)
}

/// Parses the lines of a log that another process may be writing to. Repairs nothing: a torn last
/// line is ignored.
///
/// # Errors
/// Those of `parse` for a line before the last; [`StoreError::Io`].
pub fn read_log<T, E: From<StoreError>>(
    path: impl AsRef<Path>,
    parse: impl FnMut(usize, &[u8]) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(StoreError::io(path))?;
    parse_log(&bytes, parse)
}

/// Parses the lines of a log's bytes, without a torn last line.
///
/// # Errors
/// Those of `parse` for a line before the last.
pub fn parse_log<T, E>(
    bytes: &[u8],
    parse: impl FnMut(usize, &[u8]) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    Ok(lines(bytes, parse)?.values)
}

/// Appends a line to a log, synced to disk when this returns.
///
/// The file is reopened each time, and never created: an open file in a deleted folder could be
/// written to unnoticed.
///
/// # Errors
/// [`StoreError::Io`], of the kind [`ErrorKind::NotFound`] when the log no longer exists.
pub fn append_line(path: impl AsRef<Path>, line: impl AsRef<[u8]>) -> Result<(), StoreError> {
    let path = path.as_ref();
    let line = line.as_ref();
    let mut whole = Vec::with_capacity(line.len() + 1);
    whole.extend_from_slice(line);
    whole.push(b'\n');
    let mut file = OpenOptions::new().append(true).open(path).map_err(StoreError::io(path))?;
    let before = file.metadata().map_err(StoreError::io(path))?.len();
    file.write_all(&whole).and_then(|()| file.sync_data()).map_err(|error| {
        // A full disk may have written half of it, which would damage the next line.
        let _torn = file.set_len(before);
        StoreError::io(path)(error)
    })
}

struct Lines<T> {
    values: Vec<T>,
    /// Total length of the valid lines in bytes.
    whole: usize,
    /// Whether the last of them lacks its line end.
    needs_end: bool,
}

fn lines<T, E>(
    bytes: &[u8],
    mut parse: impl FnMut(usize, &[u8]) -> Result<T, E>,
) -> Result<Lines<T>, E> {
    let mut found = Lines { values: Vec::new(), whole: 0, needs_end: false };
    let mut start = 0;
    for (i, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let end = start + line.len();
        let is_last = bytes[end..].trim_ascii().is_empty();
        let line = line.strip_prefix(crate::text::BOM).unwrap_or(line);
        if !line.trim_ascii().is_empty() {
            match parse(i + 1, line.trim_ascii()) {
                Ok(value) => found.values.push(value),
                Err(_torn) if is_last => break,
                Err(error) => return Err(error),
            }
        }
        (found.whole, found.needs_end) = (end, !line.ends_with(b"\n"));
        start = end;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Bad {
        Line(usize),
        Store,
    }

    impl From<StoreError> for Bad {
        fn from(_: StoreError) -> Self {
            Self::Store
        }
    }

    fn number(line: usize, text: &[u8]) -> Result<u32, Bad> {
        let text = std::str::from_utf8(text).map_err(|_| Bad::Line(line))?;
        let number = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
        number.and_then(|number| number.parse().ok()).ok_or(Bad::Line(line))
    }

    #[test]
    fn a_torn_last_line_is_repaired_and_any_other_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let whole = "<1>\n<22>\n";
        for (text, values, repaired) in [
            ("", vec![], ""),
            (whole, vec![1, 22], whole),
            ("<1>\n<22>", vec![1, 22], whole),
            ("<1>\n<22", vec![1], "<1>\n"),
            ("<1>\n<2\n", vec![1], "<1>\n"),
            ("<1>\n\0\0\0\0", vec![1], "<1>\n"),
            ("<1>\n\0\0\n\n", vec![1], "<1>\n"),
            ("<1>\n\r\n\n<22>\r\n", vec![1, 22], "<1>\n\r\n\n<22>\r\n"),
            ("\u{feff}<1>\n", vec![1], "\u{feff}<1>\n"),
            ("<1", vec![], ""),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_log(&path, number).unwrap(), values, "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "reading repairs nothing");
            assert_eq!(open_log(&path, number).unwrap(), values, "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), repaired, "{text:?}");
            append_line(&path, "<3>").unwrap();
            let more: Vec<u32> = values.iter().copied().chain([3]).collect();
            assert_eq!(open_log(&path, number).unwrap(), more, "{text:?}");
        }
        std::fs::write(&path, "<1>\nx\n<3>\n").unwrap();
        assert_eq!(open_log(&path, number), Err(Bad::Line(2)));
        std::fs::remove_file(&path).unwrap();
        assert!(append_line(&path, "<1>").is_err(), "a log that vanished is not made again");
        assert_eq!(open_log(&path, number), Ok(vec![]));
        assert!(path.is_file());
    }
}
