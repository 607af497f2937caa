//! Text chunks of PNG files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::PhotoError;

/// Longest unpacked text in bytes, against decompression bombs.
const MAX_TEXT: usize = 1 << 20;

/// The text of this keyword in a PNG file, at any position and in any kind of chunk (iTXt, tEXt,
/// zTXt); `None` if there is none.
///
/// # Errors
/// [`PhotoError::Read`], and [`PhotoError::NoText`] for a file that is damaged or not a PNG.
pub(crate) fn read_text(path: &Path, keyword: &str) -> Result<Option<String>, PhotoError> {
    let file =
        File::open(path).map_err(|cause| PhotoError::Read { path: path.to_owned(), cause })?;
    let error = |cause| PhotoError::NoText { path: path.to_owned(), cause };
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(error)?;
    if find(&reader, keyword).map_err(error)?.is_none() {
        // Other programs move text after the pixels.
        reader.finish().map_err(error)?;
    }
    find(&reader, keyword).map_err(error)
}

fn find(
    reader: &png::Reader<BufReader<File>>,
    keyword: &str,
) -> Result<Option<String>, png::DecodingError> {
    let info = reader.info();
    if let Some(chunk) = info.utf8_text.iter().find(|chunk| chunk.keyword == keyword) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_TEXT)?;
        return chunk.get_text().map(Some);
    }
    // Other programs write Latin-1 chunks instead, plain or compressed.
    if let Some(chunk) = info.uncompressed_latin1_text.iter().find(|c| c.keyword == keyword) {
        return Ok(Some(as_utf8(chunk.text.clone())));
    }
    if let Some(chunk) = info.compressed_latin1_text.iter().find(|c| c.keyword == keyword) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(MAX_TEXT)?;
        return chunk.get_text().map(as_utf8).map(Some);
    }
    Ok(None)
}

/// Undoes UTF-8 decoded as Latin-1: programs that move a text into a Latin-1 chunk often copy its
/// bytes. Real Latin-1 text is hardly ever valid UTF-8, and is kept.
fn as_utf8(text: String) -> String {
    let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(letter).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use png::text_metadata::{ITXtChunk, TEXtChunk, ZTXtChunk};
    use png::{ColorType, Encoder, Info};

    use super::*;
    use crate::photo::{Photo, SaveOptions};

    fn png(text: &[(String, String)]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let image = RgbImage::from_pixel(9, 8, image::Rgb([1, 2, 3]));
        let options = SaveOptions { text: text.to_vec(), ..SaveOptions::default() };
        Photo::from_rgb(image).unwrap().save_with(&path, &options).unwrap();
        std::fs::read(path).unwrap()
    }

    fn text_of(bytes: &[u8], keyword: &str) -> Result<Option<String>, PhotoError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        std::fs::write(&path, bytes).unwrap();
        read_text(&path, keyword)
    }

    /// A PNG of one pixel with a chunk before or after it.
    fn png_with(chunk: &impl png::text_metadata::EncodableTextChunk, late: bool) -> Vec<u8> {
        let mut info = Info::with_size(1, 1);
        info.color_type = ColorType::Grayscale;
        let mut bytes = Vec::new();
        let mut writer = Encoder::with_info(&mut bytes, info).unwrap().write_header().unwrap();
        if !late {
            writer.write_text_chunk(chunk).unwrap();
        }
        writer.write_image_data(&[0]).unwrap();
        if late {
            writer.write_text_chunk(chunk).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn text_and_pixels_round_trip() {
        let text = [("editmgt", "{\"ü\": \"🦊\"}"), ("other", "")];
        let text = text.map(|(keyword, text)| (keyword.to_owned(), text.to_owned()));
        let bytes = png(&text);
        for (keyword, expected) in [("editmgt", Some(&text[0].1)), ("other", Some(&text[1].1))] {
            assert_eq!(text_of(&bytes, keyword).unwrap().as_ref(), expected);
        }
        assert_eq!(text_of(&bytes, "none").unwrap(), None);
        let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert!(image.dimensions() == (9, 8) && image.pixels().all(|p| p.0 == [1, 2, 3]));
    }

    #[test]
    fn reads_every_kind_of_text_chunk_before_and_behind_the_pixels() {
        // The output of a program that copies UTF-8 bytes into a Latin-1 chunk.
        let copied = |text: &str| text.bytes().map(char::from).collect::<String>();
        for late in [false, true] {
            let mut compressed = ITXtChunk::new("editmgt", "ü🦊");
            compressed.compressed = true;
            compressed.compress_text().unwrap();
            for (bytes, expected) in [
                (png_with(&compressed, late), "ü🦊"),
                (png_with(&TEXtChunk::new("editmgt", "fox"), late), "fox"),
                (png_with(&TEXtChunk::new("editmgt", "für"), late), "für"),
                (png_with(&TEXtChunk::new("editmgt", copied("ü🦊")), late), "ü🦊"),
                (png_with(&ZTXtChunk::new("editmgt", "für"), late), "für"),
                (png_with(&ZTXtChunk::new("editmgt", copied("ü🦊")), late), "ü🦊"),
            ] {
                assert_eq!(text_of(&bytes, "editmgt").unwrap().as_deref(), Some(expected));
            }
        }
    }

    #[test]
    fn damaged_png_has_no_text() {
        let bytes = png(&[]);
        for bytes in [&bytes[..40], b"hello", b""] {
            let error = text_of(bytes, "editmgt").unwrap_err();
            assert!(matches!(error, PhotoError::NoText { .. }), "{error}");
        }
    }

    #[test]
    fn a_text_that_unpacks_to_more_than_the_limit_is_refused() {
        let long = " ".repeat(MAX_TEXT + 1);
        let mut chunk = ITXtChunk::new("editmgt", long.clone());
        chunk.compressed = true;
        chunk.compress_text().unwrap();
        assert!(text_of(&png_with(&chunk, false), "editmgt").is_err());
        let chunk = ZTXtChunk::new("editmgt", long);
        assert!(text_of(&png_with(&chunk, false), "editmgt").is_err());
    }
}
