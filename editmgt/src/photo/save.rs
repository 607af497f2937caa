use std::io::{self, BufWriter, Cursor, Write};
use std::path::Path;

use editmgt_store::{PendingFile, StoreError};
use image::{ImageError, ImageFormat};

use super::metadata::{Pixels, encode, losses};
use super::{Photo, PhotoError, PhotoNote, PixelSize};

/// Options for writing a photo.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveOptions {
    /// JPEG quality, 1 to 100; 95 by default, which is visually lossless.
    pub jpeg_quality: u8,
    /// Whether to write the photo's [`Metadata`](super::Metadata): colour profile and colours,
    /// camera data (including the location), XMP and print resolution; true by default. Without its
    /// profile a photo in a wide colour space looks pale.
    pub metadata: bool,
    /// Keywords (1 to 79 Latin-1 letters) and texts for a PNG; none by default. Ignored by other
    /// formats.
    pub text: Vec<(String, String)>,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { jpeg_quality: 95, metadata: true, text: Vec::new() }
    }
}

impl SaveOptions {
    /// Replaces the JPEG quality, 1 to 100.
    #[must_use]
    pub fn with_jpeg_quality(self, jpeg_quality: u8) -> Self {
        Self { jpeg_quality, ..self }
    }

    /// Replaces whether the photo's metadata are written.
    #[must_use]
    pub fn with_metadata(self, metadata: bool) -> Self {
        Self { metadata, ..self }
    }

    /// Adds a keyword and a text for a PNG.
    #[must_use]
    pub fn with_text(mut self, text: (String, String)) -> Self {
        self.text.push(text);
        self
    }

    fn check(&self) -> Result<(), PhotoError> {
        if (1..=100).contains(&self.jpeg_quality) {
            Ok(())
        } else {
            Err(PhotoError::Quality { got: self.jpeg_quality })
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputFormat {
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

    fn of_format(format: ImageFormat) -> Result<Self, PhotoError> {
        match format {
            ImageFormat::Png => Ok(Self::Png),
            ImageFormat::Jpeg => Ok(Self::Jpeg),
            ImageFormat::WebP => Ok(Self::WebP),
            ImageFormat::Bmp => Ok(Self::Bmp),
            ImageFormat::Tiff => Ok(Self::Tiff),
            other => Err(PhotoError::UnknownFormat { format: format!("{other:?}") }),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        }
    }

    /// The longest side that the format's header supports, if a photo could exceed it.
    fn longest_side(self) -> Option<(&'static str, usize)> {
        match self {
            Self::Jpeg => Some(("JPEG", 65_535)),
            Self::WebP => Some(("WebP", 16_384)),
            Self::Png | Self::Bmp | Self::Tiff => None,
        }
    }
}

/// Checks, before any work, that a photo of `size` can be written to `path`: the extension is a
/// supported format for that size, the folder exists and is writable, the options are valid. Leaves
/// nothing behind.
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
    /// Writes the photo in the format of the extension: `.png`, `.jpg`/`.jpeg`, `.webp` (lossless),
    /// `.bmp` or `.tif`/`.tiff`.
    ///
    /// The file is written atomically and synced to disk; an existing one is replaced, and
    /// unchanged on failure. Symbolic links are followed. Opacity is written unassociated if the
    /// format supports it (JPEG does not: its colours are written unchanged). PNG, JPEG, WebP and
    /// TIFF support all [`Metadata`](super::Metadata), BMP the colour profile and the resolution; a
    /// PNG's other colour metadata becomes an ICC profile in the other formats.
    /// [`losses`](Self::losses) lists beforehand what would be dropped.
    ///
    /// # Errors
    /// Those of [`check_writable`], [`PhotoError::Write`] and [`PhotoError::Encode`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PhotoError> {
        self.save_with(path, &SaveOptions::default())
    }

    /// [`save`](Self::save) with custom options.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub fn save_with(
        &self,
        path: impl AsRef<Path>,
        options: &SaveOptions,
    ) -> Result<(), PhotoError> {
        let output = Output::check(path.as_ref(), self.size(), options)?;
        let mut file = output.begin()?;
        let mut writer = BufWriter::new(file.as_file_mut());
        let pixels = Pixels { rgb: self.rgb(), alpha: self.alpha() };
        let encoded = encode(pixels, self.metadata(), options, output.format, &mut writer);
        encoded.map_err(|source| match source {
            ImageError::IoError(source) => output.write_error(source),
            source => PhotoError::Encode { path: output.path.to_owned(), cause: source },
        })?;
        writer.flush().map_err(|source| output.write_error(source))?;
        drop(writer);
        file.commit().map_err(|error| output.store_error(error))
    }

    /// The file that [`save`](Self::save) would write, in memory.
    ///
    /// # Errors
    /// [`PhotoError::UnknownFormat`] for a format other than PNG, JPEG, WebP, BMP and TIFF; those
    /// of [`save`](Self::save) for the contents.
    pub fn encode(&self, format: ImageFormat) -> Result<Vec<u8>, PhotoError> {
        self.encode_with(format, &SaveOptions::default())
    }

    /// [`encode`](Self::encode) with custom options.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode).
    pub fn encode_with(
        &self,
        format: ImageFormat,
        options: &SaveOptions,
    ) -> Result<Vec<u8>, PhotoError> {
        options.check()?;
        let format = OutputFormat::of_format(format)?;
        if let Some((format, max)) =
            format.longest_side().filter(|(_, max)| self.size().longer() > *max)
        {
            let path = "memory".into();
            return Err(PhotoError::TooLargeForFormat { path, size: self.size(), format, max });
        }
        let mut bytes = Cursor::new(Vec::new());
        let pixels = Pixels { rgb: self.rgb(), alpha: self.alpha() };
        encode(pixels, self.metadata(), options, format, &mut bytes)
            .map_err(|cause| PhotoError::EncodeBytes { format: format.name(), cause })?;
        Ok(bytes.into_inner())
    }

    /// The data that [`save`](Self::save) to `path` would drop because its format does not support
    /// it: opacity, and with [`SaveOptions::metadata`] anything of [`Metadata`](super::Metadata).
    /// Empty for a name that `save` refuses.
    pub fn losses(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Vec<PhotoNote> {
        let Some(format) = OutputFormat::of(path.as_ref()) else { return Vec::new() };
        losses(self.metadata(), self.alpha().is_some(), options, format)
    }
}

/// A validated output path and format.
struct Output<'a> {
    path: &'a Path,
    format: OutputFormat,
}

impl<'a> Output<'a> {
    fn check(path: &'a Path, size: PixelSize, options: &SaveOptions) -> Result<Self, PhotoError> {
        let owned = || path.to_owned();
        options.check()?;
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

    /// A temporary file beside the output that removes itself unless it is committed.
    fn begin(&self) -> Result<PendingFile, PhotoError> {
        PendingFile::create(self.path).map_err(|error| self.store_error(error))
    }

    fn store_error(&self, error: StoreError) -> PhotoError {
        match error {
            StoreError::Io { cause, .. } => self.write_error(cause),
            StoreError::IsFolder { path } => PhotoError::OutputIsFolder { path },
            StoreError::NoFolder { path, folder } => PhotoError::NoFolder { path, folder },
            other => PhotoError::Store(other),
        }
    }

    fn write_error(&self, source: io::Error) -> PhotoError {
        PhotoError::Write { path: self.path.to_owned(), cause: source }
    }
}

#[cfg(test)]
mod tests;
