//! The one thing about JPEG that the decoder doesn't tell: whether the file is complete.

const MARKER: u8 = 0xff;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Whether the end-of-image marker follows the start of the pixel data.
///
/// A file that was cut off decodes without an error: what is missing becomes grey, and an edit
/// would keep that. So it is refused, as the official code's decoder refuses it.
///
/// Segments before the pixel data carry their length (ITU T.81, section B.1.1.4) and are skipped:
/// an EXIF thumbnail is a JPEG of its own, with an end of its own.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let Some(scan) = start_of_scan(bytes) else { return false };
    bytes[scan..].windows(2).any(|pair| pair == [MARKER, END_OF_IMAGE])
}

fn start_of_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2; // past the start-of-image marker
    loop {
        let [marker, kind] = *bytes.get(at..)?.first_chunk()?;
        match kind {
            _ if marker != MARKER => return None,
            START_OF_SCAN => return Some(at),
            MARKER => at += 1, // fill byte
            _ => {
                let length = *bytes.get(at + 2..)?.first_chunk()?;
                at += 2 + usize::from(u16::from_be_bytes(length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_after_the_pixels_counts() {
        let start = b"\xff\xd8";
        let thumbnail = b"\xff\xe1\0\x08\xff\xd8\xff\xd9\0\0";
        let scan = b"\xff\xda\0\x04\0\0pixels\xff\0";
        let end = b"\xff\xd9";
        let parts = |parts: &[&[u8]]| parts.concat();
        for (bytes, complete) in [
            (parts(&[start, thumbnail, scan, end]), true),
            (parts(&[start, thumbnail, b"\xff", scan, end]), true), // a fill byte
            (parts(&[start, scan, end, b"trailer"]), true),
            (parts(&[start, thumbnail, scan]), false),
            (parts(&[start, thumbnail]), false),
            (parts(&[start, thumbnail, end]), false),
            (parts(&[start, b"\xff\xe1\xff\xff", scan, end]), false), // a segment past the end
            (parts(&[start, b"noise", scan, end]), false),
            (parts(&[start]), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_complete(&bytes), complete, "{}", bytes.escape_ascii());
        }
    }
}
