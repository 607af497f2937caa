//! Detects images inside values that should not contain any.

/// Values up to this length are too short for an image, in bytes.
const SHORT: usize = 64;
/// Length from which consecutive base64 counts as an image, characters.
const LONG_BASE64: usize = 256;
/// Shortest line of base64, characters: longer than any word of a caption.
const BASE64_LINE: usize = 32;

/// Whether a value of a metadata field contains an image file, as bytes or as base64.
pub(super) fn contains_picture(value: &[u8]) -> bool {
    const STARTS: [&[u8]; 3] = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"WEBPVP8"];
    value.len() > SHORT
        && (STARTS.iter().any(|start| value.windows(start.len()).any(|window| window == *start))
            || contains_long_base64(value))
}

/// Whether a text contains base64 longer than any identifier, in one line or several.
pub(super) fn contains_long_base64(text: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
    let mut length = 0;
    // Line ends may be written as XML references, `&#xA;`.
    for line in text.split(|byte| byte.is_ascii_whitespace() || b"&;\0".contains(byte)) {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let run = line.split(|byte| !is_base64(byte)).map(<[u8]>::len).max().unwrap_or(0);
        length = if run >= BASE64_LINE { length + run } else { 0 };
        if length >= LONG_BASE64 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_images_as_bytes_and_as_base64() {
        let filler = [b'.'; 100];
        for (value, expected) in [
            ([&filler[..], b"\xff\xd8\xff\xe0"].concat(), true),
            ([&filler[..], b"\x89PNG\r\n\x1a\n"].concat(), true),
            (b"\xff\xd8\xff\xe0".to_vec(), false),
            (vec![b'A'; 255], false),
            (vec![b'A'; 256], true),
            (format!("{}\n", "/9j/4AAQSkZJRgABAQEASABIAAD".repeat(3)).repeat(6).into_bytes(), true),
            ("/9j/4AAQSkZJRgABAQEASABIAADabcdefghij&#xA;".repeat(9).into_bytes(), true),
            ("A caption in many plain words without a stop ".repeat(40).into_bytes(), false),
        ] {
            let text = value.escape_ascii();
            assert_eq!(contains_picture(&value), expected, "{text}");
        }
    }
}
