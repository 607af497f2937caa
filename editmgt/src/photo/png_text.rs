//! PNG with text beside the pixels, which `image` neither writes nor reads.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use image::error::{EncodingError, ImageFormatHint, UnsupportedError, UnsupportedErrorKind};
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageFormat, ImageResult};
use png::{BitDepth, ColorType, Encoder, Info};

use super::PhotoError;

/// Longest text that is read, bytes: a compressed one may claim anything.
const MAX_TEXT: usize = 1 << 20;

/// Writes what `image`'s own encoder writes, and text chunks (iTXt, so any Unicode) before the
/// pixels.
pub(super) struct PngTextEncoder<'a, W> {
    writer: W,
    text: &'a [(String, String)],
    icc_profile: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
}

impl<'a, W: Write> PngTextEncoder<'a, W> {
    pub(super) fn new(writer: W, text: &'a [(String, String)]) -> Self {
        Self { writer, text, icc_profile: None, exif: None }
    }

    fn write(self, pixels: &[u8], mut info: Info<'_>) -> Result<(), png::EncodingError> {
        info.bit_depth = BitDepth::Eight;
        info.icc_profile = self.icc_profile.map(Cow::Owned);
        info.exif_metadata = self.exif.map(Cow::Owned);
        let mut encoder = Encoder::with_info(self.writer, info)?;
        for (keyword, text) in self.text {
            encoder.add_itxt_chunk(keyword.clone(), text.clone())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        writer.finish()
    }
}

impl<W: Write> ImageEncoder for PngTextEncoder<'_, W> {
    fn write_image(
        self,
        pixels: &[u8],
        width: u32,
        height: u32,
        colour: ExtendedColorType,
    ) -> ImageResult<()> {
        let mut info = Info::with_size(width, height);
        info.color_type = match colour {
            ExtendedColorType::Rgb8 => ColorType::Rgb,
            ExtendedColorType::Rgba8 => ColorType::Rgba,
            other => {
                let kind = UnsupportedErrorKind::Color(other);
                let error = UnsupportedError::from_format_and_kind(format(), kind);
                return Err(ImageError::Unsupported(error));
            }
        };
        self.write(pixels, info).map_err(|error| match error {
            png::EncodingError::IoError(error) => ImageError::IoError(error),
            error => ImageError::Encoding(EncodingError::new(format(), error)),
        })
    }

    fn set_icc_profile(&mut self, profile: Vec<u8>) -> Result<(), UnsupportedError> {
        self.icc_profile = Some(profile);
        Ok(())
    }

    fn set_exif_metadata(&mut self, exif: Vec<u8>) -> Result<(), UnsupportedError> {
        self.exif = Some(exif);
        Ok(())
    }
}

fn format() -> ImageFormatHint {
    ImageFormatHint::Exact(ImageFormat::Png)
}

/// The text of this keyword in a PNG file, wherever in it; `None` where it has none.
///
/// # Errors
/// [`PhotoError::Read`], and [`PhotoError::NoText`] for a file that is no PNG or is damaged.
pub(crate) fn read_text(path: &Path, keyword: &str) -> Result<Option<String>, PhotoError> {
    let file =
        File::open(path).map_err(|source| PhotoError::Read { path: path.to_owned(), source })?;
    let error = |source| PhotoError::NoText { path: path.to_owned(), source };
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(error)?;
    if find(&reader, keyword).map_err(error)?.is_none() {
        // Other programs move text behind the pixels.
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
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::RgbImage;

    use super::*;

    fn png(text: &[(String, String)]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = RgbImage::from_pixel(9, 7, image::Rgb([1, 2, 3]));
        PngTextEncoder::new(&mut bytes, text)
            .write_image(&image, 9, 7, ExtendedColorType::Rgb8)
            .unwrap();
        bytes.into_inner()
    }

    fn text_of(bytes: &[u8], keyword: &str) -> Result<Option<String>, PhotoError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        std::fs::write(&path, bytes).unwrap();
        read_text(&path, keyword)
    }

    #[test]
    fn text_comes_back_and_the_pixels_too() {
        let text = [("editmgt", "{\"ü\": \"🦊\"}"), ("other", "")];
        let text = text.map(|(keyword, text)| (keyword.to_owned(), text.to_owned()));
        let bytes = png(&text);
        for (keyword, expected) in [("editmgt", Some(&text[0].1)), ("other", Some(&text[1].1))] {
            assert_eq!(text_of(&bytes, keyword).unwrap().as_ref(), expected);
        }
        assert_eq!(text_of(&bytes, "none").unwrap(), None);
        let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert!(image.dimensions() == (9, 7) && image.pixels().all(|p| p.0 == [1, 2, 3]));
        // Behind the pixels, and compressed.
        let mut info = Info::with_size(1, 1);
        info.color_type = ColorType::Grayscale;
        let mut late = Vec::new();
        let mut writer = Encoder::with_info(&mut late, info).unwrap().write_header().unwrap();
        writer.write_image_data(&[0]).unwrap();
        let mut chunk = png::text_metadata::ITXtChunk::new("editmgt", "late");
        chunk.compressed = true;
        chunk.compress_text().unwrap();
        writer.write_text_chunk(&chunk).unwrap();
        writer.finish().unwrap();
        assert_eq!(text_of(&late, "editmgt").unwrap().as_deref(), Some("late"));
    }

    #[test]
    fn what_is_no_whole_png_has_no_text() {
        let bytes = png(&[]);
        for bytes in [&bytes[..40], b"hello", b""] {
            let error = text_of(bytes, "editmgt").unwrap_err();
            assert!(matches!(error, PhotoError::NoText { .. }), "{error}");
        }
    }

    #[test]
    fn a_text_that_unpacks_to_more_than_the_limit_is_refused() {
        let mut chunk = png::text_metadata::ITXtChunk::new("editmgt", " ".repeat(MAX_TEXT + 1));
        chunk.compressed = true;
        chunk.compress_text().unwrap();
        let mut bytes = Vec::new();
        let mut writer = Encoder::new(&mut bytes, 1, 1).write_header().unwrap();
        writer.write_text_chunk(&chunk).unwrap();
        writer.write_image_data(&[0]).unwrap();
        writer.finish().unwrap();
        assert!(text_of(&bytes, "editmgt").is_err());
    }
}
