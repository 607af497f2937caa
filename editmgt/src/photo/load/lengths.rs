//! Validates the lengths claimed by a file before a decoder allocates memory for them.

use image::ImageFormat;

use super::tiff_tags::TiffTags;

/// Checks the lengths of the chunks, tags and profiles of a file.
///
/// # Errors
/// The length that exceeds the file.
pub(super) fn check(bytes: &[u8], format: ImageFormat) -> Result<(), String> {
    match format {
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Tiff => TiffTags::read(bytes).map(drop),
        ImageFormat::Bmp => bmp(bytes),
        // The decoders of PNG, JPEG and GIF read chunk by chunk.
        _ => Ok(()),
    }
}

/// A RIFF file is a list of chunks: four letters, a length, and as many bytes, padded to an even
/// count.
fn webp(bytes: &[u8]) -> Result<(), String> {
    chunks(bytes, 12) // past "RIFF", a length and "WEBP"
}

fn chunks(bytes: &[u8], start: usize) -> Result<(), String> {
    let mut at = start;
    while let Some(header) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let [a, b, c, d, length @ ..] = *header;
        let length = u64::from(u32::from_le_bytes(length));
        let left = (bytes.len() - at - 8) as u64;
        if length > left {
            let name = [a, b, c, d].escape_ascii().to_string();
            return Err(format!("chunk {name:?} claims {length} bytes of {left} that are left"));
        }
        if [a, b, c, d] == *b"ANMF" && start == 12 {
            // A frame: a header of 16 bytes, then chunks.
            chunks(&bytes[at + 8..at + 8 + length as usize], 16)?;
        }
        at += 8 + (length + length % 2) as usize;
    }
    Ok(())
}

/// The header of version 5 has the offset of a colour profile.
fn bmp(bytes: &[u8]) -> Result<(), String> {
    let word = |at: usize| {
        bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|&word| u32::from_le_bytes(word))
    };
    let (Some(124..), Some(offset), Some(length)) = (word(14), word(126), word(130)) else {
        return Ok(());
    };
    let end = 14 + u64::from(offset) + u64::from(length);
    if length > 0 && end > bytes.len() as u64 {
        Err(format!("the colour profile claims {length} bytes up to {end}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_chunk_longer_than_the_file() {
        let file = |length: u32, body: &[u8]| {
            [b"RIFF\0\0\0\0WEBPICCP", &length.to_le_bytes()[..], body].concat()
        };
        assert_eq!(check(&file(4, b"abcd"), ImageFormat::WebP), Ok(()));
        assert_eq!(check(&file(3, b"abc"), ImageFormat::WebP), Ok(()), "without its padding");
        let frame = |inner: u32| {
            let body = [&[0; 16][..], b"ICCP", &inner.to_le_bytes(), b"abcd"].concat();
            [b"RIFF\0\0\0\0WEBPANMF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
        };
        assert_eq!(check(&frame(4), ImageFormat::WebP), Ok(()));
        assert!(check(&frame(1 << 30), ImageFormat::WebP).is_err(), "a chunk of a frame");
        for length in [5, 1 << 30, u32::MAX] {
            assert!(check(&file(length, b"abcd"), ImageFormat::WebP).is_err(), "{length}");
        }
    }

    #[test]
    fn a_profile_beyond_the_end_of_a_bmp_is_refused() {
        let mut file = vec![0; 14 + 124 + 10];
        file[14] = 124;
        file[126..130].copy_from_slice(&124_u32.to_le_bytes());
        for (length, fine) in [(0, true), (10, true), (11, false), (u32::MAX, false)] {
            file[130..134].copy_from_slice(&length.to_le_bytes());
            assert_eq!(check(&file, ImageFormat::Bmp).is_ok(), fine, "{length}");
        }
    }
}
