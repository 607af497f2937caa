use std::io::{self, BufWriter, Write};
use std::path::Path;

use editmgt_store::{PendingFile, StoreError};
use image::codecs::{bmp::BmpEncoder, jpeg::JpegEncoder, tiff::TiffEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageResult};

use super::png_text::PngTextEncoder;
use super::{Photo, PhotoError, PixelSize};

/// How to write a photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveOptions {
    /// JPEG quality, 1 to 100; 95 by default, where a re-compressed photo still looks the same.
    pub jpeg_quality: u8,
    /// Whether to write the colour profile and the camera data that came with the photo; yes by
    /// default. Without its profile a photo in a wide colour space looks pale.
    pub metadata: bool,
    /// Keywords (1 to 79 Latin-1 letters) and texts that go into a PNG; none by default. The other
    /// formats have no place for them.
    pub text: Vec<(String, String)>,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { jpeg_quality: 95, metadata: true, text: Vec::new() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputFormat {
    Png,
    Jpeg,
    WebP,
    Bmp,
    Tiff,
}

impl OutputFormat {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            "bmp" => Some(Self::Bmp),
            "tif" | "tiff" => Some(Self::Tiff),
            _ => None,
        }
    }

    /// The longest side that the format's header can say, where a photo could exceed it.
    fn longest_side(self) -> Option<(&'static str, usize)> {
        match self {
            Self::Jpeg => Some(("JPEG", 65_535)),
            Self::WebP => Some(("WebP", 16_384)),
            Self::Png | Self::Bmp | Self::Tiff => None,
        }
    }
}

/// Checks, before any work, that a photo of `size` can be written to `path`: the extension names a
/// format that has room for it, the folder is there and can be written to, the options are valid.
/// Leaves nothing behind.
///
/// # Errors
/// [`PhotoError`] with what is wrong.
pub fn check_writable(
    path: impl AsRef<Path>,
    size: PixelSize,
    options: &SaveOptions,
) -> Result<(), PhotoError> {
    Output::check(path.as_ref(), size, options)?.begin().map(drop)
}

impl Photo {
    /// Writes the photo in the format of the name's extension: `.png`, `.jpg`/`.jpeg`, `.webp`
    /// (lossless), `.bmp` or `.tif`/`.tiff`.
    ///
    /// The file appears under its name only when it is complete and on the disk; an existing one is
    /// replaced, and stays untouched when anything fails. A symbolic link is written through. Transparency is written where the format has it
    /// (JPEG has not: the colours below are written as they are). The colour profile is written to
    /// PNG, JPEG, WebP and TIFF, camera data to PNG, JPEG and WebP.
    ///
    /// # Errors
    /// Those of [`check_writable`], [`PhotoError::Write`] and [`PhotoError::Encode`].
    pub fn save(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Result<(), PhotoError> {
        let output = Output::check(path.as_ref(), self.size(), options)?;
        let mut file = output.begin()?;
        let mut writer = BufWriter::new(file.as_file_mut());
        self.encode(output.format, &mut writer, options).map_err(|source| match source {
            ImageError::IoError(source) => output.write_error(source),
            source => PhotoError::Encode { path: output.path.to_owned(), source },
        })?;
        writer.flush().map_err(|source| output.write_error(source))?;
        drop(writer);
        file.commit().map_err(|error| output.store_error(error))
    }

    fn encode(
        &self,
        format: OutputFormat,
        writer: &mut (impl Write + io::Seek),
        options: &SaveOptions,
    ) -> ImageResult<()> {
        match format {
            OutputFormat::Png => {
                self.encode_with(PngTextEncoder::new(writer, &options.text), options)
            }
            OutputFormat::Jpeg => {
                let encoder = JpegEncoder::new_with_quality(writer, options.jpeg_quality);
                self.encode_rgb(encoder, options)
            }
            OutputFormat::WebP => self.encode_with(WebPEncoder::new_lossless(writer), options),
            OutputFormat::Bmp => self.encode_with(BmpEncoder::new(writer), options),
            OutputFormat::Tiff => self.encode_with(TiffEncoder::new(writer), options),
        }
    }

    fn encode_with(
        &self,
        mut encoder: impl ImageEncoder,
        options: &SaveOptions,
    ) -> ImageResult<()> {
        let Some(alpha) = self.alpha() else { return self.encode_rgb(encoder, options) };
        self.attach_metadata(&mut encoder, options);
        let mut rgba = Vec::with_capacity(4 * alpha.len());
        for (colour, opacity) in self.rgb().pixels().zip(alpha.iter()) {
            rgba.extend_from_slice(&colour.0);
            rgba.push(*opacity);
        }
        let (width, height) = alpha.dimensions();
        encoder.write_image(&rgba, width, height, ExtendedColorType::Rgba8)
    }

    fn encode_rgb(&self, mut encoder: impl ImageEncoder, options: &SaveOptions) -> ImageResult<()> {
        self.attach_metadata(&mut encoder, options);
        let (width, height) = self.rgb().dimensions();
        encoder.write_image(self.rgb(), width, height, ExtendedColorType::Rgb8)
    }

    /// Hands over what the format can hold. A format that can't is no reason to fail.
    fn attach_metadata(&self, encoder: &mut impl ImageEncoder, options: &SaveOptions) {
        if !options.metadata {
            return;
        }
        let metadata = self.metadata();
        if let Some(profile) = &metadata.icc_profile {
            let _unsupported = encoder.set_icc_profile(profile.clone());
        }
        if let Some(exif) = metadata.exif.as_ref().filter(|exif| exif.len() <= MAX_EXIF) {
            let _unsupported = encoder.set_exif_metadata(exif.clone());
        }
    }
}

/// EXIF must fit one JPEG segment of 65,535 bytes, with its length and its prefix of 6 bytes. The
/// other formats could hold more, but EXIF comes from JPEG, so more is damaged.
const MAX_EXIF: usize = 65_535 - 2 - 6;

/// A place to write to that has been checked.
struct Output<'a> {
    path: &'a Path,
    format: OutputFormat,
}

impl<'a> Output<'a> {
    fn check(path: &'a Path, size: PixelSize, options: &SaveOptions) -> Result<Self, PhotoError> {
        let owned = || path.to_owned();
        if !(1..=100).contains(&options.jpeg_quality) {
            return Err(PhotoError::Quality { got: options.jpeg_quality });
        }
        if path.is_dir() {
            return Err(PhotoError::OutputIsFolder { path: owned() });
        }
        let format =
            OutputFormat::of(path).ok_or_else(|| PhotoError::UnknownExtension { path: owned() })?;
        if let Some((format, max)) = format.longest_side().filter(|(_, max)| size.longer() > *max) {
            return Err(PhotoError::TooLargeForFormat { path: owned(), size, format, max });
        }
        Ok(Self { path, format })
    }

    /// A file beside the output that removes itself unless it takes the output's name.
    fn begin(&self) -> Result<PendingFile, PhotoError> {
        PendingFile::create(self.path).map_err(|error| self.store_error(error))
    }

    fn store_error(&self, error: StoreError) -> PhotoError {
        match error {
            StoreError::Io { source, .. } => self.write_error(source),
            StoreError::IsFolder { path } => PhotoError::OutputIsFolder { path },
            StoreError::NoFolder { path, folder } => PhotoError::NoFolder { path, folder },
            other => PhotoError::Store(other),
        }
    }

    fn write_error(&self, source: io::Error) -> PhotoError {
        PhotoError::Write { path: self.path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
